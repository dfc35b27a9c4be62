//! What is wrong now, and what to do: the problems in `status`.

use cluster::report::Leading;
use cluster::state::Phase;
use cluster::{ClusterState, MemberId, Rule};

use crate::status::MemberStatus;
use crate::verbs::Problem;

/// WAL without a base is no second copy ((g), C-15).
pub(crate) fn one_copy() -> Problem {
    Problem {
        code: "TAN0622".to_string(),
        what: "commits wait for a witness alone: its WAL keeps them, and the database has one copy"
            .to_string(),
        advice: "bring a standby back; it acknowledges again by itself".to_string(),
    }
}

/// Commits that nobody acknowledges: the leader is up, and too few of its rule's standbys reply.
pub(crate) fn stall(state: &ClusterState, leads: &Leading) -> Option<Problem> {
    let replies = |m: &&MemberId| leads.hears(m, state.settings.timing.shrink_ms);
    let acked = |r: &Rule| r.is_acked_by(r.standbys().iter().filter(replies));
    let newest = state.newest_rule().filter(|_| !state.own_rules().any(|r| acked(&r.rule)))?;
    let missing = newest.rule.standbys().iter().filter(|m| !replies(m));
    let missing: Vec<String> = missing.map(|m| m.node.to_string()).collect();
    Some(Problem {
        code: "TAN0626".to_string(),
        what: format!(
            "commits wait for {} more of {}, which the leader's server hears nothing of",
            (newest.rule.acks() as usize).saturating_sub(newest.rule.standbys().len() - missing.len()),
            missing.join(", ")
        ),
        advice: "bring one of them back, or open the way from it to the leader's PostgreSQL port".to_string(),
    })
}

/// What is known of writes where none are seen to be taken.
fn no_writes(state: &ClusterState, leader_heard: bool) -> String {
    let (term, leader) = (state.ctl.term, state.ctl.leader.as_ref().map_or("nobody", |l| l.node.as_str()));
    match state.ctl.phase {
        Phase::Open if leader_heard => {
            format!("no writes are taken: {leader} leads term {term} and its server does not take them now")
        }
        Phase::Open => format!(
            "whether writes are taken is not known here: {leader} leads term {term}, and this agent does not hear it"
        ),
        Phase::Elected => {
            format!("no writes are taken: {leader} was elected for term {term} and has not opened yet")
        }
        Phase::Revoking => format!("no writes are taken: a leader for term {term} is being chosen"),
    }
}

/// What an operator can do about that. An election may need whoever is away, and while
/// automatic failover is off nobody else than the leader that was may lead.
fn until_writes(state: &ClusterState, leader_heard: bool, members: &[MemberStatus]) -> String {
    let away = members.iter().filter(|m| m.state == "unreachable" && m.standing != "registered");
    let away: Vec<&str> = away.map(|m| m.name.as_str()).collect();
    let mut advice = "wait a moment".to_string();
    if state.ctl.phase == Phase::Open && !leader_heard {
        advice += "; ask another agent too, with --api URL, as this one may be cut off";
    }
    if state.ctl.paused {
        advice += "; automatic failover is paused: 'tanist resume', or 'tanist failover' for this once";
    }
    if away.is_empty() {
        return advice + "; if it lasts, look at the leader's server and at the logs of the agents";
    }
    let names = away.join(", ");
    advice
        + &format!(
            "; if it lasts, bring {names} back, as the only other copy of a commit may be there; what is gone for good is given up with 'tanist failover --accept-loss NODE', and --dry-run says what that could lose"
        )
}

/// Of the cluster as a whole and of each member.
pub(crate) fn problems(
    state: &ClusterState,
    (open, leader_heard): (bool, bool),
    lonely: bool,
    members: &[MemberStatus],
) -> Vec<Problem> {
    let mut all = Vec::new();
    let mut add = |code: &str, what: String, advice: &str| {
        all.push(Problem { code: code.to_string(), what, advice: advice.to_string() });
    };
    if !open {
        add("TAN0610", no_writes(state, leader_heard), &until_writes(state, leader_heard, members));
    }
    if lonely {
        add(
            "TAN0611",
            "commits are on the leader's disk alone, and a failover is refused meanwhile".into(),
            "bring a standby back; it acknowledges again by itself",
        );
    }
    for m in members.iter().filter(|m| matches!(m.state.as_str(), "unreachable" | "quarantined" | "stopped"))
    {
        if m.standing == "registered" {
            let advice = "start its agent, with a certificate of this cluster's CA in that name";
            add("TAN0621", format!("{} may join and has not yet", m.name), advice);
            continue;
        }
        let why = m.trouble.clone().map_or(String::new(), |t| format!(" ({t})"));
        add(
            "TAN0612",
            format!("{} is {}{why}", m.name, m.state),
            "look at its host and its agent's log; 'tanist reinit NODE' makes its copy anew",
        );
    }
    if state.ctl.paused {
        add("TAN0613", "automatic failover is paused".into(), "'tanist resume' when the work is done");
    }
    all
}
