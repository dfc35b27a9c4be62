//! `/v1/status`: who leads, since when and why, what is wrong and what to do.
//!
//! A pure picture of what is agreed and reported; made the same way on every
//! agent, from that agent's knowledge.

use std::collections::BTreeMap;

use cluster::command::{Kind, Member, MemberState};
use cluster::report::{Report, ServerState};
use cluster::state::Phase;
use cluster::{ClusterState, Durability, Lsn, MemberId, NodeId};
use serde::{Deserialize, Serialize};

use crate::problems::{one_copy, problems, stall};
use crate::verbs::Problem;

pub use crate::routes::REPORT_AGE_MS_MAX;

/// The document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Name of the cluster.
    pub cluster: String,
    /// The current term.
    pub term: u64,
    /// Counts the changes of what is agreed: of two documents the higher is newer.
    pub revision: u64,
    /// `open`, `elected` or `revoking`.
    pub phase: String,
    /// Who leads (while revoking: nobody).
    pub leader: Option<String>,
    /// Since when the phase lasts, Unix milliseconds.
    pub since_ms: u64,
    /// Why the current term began, in one sentence.
    pub why: String,
    /// Whether the leader takes writes, and standbys enough reply that commits are
    /// acknowledged.
    pub writable: bool,
    /// What an acknowledgement promises.
    pub durability: String,
    /// The commit rule in force; while it changes, the weaker of the two.
    pub sync: Sync,
    /// Commits wait for nobody although the mode says otherwise when it can.
    pub degraded: bool,
    /// Automatic failover is off.
    pub paused: bool,
    /// A planned switchover: to whom, if named.
    pub switchover: Option<String>,
    /// What the answering agent waits for, in words.
    pub waiting: Option<String>,
    /// Everybody.
    pub members: Vec<MemberStatus>,
    /// What is wrong now, and what to do.
    pub problems: Vec<Problem>,
}

/// A commit rule, as people say it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    /// Who may acknowledge.
    pub names: Vec<String>,
    /// How many must.
    pub acks: u32,
}

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// `leader`, `standby`, `witness`, or `wal-witness` for one that keeps WAL.
    pub role: String,
    /// What it is doing.
    pub state: String,
    /// The timeline its server is on.
    pub timeline: u32,
    /// End of its WAL.
    pub lsn: String,
    /// How much of the leader's WAL it lacks; `None` while that can't be told.
    pub lag_bytes: Option<u64>,
    /// How old what it shows is; `None` while that can't be told.
    pub replay_lag_ms: Option<u64>,
    /// Whether it may acknowledge commits.
    pub sync: bool,
    /// Where it is.
    pub api: String,
    /// Where its PostgreSQL is.
    pub postgres: String,
    /// Long work, in words.
    pub progress: Option<String>,
    /// Its standing, as agreed; `rebuild` while it is rewound or cloned, which `state` tells apart.
    pub standing: String,
    /// What is wrong with its server, in words.
    pub trouble: Option<String>,
    /// What it may do.
    pub tags: BTreeMap<String, String>,
}

/// The picture of one agent, whose own report is among `reports` with age 0.
#[must_use]
pub fn status(
    state: &ClusterState,
    reports: &BTreeMap<NodeId, (Report, u64)>,
    waiting: Option<String>,
) -> Status {
    let fresh = |n: &NodeId| reports.get(n).filter(|(_, age)| *age < REPORT_AGE_MS_MAX).map(|(r, _)| r);
    let leader = state.ctl.leader.as_ref().filter(|_| state.ctl.phase != Phase::Revoking);
    let leads = leader.and_then(|l| fresh(&l.node)).and_then(|r| r.leading.as_ref());
    let open = state.ctl.phase == Phase::Open && leads.is_some_and(|l| l.writable);
    let stalled = leads.filter(|_| open).and_then(|l| stall(state, l));
    let writable = open && stalled.is_none();
    let end = leads.map(|l| l.end);
    // While one rule replaces another a commit may have obeyed either: what
    // holds is the weaker one.
    // Until somebody is elected, those of the term before bind.
    let own = state.own_rules().map(|r| &r.rule).min_by_key(|r| r.acks());
    let rule = own.or_else(|| state.rules.iter().map(|r| &r.rule).min_by_key(|r| r.acks())).cloned();
    let names = rule.iter().flat_map(|r| r.standbys()).map(|m| m.node.to_string()).collect();
    let acks = rule.as_ref().map_or(0, cluster::Rule::acks);
    let present = state.members.iter().filter(|(_, m)| m.state != MemberState::Removed);
    let members: Vec<MemberStatus> = present.map(|(n, m)| member(state, n, m, fresh(n), end)).collect();
    let several = members.iter().filter(|m| !m.role.ends_with("witness")).count() > 1;
    let lonely = acks == 0 && state.settings.durability != Durability::Async && several;
    // WAL without a base is no second copy ((g), C-15).
    let data = |m: &MemberId| state.member(m).is_some_and(|m| m.kind == Kind::Data);
    let baseless = acks > 0 && several && !rule.iter().flat_map(|r| r.standbys()).any(data);
    let mut problems = problems(state, (open, leads.is_some()), lonely, &members);
    problems.extend(stalled);
    problems.extend(baseless.then(one_copy));
    Status {
        cluster: state.cluster.clone(),
        term: state.ctl.term.0,
        revision: state.revision,
        phase: phase(state.ctl.phase).to_string(),
        leader: leader.map(|l| l.node.to_string()),
        since_ms: state.ctl.since_ms,
        why: why(state),
        writable,
        durability: state.settings.durability.to_string(),
        sync: Sync { names, acks },
        degraded: lonely || baseless,
        paused: state.ctl.paused,
        switchover: state
            .ctl
            .target
            .as_ref()
            .map(|t| t.to.as_ref().map_or("anybody".to_string(), ToString::to_string)),
        waiting,
        members,
        problems,
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Open => "open",
        Phase::Elected => "elected",
        Phase::Revoking => "revoking",
    }
}

/// Why the current term is led as it is: its newest telling event.
fn why(state: &ClusterState) -> String {
    use cluster::Reason as R;
    let telling = |r: &R| matches!(r, R::Claimed { .. } | R::TermBegan { .. } | R::Elected { .. });
    let mine = state.history.iter().filter(|e| e.term == state.ctl.term && telling(&e.reason));
    let all: Vec<String> = mine.map(|e| e.reason.to_string()).collect();
    all.join("; ")
}

fn member(
    state: &ClusterState,
    node: &NodeId,
    m: &Member,
    report: Option<&Report>,
    end: Option<Lsn>,
) -> MemberStatus {
    let id = MemberId::new(node.clone(), m.incarnation);
    let leads = state.ctl.leader.as_ref() == Some(&id) && state.ctl.phase != Phase::Revoking;
    let server = report.and_then(|r| r.server.as_ref());
    let role = match m.kind {
        Kind::Witness => "witness",
        Kind::WalWitness => "wal-witness",
        Kind::Data if leads => "leader",
        Kind::Data => "standby",
    };
    let progress = report.and_then(|r| r.progress.as_ref());
    let in_words = progress.map(|p| match p.percent {
        Some(percent) => format!("{} {percent} %: {}", p.what, p.detail),
        None => format!("{}: {}", p.what, p.detail),
    });
    let mut tags = BTreeMap::new();
    if m.tags.no_failover {
        tags.insert("no_failover".to_string(), "true".to_string());
    }
    if m.tags.priority != 0 {
        tags.insert("priority".to_string(), m.tags.priority.to_string());
    }
    if !m.tags.zone.is_empty() {
        tags.insert("zone".to_string(), m.tags.zone.clone());
    }
    MemberStatus {
        name: node.to_string(),
        role: role.to_string(),
        state: doing(m, report, leads).to_string(),
        timeline: server.map_or(0, |s| s.lineage.timeline.0),
        lsn: server.map_or(Lsn::ZERO, |s| s.end).to_string(),
        lag_bytes: if leads { Some(0) } else { end.zip(server).map(|(end, s)| end.bytes_past(s.end)) },
        replay_lag_ms: if leads { Some(0) } else { end.and(server).map(|s| s.replay_lag_ms) },
        sync: state.own_rules().all(|r| r.rule.names(&id)) && state.own_rules().next().is_some(),
        api: m.addresses.api.clone(),
        postgres: m.addresses.postgres.clone(),
        progress: in_words,
        standing: standing(&m.state).to_string(),
        trouble: server.and_then(|s| s.trouble.clone()),
        tags,
    }
}

fn standing(state: &MemberState) -> &'static str {
    match state {
        MemberState::Registered => "registered",
        MemberState::Clone => "rebuild",
        MemberState::Catchup => "catch-up",
        MemberState::Voter => "voter",
        MemberState::Removed => "removed",
        MemberState::Quarantined { .. } => "quarantined",
        MemberState::WrittenOff => "written-off",
    }
}

fn doing(m: &Member, report: Option<&Report>, leads: bool) -> &'static str {
    if matches!(m.state, MemberState::Quarantined { .. } | MemberState::WrittenOff) {
        return "quarantined";
    }
    let Some(report) = report else { return "unreachable" };
    match report.progress.as_ref().map(|p| p.what.as_str()) {
        Some("clone") => return "cloning",
        Some("rewind") => return "rewinding",
        Some(_) | None => {}
    }
    let Some(server) = &report.server else { return "running" };
    match server.state {
        ServerState::Empty if m.state == MemberState::Clone => "cloning",
        ServerState::Empty | ServerState::Down => "stopped",
        ServerState::Primary if leads => "running",
        ServerState::Starting | ServerState::Primary | ServerState::Promoting => "catching-up",
        ServerState::Standby if server.streaming.is_some() && m.state == MemberState::Voter => "streaming",
        ServerState::Standby => "catching-up",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::report::{Leading, StandbyProgress};
    use cluster::{ActiveRule, Rule, Term};
    use std::collections::BTreeSet;

    fn id(name: &str) -> MemberId {
        MemberId::new(NodeId::new(name).unwrap(), 1)
    }

    /// What status says where n1 leads, commits wait for one of n2 and n3, and these replied
    /// so many milliseconds ago.
    fn said(replies: &[(&str, u64)]) -> Status {
        let rule = Rule::new(BTreeSet::from([id("n2"), id("n3")]), 1).unwrap();
        let mut state = ClusterState::default();
        (state.ctl.term, state.ctl.phase, state.ctl.leader) = (Term(1), Phase::Open, Some(id("n1")));
        let mode = state.settings.durability;
        state.rules.push(ActiveRule { term: Term(1), leader: id("n1"), sub: 1, rule, mode });
        let row = |(name, reply_age_ms): &(&str, u64)| StandbyProgress {
            member: id(name),
            streaming: true,
            sent: Lsn::ZERO,
            write: Lsn::ZERO,
            flush: Lsn::ZERO,
            replay: Lsn::ZERO,
            reply_age_ms: *reply_age_ms,
            replay_lag_ms: 0,
        };
        let standbys = replies.iter().map(row).collect();
        let leading = Leading { writable: true, standbys, ..Leading::default() };
        let report = Report { leading: Some(leading), ..Report::first(id("n1")) };
        status(&state, &BTreeMap::from([(id("n1").node, (report, 0))]), None)
    }

    #[test]
    fn while_a_leader_is_chosen_the_rule_is_that_of_the_term_before() {
        let rule = Rule::new(BTreeSet::from([id("n2"), id("n3")]), 1).unwrap();
        let mut state = ClusterState::default();
        (state.ctl.term, state.ctl.phase) = (Term(2), Phase::Revoking);
        let mode = state.settings.durability;
        state.rules.push(ActiveRule { term: Term(1), leader: id("n1"), sub: 1, rule, mode });
        let said = status(&state, &BTreeMap::new(), None);
        assert_eq!((said.sync.acks, said.degraded), (1, false));
    }

    #[test]
    fn a_leader_whose_commits_nobody_acknowledges_is_not_writable() {
        let code = |s: &Status| s.problems.first().map(|p| p.code.clone());
        let well = said(&[("n2", 900), ("n3", 9_000)]);
        assert!(well.writable && code(&well).is_none(), "{well:?}");
        for stalled in [said(&[]), said(&[("n2", 9_000)])] {
            assert!(!stalled.writable, "{stalled:?}");
            assert_eq!(code(&stalled).as_deref(), Some("TAN0626"));
            assert!(stalled.problems[0].what.contains("1 more of n2, n3"), "{:?}", stalled.problems);
        }
    }
}
