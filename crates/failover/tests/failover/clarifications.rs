//! The clarifications C-22 to C-25 of docs/protocol.md, each on one moment in
//! the life of a cluster: the test fails when its clarification is undone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cluster::command::{Change, Kind, Member, MemberState, Trigger};
use cluster::report::{Missing, Report, ServerReport, ServerState};
use cluster::state::{Control, Election, Event, Phase};
use cluster::{
    Action, ActiveRule, ClusterState, Durability, Lineage, MemberId, NodeId, Position, Reason, Rule, Term,
    Time, Timeline, Vows,
};
use failover::decide::decide;
use failover::facts::Facts;
use failover::forecast::{self, Asked, Unwise};
use failover::suspicion::{self, Watch};
use failover::view::Heard;
use failover::{Controller, Event as Happened, Outcome, Setback, View, fencing};

pub fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("tests name nodes well")
}

pub fn id(name: &str) -> MemberId {
    MemberId::new(node(name), 1)
}

pub fn at(ms: u64) -> Time {
    Time(Duration::from_millis(ms))
}

/// A member with a copy that counts.
pub fn voter() -> Member {
    Member {
        incarnation: 1,
        raft_id: 1,
        nonce: 0,
        kind: Kind::Data,
        addresses: Default::default(),
        tags: Default::default(),
        state: MemberState::Voter,
        leaving: false,
        reinit: false,
    }
}

/// n1 leads term 1 under 'any 1 of n2, n3'.
pub fn state() -> ClusterState {
    let rule = Rule::new([id("n2"), id("n3")].into(), 1).expect("two can give one acknowledgement");
    let ctl = Control { term: Term(1), phase: Phase::Open, leader: Some(id("n1")), ..Control::default() };
    ClusterState {
        members: ["n1", "n2", "n3"].iter().map(|n| (node(n), voter())).collect(),
        ctl,
        elections: vec![election(1, "n1", &rule)],
        rules: vec![ActiveRule { term: Term(1), leader: id("n1"), sub: 2, rule, mode: Durability::Quorum }],
        ..ClusterState::default()
    }
}

fn election(term: u64, leader: &str, rule: &Rule) -> Election {
    Election {
        term: Term(term),
        leader: id(leader),
        tli: Timeline(term as u32 + 1),
        parent_tli: Timeline(term as u32),
        base: Position::default(),
        rule: rule.clone(),
        opened: None,
    }
}

/// What n2 or n1 knows, with everything in its place.
struct Scene {
    now: Time,
    state: ClusterState,
    me: Facts,
    peers: BTreeMap<NodeId, Heard>,
    watch: Watch,
}

impl Scene {
    fn of(name: &str, now_ms: u64) -> Scene {
        let vows = Vows { member: Some(id(name)), promise: Term(1), ..Vows::default() };
        let mut me = Facts::new(node(name), 1, Kind::Data, vows);
        me.server = Some(ServerReport { state: ServerState::Standby, ..ServerReport::default() });
        let watch = Watch::default();
        Scene { now: at(now_ms), state: state(), me, peers: BTreeMap::new(), watch }
    }

    fn view(&self) -> View<'_> {
        let Scene { now, state, me, peers, watch } = self;
        View { now: *now, wall_ms: 0, state, me, peers, watch, running: None }
    }

    fn hear(&mut self, name: &str, at_ms: u64, hears: &[(&str, u64)], misses: Option<u64>) {
        let report = Report {
            up_ms: 60_000,
            hears: hears.iter().map(|(n, ms)| (node(n), *ms)).collect(),
            misses: misses.map(|silent_ms| Missing { term: Term(1), silent_ms }),
            vows: Vows { promise: Term(1), ..Vows::default() },
            ..Report::first(id(name))
        };
        self.peers.insert(node(name), Heard { at: at(at_ms), report });
    }
}

#[test]
fn c14_a_term_whose_leader_does_not_get_its_server_up_is_ended() {
    let mut scene = Scene::of("n3", 6_000);
    scene.state.ctl.term = Term(2);
    scene.state.ctl.phase = Phase::Elected;
    scene.state.ctl.leader = Some(id("n2"));
    scene.watch.leader_heard_us = at(5_900);
    scene.hear("n2", 5_900, &[("n3", 50)], None);
    let ends = |s: &Scene| match failover::decide(&s.view()).command {
        Some(Change::BeginTerm { trigger: Trigger::Stuck { .. }, term }) => Some(term),
        _ => None,
    };
    assert_eq!(ends(&scene), Some(Term(3)));
    scene.now = at(4_900);
    assert_eq!(ends(&scene), None, "it has until the term limit");
}

#[test]
fn c22_a_member_elected_before_and_never_opened_resigns_when_it_is_recruited() {
    let mut scene = Scene::of("n2", 10_000);
    let rule = scene.state.rules[0].rule.clone();
    scene.state.elections.push(election(2, "n2", &rule));
    scene.state.ctl.term = Term(3);
    scene.state.ctl.phase = Phase::Revoking;
    assert_eq!(fencing::fence(&scene.view()), Some(Action::Fence { term: Term(2) }));
    scene.me.vows.resigned = Term(2);
    assert_eq!(fencing::fence(&scene.view()), None);
}

#[test]
fn c23_a_leader_is_missed_when_heartbeat_and_server_are_silent_or_patience_is_over() {
    let mut scene = Scene::of("n2", 10_000);
    let missed = |s: &Scene| suspicion::missing(&s.view()).is_some();
    scene.watch.leader_heard_us = at(9_600);
    scene.me.leader_alive = Some(at(9_400));
    assert!(!missed(&scene), "it was heard within S");
    scene.watch.leader_heard_us = at(9_400);
    assert!(missed(&scene));
    scene.me.leader_alive = Some(at(9_900));
    assert!(!missed(&scene), "its PostgreSQL lives");
    scene.watch.leader_heard_us = at(6_000);
    assert!(missed(&scene), "for longer than P whatever PostgreSQL does");
}

#[test]
fn c23_an_agent_whose_own_loop_ran_late_suspects_nobody_for_that_long() {
    let mut scene = Scene::of("n2", 10_000);
    scene.watch.leader_heard_us = at(2_000);
    assert!(suspicion::missing(&scene.view()).is_some());
    scene.watch.on_late(Duration::from_millis(800), scene.now);
    scene.now = at(10_799);
    assert!(suspicion::missing(&scene.view()).is_none());
    scene.now = at(10_801);
    assert!(suspicion::missing(&scene.view()).is_some());
}

#[test]
fn c24_a_pre_vote_passes_only_if_nobody_hears_the_leader() {
    let mut scene = Scene::of("n2", 10_000);
    scene.watch.leader_heard_us = at(9_000);
    scene.watch.missing_since = Some(at(9_500));
    scene.hear("n3", 9_900, &[("n1", 700)], Some(700));
    let begun = suspicion::begin_term(&scene.view());
    let by = match begun {
        Some(Change::BeginTerm { trigger: Trigger::Missed { by, .. }, .. }) => by,
        other => panic!("{other:?}"),
    };
    assert_eq!(by, [node("n2"), node("n3")].into());
    scene.hear("n3", 9_900, &[("n1", 50)], None);
    assert_eq!(suspicion::begin_term(&scene.view()), None, "n3 hears it");
    // An answer from before the asking says nothing; V later those who said nothing are passed over.
    scene.hear("n3", 9_400, &[("n1", 700)], Some(700));
    scene.now = at(9_590);
    assert_eq!(suspicion::begin_term(&scene.view()), None);
}

#[test]
fn a_failover_is_not_followed_by_another_before_the_pause_is_over() {
    let mut scene = Scene::of("n2", 10_000);
    scene.watch.leader_heard_us = at(9_000);
    scene.watch.missing_since = Some(at(9_500));
    scene.hear("n3", 9_900, &[("n1", 700)], Some(700));
    let trigger = Trigger::Missed { by: [node("n3")].into(), silent_ms: 600 };
    let reason = Reason::TermBegan { trigger, old_leader: Some(node("n3")) };
    scene.state.history.push_back(Event { at_ms: 0, revision: 1, term: Term(1), by: node("n2"), reason });
    scene.watch.phase_since = at(8_001);
    assert_eq!(suspicion::begin_term(&scene.view()), None);
    scene.watch.phase_since = at(8_000);
    assert!(suspicion::begin_term(&scene.view()).is_some());
}

#[test]
fn c25_a_leader_without_grants_and_store_reads_is_left_to_its_guard() {
    let mut scene = Scene::of("n1", 10_000);
    let until = |s: &Scene| fencing::guard_deadline(&s.view());
    assert_eq!(until(&scene), Some(at(3_000)), "D after the phase began: it is over");
    scene.hear("n2", 9_800, &[("n1", 100)], None);
    assert_eq!(until(&scene), Some(at(13_000)), "one acknowledging member hears it");
    scene.hear("n2", 9_800, &[("n1", 600)], None);
    assert_eq!(until(&scene), Some(at(3_000)), "it does not hear us");
    scene.watch.store_read_at = at(9_000);
    assert_eq!(until(&scene), Some(at(12_000)), "a linearizable read showed our term");
    scene.state = ClusterState::default();
    assert_eq!(until(&scene), None, "an agent that knows nothing yet leaves the deadline as it is");
}

/// Its knowledge may be from before it led: an agent of a Raft group is given what it had
/// written down, and learns a little later what of it is agreed. In async its server then
/// outlived its lease (seed 2159 of the storm).
#[test]
fn c25_an_agent_that_was_just_started_moves_no_deadline_before_it_has_looked_at_its_server() {
    let mut scene = Scene::of("n2", 10_000);
    let seen = scene.me.server.take();
    assert_eq!(fencing::guard_deadline(&scene.view()), None);
    scene.me.server = seen;
    assert_eq!(fencing::guard_deadline(&scene.view()), Some(at(13_000)));
    let mut scene = Scene::of("n1", 10_000);
    scene.hear("n2", 9_800, &[("n1", 100)], None);
    scene.me.vows.last_rule_seen = Some((Term(1), 99, Rule::leader_only()));
    assert_eq!(
        fencing::guard_deadline(&scene.view()),
        None,
        "it put a rule in force that it does not know of"
    );
}

/// Whoever is to fence it may be held up: the guard stands still, the disk hangs.
#[test]
fn c25_a_server_that_writes_and_does_not_lead_keeps_the_deadline_that_it_had() {
    let mut scene = Scene::of("n2", 10_000);
    let until = |s: &Scene| fencing::guard_deadline(&s.view());
    let runs = |state| Some(ServerReport { state, ..ServerReport::default() });
    scene.me.server = runs(ServerState::Standby);
    assert_eq!(until(&scene), Some(at(13_000)));
    for state in [ServerState::Primary, ServerState::Promoting] {
        scene.me.server = runs(state);
        assert_eq!(until(&scene), None, "{state:?}");
    }
}

#[test]
fn c26_an_async_leader_leads_as_long_as_its_last_read_of_the_store() {
    let mut scene = Scene::of("n1", 10_000);
    scene.state.rules[0].rule = Rule::leader_only();
    scene.state.rules[0].mode = Durability::Async;
    scene.watch.store_read_at = at(9_000);
    scene.hear("n2", 9_900, &[("n1", 10)], None);
    assert_eq!(fencing::guard_deadline(&scene.view()), Some(at(12_000)));
}

#[test]
fn c26_what_was_read_before_the_lease_began_does_not_kill_the_server() {
    let mut scene = Scene::of("n1", 10_000);
    let until = |s: &Scene| fencing::guard_deadline(&s.view());
    scene.watch.store_read_at = at(1_000);
    scene.watch.on_state(&scene.state, at(2_000));
    scene.state.settings.durability = Durability::Async;
    scene.state.rules[0].mode = Durability::Async;
    scene.watch.on_state(&scene.state, at(9_900));
    assert_eq!(until(&scene), None, "the deadline of the quorum mode holds");
    scene.watch.on_state(&scene.state, at(9_950));
    scene.watch.store_read_at = at(9_900);
    assert_eq!(until(&scene), Some(at(12_900)));
    // A new term of ours, or an agent that was just started, which knows nothing of the last read.
    scene.state.ctl.term = Term(2);
    scene.watch.on_state(&scene.state, at(9_960));
    assert_eq!(until(&scene), None);
    let lost = scene.now.0 + Duration::from_secs(60);
    (scene.now, scene.watch.store_read_at) = (Time(lost), at(9_970));
    assert_eq!(until(&scene), Some(at(12_970)), "and the lease is not made longer by waiting");
}

#[test]
fn c26_an_async_leader_reads_the_store_before_it_is_promoted() {
    let mut scene = Scene::of("n1", 10_000);
    scene.state.rules[0].mode = Durability::Async;
    scene.state.ctl.phase = Phase::Elected;
    scene.me.server = Some(ServerReport { state: ServerState::Standby, ..ServerReport::default() });
    scene.watch.phase_since = at(9_900);
    let promotes = |s: &Scene| matches!(decide(&s.view()).action, Some(Action::Promote { .. }));
    assert!(!promotes(&scene));
    scene.watch.store_read_at = at(9_900);
    assert!(promotes(&scene));
}

#[test]
fn c18_a_minority_is_not_asked_to_give_anybody_up() {
    let state = state();
    let mut scene = Scene::of("n2", 10_000);
    scene.hear("n1", 9_900, &[], None);
    scene.hear("n2", 9_900, &[], None);
    let said = |age| scene.peers.iter().map(|(n, h)| (n.clone(), (h.report.clone(), age))).collect();
    let asked = Asked { by: node("n2"), term: Term(2), to: None, accept_loss: [node("n3")].into() };
    let judged = |reports| forecast::failover(forecast::Scene { state: &state, reports: &reports }, &asked);
    assert_eq!(judged(said(5_000)), Err(Unwise::NoMajority { heard: 0, seats: 3 }));
    assert!(!matches!(judged(said(0)), Err(Unwise::NoMajority { .. })));
}

/// A standby that n1's server refuses: what its agent begins in `ms`, told after each deed how it went.
fn begins(controller: &mut Controller, ms: std::ops::Range<u64>, fails: bool) -> Vec<Action> {
    let mut begun = Vec::new();
    for now in ms.step_by(100) {
        let mut leader = Scene::of("n2", now);
        leader.hear("n1", now, &[("n2", 50)], None);
        let mut report = leader.peers.remove(&node("n1")).expect("just heard").report;
        let lineage = Lineage { timeline: Timeline(2), ..Lineage::default() };
        report.server =
            Some(ServerReport { state: ServerState::Primary, lineage, ..ServerReport::default() });
        report.seq = now;
        let standby = ServerReport { state: ServerState::Standby, ..ServerReport::default() };
        let heard = controller.step(at(now), 0, Happened::Heard(Box::new(report)));
        let probed = controller.step(at(now), 0, Happened::Probed(Box::new(standby), None));
        for action in heard.perform.into_iter().chain(probed.perform) {
            let setback = Setback { why: "its guard did not answer".into(), of_the_data: false };
            let outcome = if fails { Err(setback) } else { Ok(Outcome::Done) };
            controller.step(at(now), 0, Happened::Done(Box::new(action.clone()), outcome));
            begun.push(action);
        }
    }
    begun
}

#[test]
fn a_restart_for_the_leader_is_done_once_a_term_and_tried_until_it_is() {
    let vows = Vows { member: Some(id("n2")), promise: Term(1), ..Vows::default() };
    let mut controller = Controller::new(Facts::new(node("n2"), 1, Kind::Data, vows));
    controller.step(at(0), 0, Happened::State(Arc::new(state())));
    let follow = |afresh| Action::Follow { term: Term(1), leader: id("n1"), afresh };
    assert_eq!(begins(&mut controller, 1..2_900, false), [follow(false)]);
    let failed = begins(&mut controller, 2_901..4_000, true);
    assert!(failed.len() > 1 && failed.iter().all(|a| *a == follow(true)), "{failed:?}");
    let done = begins(&mut controller, 5_001..12_000, false);
    assert_eq!(done.first(), Some(&follow(true)));
    assert!(done.iter().skip(1).all(|a| *a == follow(false)), "{done:?}");
}

#[test]
fn c3_the_promise_of_a_witness_that_keeps_wal_counts_once_its_ack_path_is_cut() {
    let mut scene = Scene::of("n2", 1_000);
    scene.state.ctl.term = Term(2);
    scene.state.ctl.phase = Phase::Revoking;
    scene.hear("n3", 1_000, &[], None);
    let counts = |scene: &mut Scene, kind: Kind| {
        scene.state.members.get_mut(&node("n3")).expect("it is a member").kind = kind;
        scene.peers.get_mut(&node("n3")).expect("it spoke").report.vows.promise = Term(2);
        let all = failover::election::evidence(&scene.view(), Term(2));
        all.iter().any(|e| e.member == id("n3") && e.promise == Term(2))
    };
    assert!(counts(&mut scene, Kind::Witness), "it has none");
    assert!(!counts(&mut scene, Kind::WalWitness), "it may acknowledge still");
    assert!(!counts(&mut scene, Kind::Data));
}

#[test]
fn a_wal_witness_whose_disk_fills_wants_out_and_a_standby_in_trouble_does_not() {
    for (kind, wants_out) in [(Kind::WalWitness, true), (Kind::Data, false)] {
        let mut scene = Scene::of("n2", 1_000);
        scene.state.members.get_mut(&node("n2")).expect("it is a member").kind = kind;
        scene.me.kind = kind;
        scene.hear("n1", 1_000, &[("n2", 0)], None);
        let server = scene.me.server.as_mut().expect("it was probed");
        server.streaming = Some(Term(1));
        assert!(!decide(&scene.view()).wants_out, "all is well");
        let server = scene.me.server.as_mut().expect("it was probed");
        server.trouble = Some("it keeps 20000 MB of WAL".into());
        assert_eq!(decide(&scene.view()).wants_out, wants_out, "{kind:?}");
    }
}
