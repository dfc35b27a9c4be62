//! Where the servers are now, as one reactor sees it.
//!
//! ```text
//!   to write ▶ the leader, and nobody else
//!   to read  ▶ replicas of our own zone ▶ replicas elsewhere ▶ the leader
//!   any      ▶ whoever may be read from, the leader among them
//! ```
//! A list further right is used only while those left of it are empty: a replica
//! counts while it streams, is within the pool's limit of lag and can be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Instant;

use api::routes::{Opening, Role, RouteMember};

use crate::fresh::Fresh;
use route::merge::Merged;

/// What clients of a listener want, unless they ask for something else when they log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// To write: the leader, and nobody else.
    Primary,
    /// To read: a replica, and the leader only while no replica will do.
    Replica,
    /// To read, from whoever has least to do, the leader as well.
    Any,
}

/// What a pool wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// What for.
    pub target: Target,
    /// It puts up with data that are so old, in milliseconds.
    pub lag_ms_max: u64,
}

/// Who may be read from with one limit of lag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readers {
    /// Replicas.
    pub replicas: Vec<Rc<str>>,
    /// The same with the leader, where that takes new work.
    pub any: Vec<Rc<str>>,
}

/// Where the servers are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// The highest term heard of; 0 for servers that no cluster manages.
    pub term: u64,
    /// Who takes writes, `host:port`.
    pub primary: Option<Rc<str>>,
    /// New transactions wait: the leader is about to hand over.
    pub holding: bool,
    /// Who may be read from, for each limit of lag that some pool has.
    pub readers: BTreeMap<u64, Readers>,
    /// Who may lead next: standbys that stream from the leader.
    pub standbys: Vec<Rc<str>>,
    /// Servers where a reader's transaction may end, though nobody new may come.
    pub standing: BTreeSet<Rc<str>>,
    /// For the fate of a COMMIT.
    pub openings: Vec<Opening>,
}

/// How readers choose.
#[derive(Clone, Debug, Default)]
pub struct Choice<'a> {
    /// Limits of lag, in milliseconds.
    pub limits: BTreeSet<u64>,
    /// Where the proxy stands; empty: nowhere in particular.
    pub zone: &'a str,
    /// Servers that the proxy has found that it can't reach.
    pub cut_off: BTreeSet<Rc<str>>,
    /// Who streamed when.
    pub fresh: Fresh,
}

/// One server that may be read from.
struct Readable<'a> {
    address: Rc<str>,
    lag_ms: u64,
    zone: &'a str,
    leads: bool,
}

impl Routing {
    /// What the agents say, for readers that choose so, at this moment.
    #[must_use]
    pub fn of(merged: &Merged, choice: &Choice<'_>, now: Instant) -> Routing {
        let leader = merged.leader.as_ref().map(|l| (&l.name, Rc::<str>::from(l.postgres.as_str())));
        let reached: Vec<(&RouteMember, Rc<str>)> = merged
            .members
            .iter()
            .filter(|m| !m.postgres.is_empty())
            .map(|m| (m, Rc::from(m.postgres.as_str())))
            .filter(|(_, address)| !choice.cut_off.contains(address))
            .collect();
        let standby = |m: &RouteMember| m.role == Role::Standby;
        let serves = |m: &RouteMember| standby(m) && !m.maintenance && !m.unreachable;
        let mut readable = Vec::new();
        for (m, address) in &reached {
            let leads = leader.as_ref().is_some_and(|(name, _)| **name == m.name);
            let own = || choice.fresh.lag_ms(m, now).filter(|_| serves(m));
            let lag = if leads { Some(0) } else { own() };
            let Some(lag_ms) = lag else { continue };
            readable.push(Readable { address: address.clone(), lag_ms, zone: &m.zone, leads });
        }
        // Whoever was elected goes on with what it did as a standby.
        let standing = |m: &RouteMember| standby(m) || m.role == Role::Leader;
        Routing {
            term: merged.term,
            primary: leader.map(|(_, address)| address),
            holding: merged.handing_over,
            readers: readers(&readable, choice, merged.handing_over),
            standbys: reached
                .iter()
                .filter(|(m, _)| m.streaming && serves(m))
                .map(|(_, a)| a.clone())
                .collect(),
            standing: reached.iter().filter(|(m, _)| standing(m)).map(|(_, a)| a.clone()).collect(),
            openings: merged.openings.clone(),
        }
    }

    /// Servers that no cluster manages, with their zones: the leader, if there is one, and replicas.
    #[must_use]
    pub fn fixed(leader: Option<(&str, &str)>, replicas: &[(&str, &str)], choice: &Choice<'_>) -> Routing {
        let one = |(address, zone), leads| Readable { address: Rc::from(address), lag_ms: 0, zone, leads };
        let all = leader.into_iter().map(|l| one(l, true));
        let mut readable: Vec<_> = all.chain(replicas.iter().map(|r| one(*r, false))).collect();
        let standing = readable.iter().map(|r| r.address.clone()).collect();
        readable.retain(|r| !choice.cut_off.contains(&r.address));
        Routing {
            primary: leader.map(|(address, _)| Rc::from(address)),
            readers: readers(&readable, choice, false),
            standing,
            ..Routing::default()
        }
    }

    /// Whether a server at `address` may get new work of this kind.
    #[must_use]
    pub fn admits(&self, wants: Wants, address: &Rc<str>) -> bool {
        self.candidates(wants).iter().any(|one| is_same(one, address))
    }

    /// The servers that may get new work of this kind.
    #[must_use]
    pub fn candidates(&self, wants: Wants) -> &[Rc<str>] {
        let readers = || self.readers.get(&wants.lag_ms_max);
        let list = match wants.target {
            Target::Primary => None,
            Target::Replica => readers().map(|r| &r.replicas),
            Target::Any => readers().map(|r| &r.any),
        };
        match (list.filter(|list| !list.is_empty()), &self.primary) {
            (Some(list), _) => list,
            (None, Some(primary)) => std::slice::from_ref(primary),
            (None, None) => &[],
        }
    }

    /// Whether new transactions of this kind wait now.
    #[must_use]
    pub fn holds(&self, wants: Wants) -> bool {
        match (self.candidates(wants), &self.primary) {
            ([], _) => true,
            ([one], Some(primary)) => self.holding && one == primary,
            (_, _) => false,
        }
    }

    /// Whether what runs on a server at `address` may go on there. It `led` when the work was given to it.
    #[must_use]
    pub fn keeps(&self, wants: Wants, address: &Rc<str>, led: bool) -> bool {
        let leads = self.primary.as_ref() == Some(address);
        match wants.target {
            Target::Primary => leads,
            Target::Replica | Target::Any => (leads || !led) && self.standing.contains(address),
        }
    }

    /// All that may be read from with the strictest limit or any other: for people.
    #[must_use]
    pub fn replicas(&self) -> Vec<Rc<str>> {
        let all: BTreeSet<&Rc<str>> = self.readers.values().flat_map(|r| &r.replicas).collect();
        all.into_iter().cloned().collect()
    }
}

/// Whether two addresses are the same. Mostly they are one in memory.
#[must_use]
pub fn is_same(a: &Rc<str>, b: &Rc<str>) -> bool {
    Rc::ptr_eq(a, b) || a == b
}

fn readers(all: &[Readable<'_>], choice: &Choice<'_>, handing_over: bool) -> BTreeMap<u64, Readers> {
    let near = |r: &&&Readable<'_>| !choice.zone.is_empty() && r.zone == choice.zone;
    // Those of our own zone, and all of them only where it has none.
    let chosen = |list: Vec<&Readable<'_>>| -> Vec<Rc<str>> {
        let ours: Vec<_> = list.iter().filter(near).map(|r| r.address.clone()).collect();
        if ours.is_empty() { list.iter().map(|r| r.address.clone()).collect() } else { ours }
    };
    let with = |limit: u64| {
        let fresh = || all.iter().filter(move |r| r.lag_ms <= limit);
        let replicas = chosen(fresh().filter(|r| !r.leads).collect());
        let any = chosen(fresh().filter(|r| !(r.leads && handing_over)).collect());
        Readers { replicas, any }
    };
    choice.limits.iter().map(|limit| (*limit, with(*limit))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::NodeId;
    use route::merge::Leader;

    const LIMIT: u64 = 1_000;

    fn member(name: &str, role: Role, zone: &str, lag: u64) -> RouteMember {
        RouteMember {
            name: NodeId::new(name).expect("a good name"),
            postgres: name.to_string(),
            agent: String::new(),
            zone: zone.to_string(),
            role,
            streaming: role == Role::Standby,
            replay_lag_ms: (role == Role::Standby).then_some(lag),
            lag_bytes: None,
            maintenance: false,
            unreachable: false,
        }
    }

    /// n1 leads in zone a; n2 stands in a, n3 and n4 in b.
    fn shop(change: impl Fn(&mut Merged)) -> Merged {
        let mut merged = Merged {
            term: 4,
            leader: Some(Leader { name: NodeId::new("n1").expect("good"), postgres: "n1".to_string() }),
            members: vec![
                member("n1", Role::Leader, "a", 0),
                member("n2", Role::Standby, "a", 50),
                member("n3", Role::Standby, "b", 0),
                member("n4", Role::Standby, "b", 500),
            ],
            ..Merged::default()
        };
        change(&mut merged);
        merged
    }

    fn choice(zone: &str) -> Choice<'_> {
        Choice { limits: [100, LIMIT].into(), zone, ..Choice::default() }
    }

    fn shown(routing: &Routing, target: Target, lag_ms_max: u64) -> String {
        routing.candidates(Wants { target, lag_ms_max }).join(" ")
    }

    #[track_caller]
    fn check(merged: &Merged, zone: &str, expect: [&str; 4]) {
        let routing = Routing::of(merged, &choice(zone), Instant::now());
        let got = [
            shown(&routing, Target::Primary, LIMIT),
            shown(&routing, Target::Replica, LIMIT),
            shown(&routing, Target::Replica, 100),
            shown(&routing, Target::Any, LIMIT),
        ];
        assert_eq!(got, expect);
    }

    #[test]
    fn readers_go_to_replicas_within_their_limit_of_lag() {
        check(&shop(|_| {}), "", ["n1", "n2 n3 n4", "n2 n3", "n1 n2 n3 n4"]);
        check(&shop(|m| m.members[2].streaming = false), "", ["n1", "n2 n4", "n2", "n1 n2 n4"]);
        check(&shop(|m| m.members[2].maintenance = true), "", ["n1", "n2 n4", "n2", "n1 n2 n4"]);
        check(&shop(|m| m.members[2].unreachable = true), "", ["n1", "n2 n4", "n2", "n1 n2 n4"]);
        check(&shop(|m| m.members[1].replay_lag_ms = None), "", ["n1", "n3 n4", "n3", "n1 n3 n4"]);
        let behind = |m: &mut Merged| m.members.iter_mut().for_each(|m| m.replay_lag_ms = Some(5_000));
        check(&shop(behind), "", ["n1", "n1", "n1", "n1"]);
        check(&shop(|m| m.leader = None), "", ["", "n2 n3 n4", "n2 n3", "n2 n3 n4"]);
    }

    #[test]
    fn readers_stay_while_nobody_streams_in_a_new_term() {
        let (mut choice, start) = (choice(""), Instant::now());
        choice.fresh.note(&shop(|_| {}).members, start);
        let elected = shop(|m| {
            m.leader = None;
            m.members.iter_mut().for_each(|m| m.streaming = false);
            m.members[0].role = Role::Standby;
            m.members[1].role = Role::Leader;
        });
        let read = Wants { target: Target::Replica, lag_ms_max: LIMIT };
        let after = |ms| Routing::of(&elected, &choice, start + std::time::Duration::from_millis(ms));
        assert_eq!(after(300).candidates(read).join(" "), "n3 n4");
        assert_eq!(after(600).candidates(read).join(" "), "n3", "n4 was behind already");
        assert!(after(1_001).holds(read));
        assert!(after(0).keeps(read, &Rc::from("n2"), false), "what it did as a standby goes on");
        assert!(after(0).standbys.is_empty());
    }

    #[test]
    fn a_zone_of_their_own_comes_first() {
        check(&shop(|_| {}), "a", ["n1", "n2", "n2", "n1 n2"]);
        check(&shop(|_| {}), "b", ["n1", "n3 n4", "n3", "n3 n4"]);
        check(&shop(|_| {}), "c", ["n1", "n2 n3 n4", "n2 n3", "n1 n2 n3 n4"]);
        // Its only one is too far behind for some.
        let behind = |m: &mut Merged| m.members[1].replay_lag_ms = Some(500);
        check(&shop(behind), "a", ["n1", "n2", "n3", "n1 n2"]);
        let gone = |m: &mut Merged| m.members[1].streaming = false;
        check(&shop(gone), "a", ["n1", "n3 n4", "n3", "n1"]);
    }

    #[test]
    fn whoever_hands_over_takes_no_reader_either() {
        let merged = shop(|m| m.handing_over = true);
        check(&merged, "", ["n1", "n2 n3 n4", "n2 n3", "n2 n3 n4"]);
        let routing = Routing::of(&merged, &choice(""), Instant::now());
        let holds = |target| routing.holds(Wants { target, lag_ms_max: LIMIT });
        assert!(holds(Target::Primary) && !holds(Target::Replica) && !holds(Target::Any));
        let alone = shop(|m| {
            m.handing_over = true;
            m.members.truncate(1);
        });
        let routing = Routing::of(&alone, &choice(""), Instant::now());
        for target in [Target::Primary, Target::Replica, Target::Any] {
            assert!(routing.holds(Wants { target, lag_ms_max: LIMIT }), "{target:?}");
        }
    }

    #[test]
    fn what_runs_may_end_where_nobody_new_may_come() {
        let read = Wants { target: Target::Replica, lag_ms_max: LIMIT };
        let write = Wants { target: Target::Primary, lag_ms_max: LIMIT };
        let at = |n: &str| Rc::from(n);
        let drained = Routing::of(&shop(|m| m.members[1].maintenance = true), &choice(""), Instant::now());
        assert!(!drained.admits(read, &at("n2")) && drained.keeps(read, &at("n2"), false));
        assert!(!drained.keeps(write, &at("n2"), false));
        // n2 leads now: readers that were there before end there, and what n1 led ends.
        let after = Routing::of(
            &shop(|m| {
                m.term = 5;
                m.leader =
                    Some(Leader { name: NodeId::new("n2").expect("good"), postgres: "n2".to_string() });
                m.members[0].role = Role::Standby;
                m.members[1].role = Role::Leader;
            }),
            &choice(""),
            Instant::now(),
        );
        assert!(after.keeps(read, &at("n2"), false) && after.keeps(read, &at("n1"), false));
        assert!(!after.keeps(read, &at("n1"), true) && !after.keeps(write, &at("n1"), true));
        let cut = Choice { cut_off: [at("n3")].into(), ..choice("") };
        let cut = Routing::of(&shop(|_| {}), &cut, Instant::now());
        assert!(!cut.admits(read, &at("n3")) && !cut.keeps(read, &at("n3"), false));
    }

    #[test]
    fn servers_without_a_cluster_have_zones_too() {
        let routing = Routing::fixed(Some(("m", "a")), &[("r1", "a"), ("r2", "b")], &choice("b"));
        assert_eq!(shown(&routing, Target::Replica, LIMIT), "r2");
        assert_eq!(shown(&routing, Target::Primary, LIMIT), "m");
        let alone = Routing::fixed(Some(("m", "")), &[], &choice(""));
        assert_eq!(shown(&alone, Target::Replica, LIMIT), "m");
    }
}
