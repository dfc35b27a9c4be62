//! Where clients may go: what an agent pushes to whoever routes them.
//!
//! One picture, always whole, so that a lost or late one costs nothing: the next
//! says everything again. Postcard between processes, JSON for people.
//!
//! Never an opinion: what is agreed, and what members said of themselves.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use cluster::command::{Kind, Member, MemberState};
use cluster::report::{Leading, Report, ServerState};
use cluster::state::{Election, Phase};
use cluster::{ClusterState, Lsn, MemberId, NodeId, Term};
use serde::{Deserialize, Serialize};

/// So many of the newest terms are told, for the fate of a COMMIT (C-17).
pub const OPENINGS_MAX: usize = 16;
/// A report that is older says nothing about now, in milliseconds.
pub const REPORT_AGE_MS_MAX: u64 = 2_000;

/// The picture of one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routes {
    /// Name of the cluster.
    pub cluster: String,
    /// Whose picture it is.
    pub from: NodeId,
    /// The newest term that this agent knows to be agreed.
    pub term: u64,
    /// How far that term is.
    pub phase: Phase,
    /// Since when, Unix milliseconds by its author's clock; only for people.
    pub since_ms: u64,
    /// Who takes writes: the leader, while the term is open and the leader has not resigned it.
    pub leader: Option<NodeId>,
    /// The leader is about to shut down for a planned switchover: new transactions
    /// had better be held, and whoever has none running says `Drained`.
    pub handing_over: bool,
    /// Automatic failover is off.
    pub paused: bool,
    /// Everybody with a seat.
    pub members: Vec<RouteMember>,
    /// The newest terms, oldest first. Empty while the present one is not open:
    /// until then no fate is settled.
    pub openings: Vec<Opening>,
}

/// What a member is to a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Elected in the present term, whether or not it takes writes yet or still.
    Leader,
    /// Any other with a database.
    #[default]
    Standby,
    /// No database.
    Witness,
    /// WAL and no database.
    WalWitness,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMember {
    /// Its name.
    pub name: NodeId,
    /// Where its PostgreSQL listens, `host:port`; empty where it has none.
    pub postgres: String,
    /// Where its agent listens for other agents and for subscribers.
    pub agent: String,
    /// Where it stands.
    pub zone: String,
    /// What it is.
    pub role: Role,
    /// It gets WAL from the leader of the present term.
    pub streaming: bool,
    /// How old what it shows is; `None` while that can't be told.
    pub replay_lag_ms: Option<u64>,
    /// How much of the leader's WAL it has not replayed; `None` while that can't be told.
    pub lag_bytes: Option<u64>,
    /// Not to be sent readers: being made, on its way out, or not believed.
    pub maintenance: bool,
    /// The agent that speaks has not heard it for a while.
    pub unreachable: bool,
}

/// One term, as far as it matters for what became of a transaction (C-17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Which term.
    pub term: u64,
    /// The timeline that its leader writes on; no other term's does (I7).
    pub timeline: u32,
    /// The first transaction id that it could give out; `None` if that is not known.
    pub next_xid: Option<u64>,
    /// Its timeline is in the past of the leader that is open now, or is that leader's.
    pub survives: bool,
}

/// "No transaction of mine runs in this term": a subscriber's answer to `handing_over`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// The term that is handed over.
    pub term: u64,
}

/// What can be said of a COMMIT whose answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It did not survive.
    NotCommitted,
    /// The present leader's `pg_xact_status` knows.
    AskXactStatus,
    /// Nobody can tell.
    Unknown,
}

/// What became of transaction `xid` that ran in term `ran_in` (C-17).
///
/// Say n1 led term 5 and gave out number 7; n2 leads term 6, whose first own number
/// is 7: what n1 called 7 is lost, and n2 calls something else so. Had n2 begun
/// with 8, it would have n1's WAL up to that transaction, and know its end.
#[must_use]
pub fn fate(openings: &[Opening], ran_in: u64, xid: u64) -> Fate {
    let Some(own) = openings.iter().find(|o| o.term == ran_in) else { return Fate::Unknown };
    if !own.survives {
        return Fate::NotCommitted;
    }
    let later = openings.iter().filter(|o| o.term > ran_in && o.survives);
    match later.min_by_key(|o| o.term).map(|next| next.next_xid) {
        None => Fate::AskXactStatus,
        Some(None) => Fate::Unknown,
        Some(Some(first)) if xid >= first => Fate::NotCommitted,
        Some(Some(_)) => Fate::AskXactStatus,
    }
}

/// Where a transaction ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RanIn {
    /// The term that was believed in then.
    pub term: u64,
    /// The timeline that its server wrote on, as it said itself; 0 where it was not asked.
    pub timeline: u32,
}

/// The same, where a proxy may have believed in a term that was over; `asks` is the timeline of the server that
/// would be asked. `None` while that is not the leader that these tell of.
///
/// Say n1 led term 1, and leads term 2 from number 7 on, and a proxy that has heard no agent meanwhile goes on
/// with it. The transaction that it calls 'number 7 of term 1' is of term 2, and committed.
#[must_use]
pub fn fate_of(openings: &[Opening], ran_in: RanIn, xid: u64, asks: u32) -> Option<Fate> {
    let present = openings.last()?;
    if asks != 0 && asks != present.timeline {
        return None;
    }
    let own = openings.iter().find(|o| o.timeline == ran_in.timeline).map(|o| o.term);
    let term = if ran_in.timeline == 0 { Some(ran_in.term) } else { own };
    Some(term.map_or(Fate::Unknown, |term| fate(openings, term, xid)))
}

/// What an agent knows of itself before its own report says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// The newest term in which its server acknowledges nothing any more.
    pub resigned: Term,
    /// It waits for its subscribers, or has begun to shut its server down.
    pub handing_over: bool,
}

/// The picture of the agent of `me`, whose reports are as old as they say.
#[must_use]
pub fn routes(
    state: &ClusterState,
    reports: &BTreeMap<NodeId, (Report, u64)>,
    me: &NodeId,
    own: Own,
) -> Routes {
    let ctl = &state.ctl;
    let elected = ctl.leader.as_ref().filter(|_| ctl.phase != Phase::Revoking);
    let said = |id: &MemberId| reports.get(&id.node).map(|(r, _)| r).filter(|r| r.member == *id);
    let resigned = |id: &MemberId| {
        let own = if id.node == *me { own.resigned } else { Term(0) };
        said(id).map_or(own, |r| r.vows.resigned.max(own)) >= ctl.term
    };
    let leading = elected.and_then(said).and_then(|r| r.leading.as_ref()).filter(|l| l.term == ctl.term);
    let open = elected.filter(|l| ctl.phase == Phase::Open && !resigned(l));
    // A leader that is on its way out and has no server any more is still on its way out.
    let leaving = |leader: &MemberId| match said(leader) {
        _ if leader.node == *me => own.handing_over,
        Some(_) => leading.is_none_or(|l| l.handing_over),
        None => false,
    };
    let seated = state.members.iter().filter(|(_, m)| m.has_seat());
    Routes {
        cluster: state.cluster.clone(),
        from: me.clone(),
        term: ctl.term.0,
        phase: ctl.phase,
        since_ms: ctl.since_ms,
        leader: open.map(|l| l.node.clone()),
        handing_over: ctl.target.is_some() && open.is_some_and(leaving),
        paused: ctl.paused,
        members: seated.map(|(n, m)| member(state, n, m, reports.get(n), leading)).collect(),
        openings: if ctl.phase == Phase::Open { openings(&state.elections) } else { Vec::new() },
    }
}

fn member(
    state: &ClusterState,
    node: &NodeId,
    m: &Member,
    report: Option<&(Report, u64)>,
    leading: Option<&Leading>,
) -> RouteMember {
    let id = MemberId::new(node.clone(), m.incarnation);
    let leads = state.ctl.phase != Phase::Revoking && state.ctl.leader.as_ref() == Some(&id);
    let fresh = report.filter(|(r, age)| *age < REPORT_AGE_MS_MAX && r.member == id).map(|(r, _)| r);
    let server = fresh.and_then(|r| r.server.as_ref());
    let readable = server.filter(|s| s.state == ServerState::Standby && !leads);
    let behind = |end: Lsn| readable.map(|s| end.bytes_past(s.replay));
    RouteMember {
        name: node.clone(),
        postgres: m.addresses.postgres.clone(),
        agent: m.addresses.peers.clone(),
        zone: m.tags.zone.clone(),
        role: match m.kind {
            Kind::Data if leads => Role::Leader,
            Kind::Data => Role::Standby,
            Kind::Witness => Role::Witness,
            Kind::WalWitness => Role::WalWitness,
        },
        streaming: readable.is_some_and(|s| s.streaming == Some(state.ctl.term)),
        replay_lag_ms: readable.map(|s| s.replay_lag_ms),
        lag_bytes: leading.and_then(|l| behind(l.end)),
        maintenance: m.state != MemberState::Voter || m.leaving || m.reinit,
        unreachable: fresh.is_none(),
    }
}

fn openings(elections: &[Election]) -> Vec<Opening> {
    let past = past(elections);
    let newest = elections.iter().skip(elections.len().saturating_sub(OPENINGS_MAX));
    let told = newest.map(|e| Opening {
        term: e.term.0,
        timeline: e.tli.0,
        next_xid: e.opened.map(|o| o.next_xid).filter(|xid| *xid != 0),
        survives: past.contains(&e.term),
    });
    told.collect()
}

/// The terms in the past of the newest that opened, itself among them: from each
/// timeline to the one that its election grew from.
fn past(elections: &[Election]) -> BTreeSet<Term> {
    let mut past = BTreeSet::new();
    let mut next = elections.iter().rev().find(|e| e.opened.is_some());
    while let Some(e) = next {
        past.insert(e.term);
        // An election grows from an older one, so this ends.
        next = elections.iter().rev().find(|p| p.tli == e.parent_tli && p.term < e.term);
    }
    past
}

impl Routes {
    /// As it goes over the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// What `to_bytes` made; `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Routes> {
        postcard::from_bytes(bytes).ok()
    }

    /// Who was elected in its term, as far as it says: open or not.
    #[must_use]
    pub fn elected(&self) -> Option<&NodeId> {
        self.members.iter().find(|m| m.role == Role::Leader).map(|m| &m.name)
    }

    /// Whether `other` would route anybody otherwise: lags, which move all the time, don't count.
    #[must_use]
    pub fn routes_as(&self, other: &Routes) -> bool {
        let steady = |r: &Routes| {
            let still = |m: &RouteMember| RouteMember { replay_lag_ms: None, lag_bytes: None, ..m.clone() };
            Routes { members: r.members.iter().map(still).collect(), ..r.clone() }
        };
        steady(self) == steady(other)
    }
}

impl Drained {
    /// As it goes over the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// What `to_bytes` made; `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Drained> {
        postcard::from_bytes(bytes).ok()
    }
}
