//! Where clients are sent, and what they are told of a COMMIT whose answer was lost.

use std::collections::BTreeMap;

use api::routes::{Drained, Fate, OPENINGS_MAX, Opening, Own, RanIn, Role, Routes, fate, fate_of, routes};
use cluster::command::{Kind, Member, MemberState};
use cluster::report::{Leading, Report, ServerReport, ServerState};
use cluster::state::{Control, Election, Phase, Switchover};
use cluster::{ClusterState, Lsn, MemberId, NodeId, Position, Rule, Term, Timeline};

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a good name")
}

fn id(name: &str) -> MemberId {
    MemberId::new(node(name), 1)
}

fn opening(term: u64, next_xid: Option<u64>, survives: bool) -> Opening {
    Opening { term, timeline: 1 + 2 * u32::try_from(term).expect("small"), next_xid, survives }
}

/// A proxy that has heard no agent for a moment goes on with n1, which was killed and leads again.
#[test]
fn c17_it_ran_where_its_server_says_and_not_where_a_proxy_believed() {
    let all = [opening(5, Some(700), true), opening(6, Some(800), true)];
    let (old, new) = (all[0].timeline, all[1].timeline);
    let believed = |timeline| RanIn { term: 5, timeline };
    assert_eq!(fate_of(&all, believed(0), 800, 0), Some(Fate::NotCommitted), "nobody was asked");
    assert_eq!(fate_of(&all, believed(new), 800, new), Some(Fate::AskXactStatus));
    assert_eq!(fate_of(&all, believed(old), 800, new), Some(Fate::NotCommitted));
    assert_eq!(fate_of(&all, believed(77), 800, new), Some(Fate::Unknown), "a timeline of nobody's");
    // Who would be asked is not the leader of which these tell: it may have given out the number again.
    assert_eq!(fate_of(&all[..1], believed(old), 700, new), None);
    assert_eq!(fate_of(&[], believed(old), 700, new), None, "no term is open");
}

#[test]
fn c17_the_fate_of_a_commit() {
    let check = |openings: &[Opening], ran_in, xid, expected| {
        assert_eq!(fate(openings, ran_in, xid), expected, "{xid} of term {ran_in}: {openings:?}");
    };
    let (lost, ask, unknown) = (Fate::NotCommitted, Fate::AskXactStatus, Fate::Unknown);
    let plain = [opening(5, Some(700), true), opening(6, Some(800), true)];
    check(&plain, 5, 800, lost);
    check(&plain, 5, 801, lost);
    check(&plain, 5, 799, ask);
    check(&plain, 6, 900, ask); // Only the connection broke.
    // The first term after its own decides, also when later ones have begun.
    let later = [plain[0], plain[1], opening(7, Some(950), true)];
    check(&later, 5, 900, lost);
    check(&later, 6, 900, ask);
    // One that led from a shorter log and gave out 750 again; the longer log leads now.
    let forked = [opening(5, Some(700), true), opening(6, Some(750), false), opening(7, Some(800), true)];
    check(&forked, 6, 750, lost);
    check(&forked, 6, 1, lost);
    check(&forked, 5, 760, ask);
    // O-14: it survives and has told no number: perhaps it never promoted, perhaps it did.
    let silent = [opening(5, Some(700), true), opening(6, None, true), opening(7, Some(800), true)];
    check(&silent, 5, 1, unknown);
    check(&silent, 5, 999, unknown);
    check(&silent, 6, 800, lost);
    // One without a number that does not survive decides nothing.
    let aside = [opening(5, Some(700), true), opening(6, None, false), opening(7, Some(800), true)];
    check(&aside, 5, 799, ask);
    // Longer ago than is told, or no term is open.
    check(&plain, 4, 1, unknown);
    check(&[], 5, 1, unknown);
}

fn election(term: u64, tli: u32, parent: u32, next_xid: Option<u64>) -> Election {
    let opened = next_xid.map(|next_xid| cluster::state::Opening { switch_lsn: Lsn::ZERO, next_xid });
    Election {
        term: Term(term),
        leader: id("n1"),
        tli: Timeline(tli),
        parent_tli: Timeline(parent),
        base: Position::new(Term(term.saturating_sub(1)), Lsn::ZERO),
        rule: Rule::leader_only(),
        opened,
    }
}

fn member(kind: Kind, state: MemberState) -> Member {
    Member {
        incarnation: 1,
        raft_id: 2,
        nonce: 1,
        kind,
        addresses: Default::default(),
        tags: Default::default(),
        state,
        leaving: false,
        reinit: false,
    }
}

/// n1 leads term 3 of n1, n2, n3 and a witness.
fn led(phase: Phase) -> ClusterState {
    let data = |n: &str| (node(n), member(Kind::Data, MemberState::Voter));
    let witness = (node("w1"), member(Kind::Witness, MemberState::Voter));
    ClusterState {
        cluster: "shop".to_string(),
        members: [data("n1"), data("n2"), data("n3"), witness].into(),
        ctl: Control { term: Term(3), phase, leader: Some(id("n1")), ..Control::default() },
        elections: vec![election(1, 3, 1, Some(10)), election(3, 7, 3, Some(0))],
        ..ClusterState::default()
    }
}

type Reports = BTreeMap<NodeId, (Report, u64)>;

fn leader_says(change: impl FnOnce(&mut Report)) -> Reports {
    let leading = Leading { term: Term(3), writable: true, end: Lsn(1000), ..Leading::default() };
    let mut report = Report { leading: Some(leading), ..Report::first(id("n1")) };
    change(&mut report);
    [(node("n1"), (report, 50))].into()
}

#[test]
fn writes_go_to_the_leader_of_an_open_term_until_it_resigns() {
    let leader =
        |phase, reports: &Reports, me: &str, own| routes(&led(phase), reports, &node(me), own).leader;
    let (well, nothing) = (leader_says(|_| {}), Own::default());
    let gone = leader_says(|r| r.vows.resigned = Term(3));
    assert_eq!(leader(Phase::Open, &well, "n2", nothing), Some(node("n1")));
    assert_eq!(
        leader(Phase::Open, &BTreeMap::new(), "n2", nothing),
        Some(node("n1")),
        "nobody said otherwise"
    );
    assert_eq!(leader(Phase::Elected, &well, "n2", nothing), None);
    assert_eq!(leader(Phase::Revoking, &well, "n2", nothing), None);
    assert_eq!(leader(Phase::Open, &gone, "n2", nothing), None);
    let resigned = Own { resigned: Term(3), handing_over: true };
    assert_eq!(leader(Phase::Open, &well, "n1", resigned), None, "it knows before its report says so");
    assert_eq!(leader(Phase::Open, &well, "n2", resigned), Some(node("n1")), "that was somebody else");
}

#[test]
fn a_hand_over_is_told_while_there_is_one() {
    let mut state = led(Phase::Open);
    let own = Own { resigned: Term(0), handing_over: true };
    let told = |state: &ClusterState, reports: &Reports, me: &str| {
        routes(state, reports, &node(me), own).handing_over
    };
    let quiet = leader_says(|_| {});
    let speaks = leader_says(|r| r.leading.as_mut().expect("it leads").handing_over = true);
    assert!(!told(&state, &quiet, "n1"), "it was called off");
    state.ctl.target = Some(Switchover { to: Some(node("n2")), at_ms: None, asked_ms: 0 });
    assert!(told(&state, &quiet, "n1"));
    assert!(!told(&state, &quiet, "n2"), "a standby has nothing to hand over");
    assert!(told(&state, &speaks, "n2"), "the leader told it");
    assert!(told(&state, &leader_says(|r| r.leading = None), "n2"), "its server is gone already");
    assert!(!told(&state, &BTreeMap::new(), "n2"), "nobody has told anything");
}

#[test]
fn members_say_what_they_can_be_read_for() {
    let mut state = led(Phase::Open);
    state.members.insert(node("n4"), member(Kind::Data, MemberState::Clone));
    state.members.insert(node("n5"), member(Kind::Data, MemberState::Removed));
    let mut reports = leader_says(|_| {});
    let server = |state, streaming| ServerReport {
        state,
        streaming,
        replay: Lsn(900),
        replay_lag_ms: 7,
        ..ServerReport::default()
    };
    let mut says = |name: &str, state, streaming, age| {
        let report = Report { server: Some(server(state, streaming)), ..Report::first(id(name)) };
        reports.insert(node(name), (report, age));
    };
    says("n2", ServerState::Standby, Some(Term(3)), 100);
    says("n3", ServerState::Standby, Some(Term(2)), 9_000);
    says("n4", ServerState::Down, None, 100);
    let told = routes(&state, &reports, &node("n1"), Own::default());
    let of = |name: &str| told.members.iter().find(|m| m.name == node(name)).expect("it is told").clone();
    assert_eq!((of("n1").role, of("w1").role), (Role::Leader, Role::Witness));
    assert_eq!(told.elected(), Some(&node("n1")));
    let n2 = of("n2");
    assert_eq!((n2.streaming, n2.replay_lag_ms, n2.lag_bytes), (true, Some(7), Some(100)));
    assert_eq!((n2.role, n2.unreachable, n2.maintenance), (Role::Standby, false, false));
    let n3 = of("n3");
    assert_eq!((n3.streaming, n3.replay_lag_ms, n3.unreachable), (false, None, true));
    assert!(of("n4").maintenance);
    assert!(told.members.iter().all(|m| m.name != node("n5")), "it was taken out");
}

#[test]
fn openings_tell_the_lineage_of_the_leader() {
    let mut state = led(Phase::Open);
    // Term 2 opened and led nowhere: 3 grew from 1's timeline again, 4 was never opened.
    state.elections = vec![
        election(1, 3, 1, Some(10)),
        election(2, 5, 3, Some(20)),
        election(4, 9, 5, None),
        election(5, 11, 3, Some(30)),
    ];
    let expected = [
        opening(1, Some(10), true),
        opening(2, Some(20), false),
        opening(4, None, false),
        opening(5, Some(30), true),
    ];
    let told = |state: &ClusterState| routes(state, &BTreeMap::new(), &node("n2"), Own::default()).openings;
    assert_eq!(told(&state), expected);
    // A later one grew from what 4 had promoted without being recorded as open (O-14).
    state.elections.push(election(6, 13, 9, Some(40)));
    let survive: Vec<bool> = told(&state).iter().map(|o| o.survives).collect();
    assert_eq!(survive, [true, true, true, false, true]);
    state.ctl.phase = Phase::Elected;
    assert!(told(&state).is_empty(), "nothing is settled before the next term is open");
    state.ctl.phase = Phase::Open;
    state.elections = (1..=40).map(|t| election(t, t as u32 * 2 + 1, t as u32 * 2 - 1, Some(t))).collect();
    let newest: Vec<u64> = told(&state).iter().map(|o| o.term).collect();
    assert_eq!((newest.len(), newest[0]), (OPENINGS_MAX, 25));
    assert!(told(&state).iter().all(|o| o.survives));
}

#[test]
fn a_number_of_zero_is_none() {
    let told = routes(&led(Phase::Open), &BTreeMap::new(), &node("n2"), Own::default());
    assert_eq!(told.openings[1], opening(3, None, true));
}

#[test]
fn it_comes_over_the_wire_as_it_was() {
    let told = routes(&led(Phase::Open), &leader_says(|_| {}), &node("n1"), Own::default());
    assert_eq!(Routes::from_bytes(&told.to_bytes()), Some(told.clone()));
    let text = serde_json::to_string(&told).expect("it is plain");
    assert!(text.contains(r#""phase":"open""#) && text.contains(r#""role":"witness""#), "{text}");
    assert_eq!(serde_json::from_str::<Routes>(&text).expect("it is its own"), told);
    assert_eq!(Routes::from_bytes(&[255; 3]), None);
    let drained = Drained { term: 9 };
    assert_eq!(Drained::from_bytes(&drained.to_bytes()), Some(drained));
}

#[test]
fn lags_route_nobody_otherwise() {
    let told = routes(&led(Phase::Open), &leader_says(|_| {}), &node("n1"), Own::default());
    let mut other = told.clone();
    other.members[1].lag_bytes = Some(5);
    assert!(told.routes_as(&other));
    other.members[1].streaming = true;
    assert!(!told.routes_as(&other));
}
