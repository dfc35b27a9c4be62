//! C-12 and C-19 to C-21: three agents' thinking with only their words between them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cluster::command::Kind;
use cluster::lineage::Branch;
use cluster::report::{Leading, Recruited, Report, ServerReport, ServerState};
use cluster::state::{Election, Phase};
use cluster::{
    Action, ActiveRule, ClusterState, Durability, Lineage, Lsn, NodeId, Position, Rule, Term, Timeline, Vows,
};
use failover::facts::Facts;
use failover::lease::{Lease, Ticket};
use failover::{Controller, Effects, Event, Outcome};

use crate::clarifications::{at, id, node, state};

/// Agents, what they last said, and what each was told to do.
struct Cluster {
    agents: BTreeMap<NodeId, Controller>,
    state: ClusterState,
}

impl Cluster {
    /// n1 leads term 1 under 'any 1 of n2, n3', and all of them have run for a while.
    fn new() -> Cluster {
        let mut cluster = Cluster { agents: BTreeMap::new(), state: state() };
        cluster.state.cluster = "shop".into();
        for name in ["n1", "n2", "n3"] {
            cluster.start(name, 0);
        }
        cluster
    }

    /// An agent begins, its server as it was.
    fn start(&mut self, name: &str, now_ms: u64) {
        let vows = Vows {
            member: Some(id(name)),
            promise: Term(1),
            last_rule_seen: None,
            promoting: (name == "n1").then_some(cluster::local::Promoting { term: Term(1), next_xid: 0 }),
            ..Vows::default()
        };
        let facts = Facts::new(node(name), 100 + now_ms, Kind::Data, vows);
        self.agents.insert(node(name), Controller::new(facts));
        self.learn(name, now_ms);
        let leads = name == "n1";
        let server = ServerReport {
            state: if leads { ServerState::Primary } else { ServerState::Standby },
            lineage: lineage(),
            ..ServerReport::default()
        };
        let leading = leads.then(|| Box::new(Leading { writable: true, ..Leading::default() }));
        self.step(name, now_ms, Event::Probed(Box::new(server), leading));
    }

    fn learn(&mut self, name: &str, now_ms: u64) {
        let known = Arc::new(self.state.clone());
        self.step(name, now_ms, Event::State(known));
    }

    fn step(&mut self, name: &str, now_ms: u64, event: Event) -> Effects {
        self.agents.get_mut(&node(name)).expect("it is there").step(at(now_ms), 0, event)
    }

    fn says(&mut self, name: &str, now_ms: u64) -> Report {
        let agent = self.agents.get_mut(&node(name)).expect("it is there");
        agent.next_report(at(now_ms)).expect("it has a seat")
    }

    /// What `from` says reaches `to`.
    fn word(&mut self, from: &str, to: &str, now_ms: u64) -> Effects {
        let said = self.says(from, now_ms);
        self.step(to, now_ms, Event::Heard(Box::new(said)))
    }

    fn ask(&mut self, seq: u64, now_ms: u64) -> Vec<Lease> {
        self.step("n1", now_ms, Event::LeaseAsked(Ticket { from: 7, seq })).leases
    }

    fn revoke(&mut self) {
        self.state.ctl.term = Term(2);
        self.state.ctl.phase = Phase::Revoking;
        self.state.revision += 1;
    }

    /// `name` has learnt of term 2, promised it, and its ack path is cut: what it says of that.
    fn recruit(&mut self, name: &str, now_ms: u64) -> Option<Recruited> {
        self.learn(name, now_ms);
        let promised = Vows { member: Some(id(name)), promise: Term(2), ..Vows::default() };
        self.step(name, now_ms, Event::Vows(Box::new(promised)));
        let answer = Recruited {
            term: Term(2),
            position: Some(Position { term: Term(1), lsn: Lsn(9) }),
            lineage: lineage(),
            replay: Lsn(9),
        };
        let deed = Box::new(Action::Recruit { term: Term(2) });
        self.step(name, now_ms, Event::Done(deed, Ok(Outcome::Recruited(answer))));
        self.says(name, now_ms).recruited
    }
}

/// Of term 1's timeline.
fn lineage() -> Lineage {
    Lineage { timeline: Timeline(2), ancestors: vec![Branch { timeline: Timeline(1), end: Lsn(5) }] }
}

fn seqs(leases: &[Lease]) -> Vec<u64> {
    leases.iter().map(|l| l.ticket.seq).collect()
}

#[test]
fn c19_a_lease_rests_on_grants_that_were_asked_for_after_it_was() {
    let mut c = Cluster::new();
    assert!(c.ask(1, 1_000).is_empty(), "nobody has granted anything");
    let asked = c.says("n1", 1_000).asks.expect("it asks for grants");
    assert_eq!((asked.term, asked.round), (Term(1), 1));
    c.word("n1", "n2", 1_001);
    // While that is on its way, somebody else asks: those grants are too old for him.
    assert!(c.ask(2, 1_002).is_empty());
    let given = c.word("n2", "n1", 1_003).leases;
    assert_eq!(seqs(&given), [1]);
    assert_eq!((given[0].term, given[0].valid), (Term(1), Duration::from_millis(300)));
    // The same grant once more, and the other's: still too old. A next round, no sooner than N later.
    assert!(c.word("n2", "n1", 1_010).leases.is_empty());
    assert_eq!(c.says("n1", 1_010).asks.map(|a| a.round), Some(1));
    let again = c.step("n1", 1_050, Event::Tick);
    assert!(again.speak, "the new round is told at once");
    c.word("n1", "n3", 1_051);
    assert_eq!(seqs(&c.word("n3", "n1", 1_052).leases), [2]);
    assert_eq!(c.says("n1", 1_053).asks, None, "nobody waits for one any more");
}

#[test]
fn c19_two_of_two_are_asked_where_two_acknowledge() {
    let mut c = Cluster::new();
    c.state.rules[0].rule = Rule::new([id("n2"), id("n3")].into(), 2).expect("both");
    c.state.revision += 1;
    c.learn("n1", 10);
    c.ask(1, 1_000);
    c.word("n1", "n2", 1_001);
    assert!(c.word("n2", "n1", 1_002).leases.is_empty(), "n3 could still elect another");
    c.word("n1", "n3", 1_002);
    assert_eq!(seqs(&c.word("n3", "n1", 1_003).leases), [1]);
}

#[test]
fn c12_a_recruited_member_answers_when_what_it_granted_has_ended() {
    let mut c = Cluster::new();
    c.ask(1, 1_000);
    c.word("n1", "n2", 1_010);
    c.revoke();
    assert_eq!(c.recruit("n2", 1_020), None, "a lease may run until 1,300");
    c.step("n2", 1_329, Event::Tick);
    assert_eq!(c.says("n2", 1_329).recruited, None);
    let over = c.step("n2", 1_330, Event::Tick);
    assert!(over.speak && c.says("n2", 1_330).recruited.is_some(), "W after it granted");
    assert!(c.recruit("n3", 1_020).is_some(), "it has granted nothing");
    // And for the old term it grants nothing more.
    let before = c.says("n2", 1_340).grant;
    c.step("n1", 1_350, Event::LeaseAsked(Ticket { from: 7, seq: 2 }));
    c.word("n1", "n2", 1_351);
    assert_eq!(c.says("n2", 1_352).grant, before);
}

#[test]
fn c12_a_leader_that_is_dead_is_not_outwaited() {
    let mut c = Cluster::new();
    c.ask(1, 1_000);
    c.word("n1", "n2", 1_010);
    let resigned = Vows { member: Some(id("n1")), promise: Term(1), resigned: Term(1), ..Vows::default() };
    c.step("n1", 1_015, Event::Vows(Box::new(resigned)));
    c.word("n1", "n2", 1_016);
    c.revoke();
    assert!(c.recruit("n2", 1_020).is_some());
}

#[test]
fn c21_an_agent_that_was_restarted_waits_for_what_the_one_before_it_granted() {
    let mut c = Cluster::new();
    c.start("n2", 2_000);
    c.revoke();
    assert_eq!(c.recruit("n2", 2_010), None);
    c.step("n2", 2_320, Event::Tick);
    assert!(c.says("n2", 2_321).recruited.is_some());
}

#[test]
fn c21_grants_to_an_agent_that_is_gone_are_not_the_next_ones() {
    let mut c = Cluster::new();
    c.ask(1, 1_000);
    c.word("n1", "n2", 1_001);
    c.start("n1", 1_100);
    c.ask(1, 1_110);
    assert!(c.word("n2", "n1", 1_111).leases.is_empty(), "that was round 1 of another process");
    c.word("n1", "n2", 1_112);
    assert_eq!(seqs(&c.word("n2", "n1", 1_113).leases), [1]);
}

/// n1 takes n3 out of its rule.
fn narrowed(c: &mut Cluster) {
    let old = c.state.rules[0].clone();
    let rule = Rule::new([id("n2")].into(), 1).expect("one");
    c.state.rules.push(ActiveRule { sub: old.sub + 1, rule, ..old });
    c.state.revision += 1;
}

#[test]
fn c21_while_rules_change_the_newer_one_grants_and_the_older_is_dropped_when_its_leases_have_ended() {
    let mut c = Cluster::new();
    c.ask(1, 1_000);
    c.word("n1", "n3", 1_001);
    assert_eq!(seqs(&c.word("n3", "n1", 1_002).leases), [1]);
    narrowed(&mut c);
    c.learn("n1", 1_010);
    c.ask(2, 1_060);
    c.word("n1", "n3", 1_061);
    assert!(c.word("n3", "n1", 1_062).leases.is_empty(), "n3 is of the older rule");
    let all = |sub| Action::ChangeRule {
        term: Term(1),
        from: c.state.rules[0].rule.clone(),
        to: c.state.rules[1].rule.clone(),
        sub,
    };
    let sub = c.state.rules[1].sub;
    let proven = Event::Done(Box::new(all(sub)), Ok(Outcome::Proven(Lsn(9))));
    assert_eq!(c.step("n1", 1_070, proven).submit, None, "n3's may run until 1,302");
    // One by the newer rule does not make it forget those by the older.
    c.word("n1", "n2", 1_071);
    assert_eq!(seqs(&c.word("n2", "n1", 1_072).leases), [2]);
    let early = c.step("n1", 1_303, Event::Tick);
    assert!(!ends_the_rule(&early), "by a clock that is a little faster");
    let then = c.step("n1", 1_305, Event::Tick);
    assert!(ends_the_rule(&then), "{then:?}");
}

fn ends_the_rule(effects: &Effects) -> bool {
    matches!(effects.submit, Some(cluster::command::Change::RuleEnd { .. }))
}

#[test]
fn c21_a_leader_that_was_restarted_counts_as_having_given_a_lease_by_the_older_rule() {
    let mut c = Cluster::new();
    narrowed(&mut c);
    c.start("n1", 2_000);
    let (from, to, sub) =
        (c.state.rules[0].rule.clone(), c.state.rules[1].rule.clone(), c.state.rules[1].sub);
    let deed = Box::new(Action::ChangeRule { term: Term(1), from, to, sub });
    let proven = c.step("n1", 2_010, Event::Done(deed, Ok(Outcome::Proven(Lsn(9)))));
    assert!(!ends_the_rule(&proven) && !ends_the_rule(&c.step("n1", 2_301, Event::Tick)));
    assert!(ends_the_rule(&c.step("n1", 2_303, Event::Tick)));
}

#[test]
fn c19_old_grants_do_not_fill_up_an_ack_set() {
    let mut c = Cluster::new();
    c.state.rules[0].rule = Rule::new([id("n2"), id("n3")].into(), 2).expect("both");
    c.state.revision += 1;
    c.learn("n1", 10);
    c.ask(1, 1_000);
    for name in ["n2", "n3"] {
        c.word("n1", name, 1_001);
    }
    c.word("n2", "n1", 1_002);
    assert_eq!(seqs(&c.word("n3", "n1", 1_003).leases), [1]);
    c.ask(2, 1_100);
    c.word("n1", "n3", 1_101);
    assert!(c.word("n3", "n1", 1_102).leases.is_empty(), "n2 granted before it asked");
    c.word("n1", "n2", 1_103);
    assert_eq!(seqs(&c.word("n2", "n1", 1_104).leases), [2]);
}

#[test]
fn c19_who_has_promised_a_later_term_and_whom_the_leader_does_not_hear_grants_nothing() {
    let mut c = Cluster::new();
    let promised = Vows { member: Some(id("n2")), promise: Term(2), ..Vows::default() };
    c.step("n2", 900, Event::Vows(Box::new(promised)));
    c.ask(1, 1_000);
    c.word("n1", "n2", 1_001);
    assert_eq!(c.says("n2", 1_002).grant, None);
    c.word("n3", "n1", 1_003);
    c.ask(2, 1_303);
    c.word("n1", "n3", 1_304);
    assert_eq!(c.says("n3", 1_305).grant, None, "n1 has not heard it for 301 ms");
}

#[test]
fn c12_a_longer_time_counts_for_those_who_ask_from_then_on() {
    let mut c = Cluster::new();
    c.ask(1, 1_000);
    c.word("n1", "n2", 1_001);
    c.state.settings.timing.grant_ms = 310;
    c.state.revision += 1;
    c.learn("n1", 1_002);
    let given = c.word("n2", "n1", 1_003).leases;
    assert_eq!(given.iter().map(|l| l.valid).collect::<Vec<_>>(), [Duration::from_millis(300)]);
}

#[test]
fn one_who_asks_a_lot_pushes_nobody_else_out() {
    let mut c = Cluster::new();
    c.ask(1, 1_000);
    for seq in 0..300 {
        c.step("n1", 1_001, Event::LeaseAsked(Ticket { from: 8, seq }));
    }
    // Those that came in after the round had begun wait for the next.
    c.word("n1", "n2", 1_002);
    assert_eq!(seqs(&c.word("n2", "n1", 1_003).leases), [1]);
}

#[test]
fn o15_what_those_written_off_may_have_granted_is_outwaited() {
    let mut c = Cluster::new();
    c.revoke();
    c.state.ctl.coordinator = Some(node("n2"));
    c.state.ctl.written_off = [id("n1"), id("n3")].into();
    assert!(c.recruit("n2", 1_000).is_some());
    let waits = |c: &mut Cluster, ms| {
        c.step("n2", ms, Event::Tick);
        c.agents[&node("n2")].waiting() == Some(&failover::Waiting::Reads)
    };
    assert!(waits(&mut c, 1_300));
    assert!(!waits(&mut c, 1_321));
}

#[test]
fn c26_in_async_a_read_of_the_store_that_began_later_counts() {
    let mut c = Cluster::new();
    c.state.rules[0].rule = Rule::leader_only();
    c.state.rules[0].mode = Durability::Async;
    c.state.revision += 1;
    c.learn("n1", 10);
    c.step("n1", 900, Event::StoreRead(at(890), Term(1)));
    assert!(c.ask(1, 1_000).is_empty());
    assert!(c.step("n1", 1_020, Event::StoreRead(at(999), Term(1))).leases.is_empty());
    let given = c.step("n1", 1_040, Event::StoreRead(at(1_001), Term(1))).leases;
    assert_eq!(given.iter().map(|l| l.valid).collect::<Vec<_>>(), [Duration::from_secs(3)]);
}

#[test]
fn who_leads_alone_needs_nobody_and_who_does_not_lead_gives_nothing() {
    let mut c = Cluster::new();
    c.state.rules[0].rule = Rule::leader_only();
    c.state.revision += 1;
    c.learn("n1", 10);
    assert_eq!(seqs(&c.ask(1, 1_000)), [1]);
    assert!(c.step("n2", 1_000, Event::LeaseAsked(Ticket { from: 1, seq: 1 })).leases.is_empty());
    let e = Election { term: Term(2), leader: id("n2"), ..c.state.elections[0].clone() };
    c.state.elections.push(e);
    c.revoke();
    c.learn("n1", 1_010);
    assert!(c.ask(2, 1_020).is_empty(), "its term is over");
}
