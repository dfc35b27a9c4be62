//! The clarifications C-2 to C-18 of docs/protocol.md that `ClusterState::apply`
//! holds: each test fails when its clarification is undone.

mod common;

use cluster::command::{Addresses, Change, Evidence, MemberState};
use cluster::lineage::Branch;
use cluster::{ClusterState, Durability, Lineage, Lsn, Position, Reason, Rule, Term, Timeline};
use common::*;

fn revoking() -> ClusterState {
    let s = three();
    must(&s, "n2", begin(&s, missed(&["n2", "n3"])))
}

/// n2 elected in term 2 from 300, not opened.
fn elected() -> ClusterState {
    let s = revoking();
    let evidence = vec![says("n2", 2, 300), says("n3", 2, 250)];
    must(&s, "n2", elect(&s, "n2", evidence, rule(&["n3"], 1)))
}

/// The past of a server on term 2's timeline, which left term 1's at `end`.
fn on_term_2(end: u64) -> Lineage {
    let mut past = on_term_1();
    past.ancestors.push(Branch { timeline: Timeline(2), end: Lsn(end) });
    Lineage { timeline: Timeline(4), ..past }
}

#[test]
fn c2_commits_of_an_elected_and_unopened_term_are_judged_by_its_election() {
    let s = elected();
    let s = must(&s, "n3", begin(&s, operator(None, &[])));
    let later = |end: u64| Evidence {
        position: Some(Position::new(Term(2), Lsn(400))),
        lineage: on_term_2(end),
        ..says("n3", 3, 0)
    };
    // n3 followed n2 and acknowledged in term 2, which never opened: it overcomes term 1's rule too.
    let alone = vec![Evidence { resigned: Term(0), ..later(300) }];
    assert_eq!(code(ask(&s, "n3", elect(&s, "n3", alone, rule(&["n1"], 1)))), "accepted");
    // A past that left term 1's timeline before the election's position is nobody's.
    let foreign = vec![later(299)];
    assert_eq!(code(ask(&s, "n3", elect(&s, "n3", foreign, rule(&["n1"], 1)))), "TAN0106");
}

#[test]
fn c2_no_rule_number_comes_twice() {
    let s = elected();
    let mut subs: Vec<u64> = s.rules.iter().map(|r| r.sub).collect();
    subs.dedup();
    assert_eq!(subs.len(), 2);
    assert!(s.sub_next >= *subs.iter().max().unwrap());
}

#[test]
fn c3_every_active_rule_must_be_blocked_and_discovered() {
    let s = revoking();
    let to = rule(&["n3"], 1);
    let try_with = |evidence: Vec<Evidence>| code(ask(&s, "n2", elect(&s, "n2", evidence, to.clone())));
    // By members of S: both, as one alone is no blocking set of 'any 1 of n2, n3'.
    assert_eq!(try_with(vec![says("n2", 2, 300), says("n3", 2, 300)]), "accepted");
    assert_eq!(try_with(vec![says("n2", 2, 300)]), "TAN0106");
    // A promise to an older term, read before the ack path was cut, counts for nothing.
    assert_eq!(try_with(vec![says("n2", 2, 300), says("n3", 1, 300)]), "TAN0106");
    // Blocked, but not discovered: n3 can't tell where its WAL ends.
    let blank = Evidence { position: None, ..says("n3", 2, 0) };
    assert_eq!(try_with(vec![says("n2", 2, 300), blank]), "TAN0106");
    // The candidate lacks what another member of S has.
    assert_eq!(try_with(vec![says("n2", 2, 300), says("n3", 2, 301)]), "TAN0106");
    // By the leader: it resigned, and the candidate reaches its position.
    let old = |resigned, lsn| Evidence { resigned: Term(resigned), ..says("n1", 2, lsn) };
    assert_eq!(try_with(vec![says("n2", 2, 300), old(1, 300)]), "accepted");
    assert_eq!(try_with(vec![says("n2", 2, 300), old(1, 301)]), "TAN0106");
    assert_eq!(try_with(vec![says("n2", 2, 300), old(0, 300)]), "TAN0106");
    // The candidate's own position was read for an older term, before its ack path was cut.
    assert_eq!(try_with(vec![says("n2", 1, 300), old(1, 300)]), "TAN0107");
}

#[test]
fn c3_an_illegal_history_blocks_and_never_discovers() {
    let s = revoking();
    let strange = Evidence { lineage: Lineage::default(), ..says("n3", 2, 300) };
    let evidence = vec![says("n2", 2, 300), strange];
    assert_eq!(code(ask(&s, "n2", elect(&s, "n2", evidence, rule(&["n3"], 1)))), "TAN0106");
}

#[test]
fn c3_all_rules_of_a_change_and_of_older_terms_count() {
    let s = three();
    let s = must(&s, "n1", change_rule(1, 2, rule(&["n2"], 1), &["n2"]));
    let s = must(&s, "n2", begin(&s, missed(&["n2", "n3"])));
    assert_eq!(s.rules.len(), 2);
    let one = vec![says("n2", 2, 300)];
    assert_eq!(code(ask(&s, "n2", elect(&s, "n2", one, rule(&["n3"], 1)))), "TAN0106");
    // Elected keeps the older rules, Opened drops them and no other.
    let s = elected();
    assert_eq!(s.rules.iter().map(|r| r.term.0).collect::<Vec<_>>(), [1, 2]);
    let s = must(&s, "n2", opened(2, 4, 300, s.sub_next));
    assert_eq!(s.rules.iter().map(|r| r.term.0).collect::<Vec<_>>(), [2]);
}

#[test]
fn c6_a_change_that_postgresql_can_not_make_in_one_step_is_refused() {
    let s = three();
    let asked = |rule: Rule| code(ask(&s, "n1", change_rule(1, 2, rule, &["n3"])));
    assert_eq!(asked(rule(&["n2", "n3"], 2)), "accepted");
    let s = must(&s, "n1", change_rule(1, 2, rule(&["n2", "n3"], 2), &[]));
    let s = must(&s, "n1", Change::RuleEnd { term: Term(1), keep: 3, drop: 2, lsn: Lsn(300) });
    assert_eq!(code(ask(&s, "n1", change_rule(1, 3, rule(&["n2"], 1), &["n3"]))), "TAN0109");
}

#[test]
fn c10_a_member_leaves_every_rule_before_its_copy_is_made_anew() {
    let s = three();
    assert_eq!(code(ask(&s, "n2", set_state("n2", MemberState::Clone, 1))), "TAN0115");
    // It never attached to this term's leader, so it acknowledged nothing under the rule (O-8).
    assert_eq!(code(ask(&s, "n2", set_state("n2", MemberState::Clone, 0))), "accepted");
    let s = must(&s, "n1", change_rule(1, 2, rule(&["n3"], 1), &["n2"]));
    assert_eq!(code(ask(&s, "n2", set_state("n2", MemberState::Clone, 1))), "TAN0115");
    let s = must(&s, "n1", Change::RuleEnd { term: Term(1), keep: 3, drop: 2, lsn: Lsn(300) });
    let s = must(&s, "n2", set_state("n2", MemberState::Clone, 1));
    // Its promise would count, its position does not.
    let s = must(&s, "n3", begin(&s, operator(None, &[])));
    assert_eq!(code(ask(&s, "n2", elect(&s, "n2", vec![says("n2", 2, 900)], rule(&["n3"], 1)))), "TAN0107");
}

#[test]
fn c10_a_new_disk_is_somebody_new_for_whom_no_rule_speaks() {
    let s = three();
    let join = Change::Join { node: "n3".parse().unwrap(), addresses: Addresses::default(), nonce: 99 };
    let s = must(&s, "n3", join);
    assert_eq!(s.members[&node("n3")].incarnation, 2);
    let s = must(&s, "n2", begin(&s, operator(None, &[])));
    let reborn = Evidence { member: cluster::MemberId::new(node("n3"), 2), ..says("n3", 2, 900) };
    let evidence = vec![says("n2", 2, 300), reborn];
    assert_eq!(code(ask(&s, "n2", elect(&s, "n2", evidence, rule(&["n3"], 1)))), "TAN0106");
}

#[test]
fn c13_a_term_begins_on_a_resignation_of_its_leader() {
    let s = three();
    let by = |trigger| code(ask(&s, "n2", begin(&s, trigger)));
    assert_eq!(by(resigned("n1", 1)), "accepted");
    assert_eq!(by(resigned("n1", 0)), "TAN0105");
    assert_eq!(by(resigned("n2", 1)), "TAN0105");
    let s = revoking();
    assert_eq!(
        code(ask(&s, "n2", begin(&s, resigned("n1", 1)))),
        "TAN0105",
        "nobody leads a recruiting term"
    );
}

#[test]
fn c13_a_term_begins_on_a_pre_vote_of_those_who_could_carry_it() {
    let s = three();
    let by = |names: &[&str]| code(ask(&s, "n2", begin(&s, missed(names))));
    assert_eq!(by(&["n2", "n3"]), "accepted");
    assert_eq!(by(&["n2"]), "TAN0105");
    assert_eq!(by(&["n2", "n1"]), "TAN0105", "a leader does not miss itself");
    assert_eq!(by(&["n2", "n9"]), "TAN0105");
}

#[test]
fn c13_pause_stops_what_nobody_asked_for() {
    let s = must(&three(), "n1", Change::Pause);
    assert_eq!(code(ask(&s, "n2", begin(&s, missed(&["n2", "n3"])))), "TAN0105");
    // The leader's crash begins a term, and only it may lead again on its own node.
    let after = must(&s, "n1", begin(&s, resigned("n1", 1)));
    let old = Evidence { resigned: Term(1), ..says("n1", 2, 300) };
    let evidence = vec![says("n2", 2, 300), says("n3", 2, 300), old];
    assert_eq!(code(ask(&after, "n2", elect(&after, "n2", evidence.clone(), rule(&["n3"], 1)))), "TAN0107");
    assert_eq!(code(ask(&after, "n2", elect(&after, "n1", evidence.clone(), rule(&["n3"], 1)))), "accepted");
    // An operator's word passes.
    let after = must(&s, "n1", begin(&s, operator(None, &[])));
    assert_eq!(code(ask(&after, "n2", elect(&after, "n2", evidence, rule(&["n3"], 1)))), "accepted");
}

#[test]
fn c13_an_isolated_leader_does_not_shrink_by_its_own_word() {
    let s = three();
    let by = |agreed: &[&str]| code(ask(&s, "n1", change_rule(1, 2, rule(&["n3"], 1), agreed)));
    assert_eq!(by(&[]), "TAN0109");
    assert_eq!(by(&["n1"]), "TAN0109");
    assert_eq!(by(&["n9"]), "TAN0109");
    assert_eq!(by(&["n3"]), "accepted");
}

#[test]
fn c13_a_leader_asks_for_fewer_acknowledgements_only_as_settings_or_others_say() {
    let five = cluster(&["n1", "n2", "n3", "n4", "n5"], Durability::Quorum);
    let mut two = five.settings.clone();
    two.acks = 2;
    let s = must(&five, "n1", Change::SetSettings(two));
    let all = ["n2", "n3", "n4", "n5"];
    let s = must(&s, "n1", change_rule(1, 2, rule(&all, 2), &[]));
    let s = must(&s, "n1", Change::RuleEnd { term: Term(1), keep: 3, drop: 2, lsn: Lsn(300) });
    let lower = |s: &ClusterState, by: &[&str]| code(ask(s, "n1", change_rule(1, 3, rule(&all, 1), by)));
    assert_eq!(lower(&s, &[]), "TAN0109");
    assert_eq!(lower(&s, &["n1"]), "TAN0109");
    assert_eq!(lower(&s, &["n2"]), "accepted");
    let mut leaving = s.clone();
    for name in ["n3", "n4", "n5"] {
        assert_eq!(lower(&leaving, &[]), "TAN0109", "two are left");
        leaving = must(&leaving, "n1", Change::RemoveMember { node: node(name) });
    }
    assert_eq!(lower(&leaving, &[]), "accepted", "one is left");
    let s = must(&s, "n1", Change::SetSettings(five.settings.clone()));
    assert_eq!(lower(&s, &[]), "accepted", "an operator wants fewer");
}

#[test]
fn c15_only_relaxed_and_those_who_are_alone_wait_for_nobody() {
    let begin_and_elect = |s: ClusterState| {
        let s = must(&s, "n2", begin(&s, missed(&["n2", "w"])));
        code(ask(&s, "n2", elect(&s, "n2", vec![says("n2", 2, 300)], Rule::leader_only())))
    };
    assert_eq!(begin_and_elect(cluster(&["n1", "n2", "w"], Durability::QuorumRelaxed)), "accepted");
    assert_eq!(begin_and_elect(cluster(&["n1", "n2", "w"], Durability::Quorum)), "TAN0109");
    // After the shrink only the leader's own word elects.
    let s = cluster(&["n1", "n2", "w"], Durability::QuorumRelaxed);
    let s = must(&s, "n1", change_rule(1, 2, Rule::leader_only(), &["w"]));
    let s = must(&s, "n1", Change::RuleEnd { term: Term(1), keep: 3, drop: 2, lsn: Lsn(300) });
    assert_eq!(code(ask(&s, "n2", begin(&s, missed(&["n2", "w"])))), "TAN0105");
    let s = must(&s, "n2", begin(&s, operator(None, &[])));
    let try_with = |e: Vec<Evidence>| code(ask(&s, "n2", elect(&s, "n2", e, Rule::leader_only())));
    assert_eq!(try_with(vec![says("n2", 2, 300)]), "TAN0106");
    let old = Evidence { resigned: Term(1), ..says("n1", 2, 300) };
    assert_eq!(try_with(vec![says("n2", 2, 300), old]), "accepted");
}

#[test]
fn c16_the_claim_is_the_first_election_and_starts_with_the_leader_alone() {
    let s = must(&ClusterState::default(), "n1", claim(&["n1", "n2"], Durability::Quorum));
    assert_eq!((s.rules.len(), s.rules[0].rule.clone()), (1, Rule::leader_only()));
    assert_eq!((s.elections[0].term, s.elections[0].tli), (Term(1), Timeline(2)));
    assert_eq!(code(ask(&s, "n2", claim(&["n1", "n2"], Durability::Quorum))), "TAN0101");
    assert_eq!(code(ask(&ClusterState::default(), "w", claim(&["n1", "w"], Durability::Quorum))), "TAN0107");
    assert_eq!(code(ask(&ClusterState::default(), "n9", claim(&["n1"], Durability::Quorum))), "TAN0112");
    assert_eq!(code(ask(&ClusterState::default(), "n1", Change::Pause)), "TAN0102");
}

#[test]
fn c17_the_first_transaction_of_a_term_is_kept_with_its_election() {
    let s = elected();
    let s = must(&s, "n2", opened(2, 4, 300, s.sub_next));
    assert_eq!(s.election().unwrap().opened.unwrap().next_xid, 702);
}

#[test]
fn c18_what_is_given_up_is_what_only_the_dead_have() {
    let s = three();
    let after = must(&s, "n3", begin(&s, operator(None, &["n1"])));
    let try_with = |e: Vec<Evidence>| code(ask(&after, "n3", elect(&after, "n3", e, rule(&["n2"], 1))));
    assert_eq!(try_with(vec![says("n3", 2, 250)]), "TAN0106", "n2 was not given up");
    assert_eq!(try_with(vec![says("n3", 2, 250), says("n2", 2, 300)]), "TAN0106", "n2 has more");
    let after = must(&s, "n3", begin(&s, operator(None, &["n1", "n2"])));
    let lone = elect(&after, "n3", vec![says("n3", 2, 250)], Rule::leader_only());
    let opened_alone = must(&after, "n3", lone);
    assert_eq!(opened_alone.rules.len(), 2, "older rules stay until it opened");
    let back = set_state("n1", MemberState::Voter, 1);
    assert_eq!(code(ask(&opened_alone, "n1", back)), "TAN0104", "nobody counts again before it opened");
    let open = must(&opened_alone, "n3", opened(2, 4, 250, opened_alone.sub_next));
    let back = set_state("n1", MemberState::Voter, 1);
    assert_eq!(code(ask(&open, "n1", back)), "TAN0117", "banned until it rejoins as new");
}

#[test]
fn c18_a_voter_outside_the_rule_must_speak_too() {
    let s = cluster(&["n1", "n2", "n3", "w"], Durability::QuorumRelaxed);
    let s = must(&s, "n1", change_rule(1, 2, Rule::leader_only(), &["w"]));
    let s = must(&s, "n1", Change::RuleEnd { term: Term(1), keep: 3, drop: 2, lsn: Lsn(300) });
    let s = must(&s, "n3", begin(&s, operator(None, &["n1"])));
    let one = vec![says("n3", 2, 250)];
    assert_eq!(code(ask(&s, "n3", elect(&s, "n3", one.clone(), rule(&["n2"], 1)))), "TAN0106");
    let both = [one, vec![says("n2", 2, 240)]].concat();
    assert_eq!(code(ask(&s, "n3", elect(&s, "n3", both, rule(&["n2"], 1)))), "accepted");
}

#[test]
fn c3_a_leader_that_has_not_resigned_still_acknowledges_alone() {
    let s = cluster(&["n1", "n2", "w"], Durability::QuorumRelaxed);
    let s = must(&s, "n1", change_rule(1, 2, Rule::leader_only(), &["w"]));
    let s = must(&s, "n1", Change::RuleEnd { term: Term(1), keep: 3, drop: 2, lsn: Lsn(300) });
    let s = must(&s, "n1", begin(&s, operator(None, &["n2"])));
    // n1's word discovers all there is, but it is not blocked before it resigned.
    let alive = vec![says("n1", 2, 300)];
    assert_eq!(code(ask(&s, "n1", elect(&s, "n1", alive, Rule::leader_only()))), "TAN0106");
}

#[test]
fn c18_somebody_has_to_be_left() {
    let s = three();
    let by = |to, dead: &[&str]| code(ask(&s, "n2", begin(&s, operator(to, dead))));
    assert_eq!(by(None, &["n1", "n2", "n3"]), "TAN0118");
    assert_eq!(by(Some("n2"), &["n2"]), "TAN0107");
    assert_eq!(by(None, &["n9"]), "TAN0112");
    // A written-off candidate stays unfit in every later term.
    let s = must(&s, "n2", begin(&s, operator(None, &["n1"])));
    assert_eq!(code(ask(&s, "n2", begin(&s, operator(Some("n1"), &[])))), "TAN0107");
}

#[test]
fn c21_a_rule_change_ends_by_number_and_no_other_is_dropped() {
    let s = three();
    let s = must(&s, "n1", change_rule(1, 2, rule(&["n2"], 1), &["n2"]));
    let end = |keep, drop| code(ask(&s, "n1", Change::RuleEnd { term: Term(1), keep, drop, lsn: Lsn(9) }));
    assert_eq!(end(3, 3), "TAN0110");
    assert_eq!(end(1, 2), "TAN0110");
    assert_eq!(end(2, 3), "TAN0109", "walsenders may have the newer in force");
    assert_eq!(end(3, 2), "accepted");
}

#[test]
fn c26_async_waits_for_the_time_of_a_majority_and_believes_one_of_them() {
    let s = cluster(&["n1", "n2", "n3"], Durability::Async);
    let s = must(&s, "n2", begin(&s, missed(&["n2", "n3"])));
    let timed = |name: &str, time_fenced| Evidence { time_fenced, ..says(name, 2, 250) };
    let try_with = |e: Vec<Evidence>| code(ask(&s, "n2", elect(&s, "n2", e, Rule::leader_only())));
    assert_eq!(try_with(vec![timed("n2", true), timed("n3", false)]), "TAN0106");
    assert_eq!(try_with(vec![timed("n2", true), timed("n2", true)]), "TAN0106", "one voice, said twice");
    assert_eq!(try_with(vec![timed("n2", true), timed("n3", true)]), "accepted");
}

#[test]
fn c26_what_an_async_leader_of_unknown_end_may_have_lost_is_in_the_history() {
    let s = cluster(&["n1", "n2", "n3"], Durability::Async);
    let s = must(&s, "n2", begin(&s, missed(&["n2", "n3"])));
    let timed = |name: &str| Evidence { time_fenced: true, ..says(name, 2, 250) };
    let loss = |e: Vec<Evidence>| {
        let after = must(&s, "n2", elect(&s, "n2", e, Rule::leader_only()));
        let told = |r: &Reason| matches!(r, Reason::MayBeLost { .. });
        after.history.iter().map(|e| e.reason.clone()).find(told)
    };
    let bound = Reason::MayBeLost { leader: node("n1"), beyond: Lsn(250), time_ms: 3100 };
    assert_eq!(loss(vec![timed("n2"), timed("n3")]), Some(bound));
    let resigned = Evidence { resigned: Term(1), ..says("n1", 2, 250) };
    assert_eq!(loss(vec![timed("n2"), timed("n3"), resigned]), None, "its end is known");
}

#[test]
fn c26_the_wait_is_not_shortened_while_a_lease_may_run_that_is_as_long() {
    let with = |s: &ClusterState, lease, wait| {
        let mut settings = s.settings.clone();
        (settings.timing.async_lease_ms, settings.timing.async_wait_ms) = (lease, wait);
        ask(s, "n1", Change::SetSettings(settings))
    };
    let s = cluster(&["n1", "n2", "n3"], Durability::Async);
    let long = with(&s, 60_000, 61_000).expect("a longer wait is safe at once");
    assert_eq!(code(with(&long, 60_000, 60_900)), "TAN0120", "n1 may be cut off, with its lease of 60 s");
    assert_eq!(code(with(&long, 3_000, 61_000)), "accepted");
    let voted = must(&long, "n2", begin(&long, missed(&["n2", "n3"])));
    assert_eq!(code(with(&voted, 3_000, 3_200)), "TAN0120");
    assert_eq!(code(with(&with(&three(), 60_000, 61_000).expect("as before"), 3_000, 3_200)), "accepted");
}

#[test]
fn c12_the_time_of_grants_is_never_shortened() {
    let with = |s: &ClusterState, grant, wait| {
        let mut settings = s.settings.clone();
        (settings.timing.grant_ms, settings.timing.grant_wait_ms) = (grant, wait);
        ask(s, "n1", Change::SetSettings(settings))
    };
    let longer = with(&three(), 400, 420).expect("a longer one is safe at once");
    assert_eq!(code(with(&longer, 300, 420)), "TAN0120");
    assert_eq!(code(with(&longer, 400, 410)), "TAN0120", "a restarted agent does not know what it granted");
}

#[test]
fn c26_a_leader_alone_changes_its_promise_by_a_rule_of_the_same_members() {
    let mut s = cluster(&["n1", "n2", "n3"], Durability::Async);
    let sub = s.sub_next;
    let alone = |s: &ClusterState, sub| ask(s, "n1", change_rule(1, sub, Rule::leader_only(), &[]));
    assert_eq!(code(alone(&s, sub)), "TAN0122", "it promises that already");
    for mode in [Durability::Quorum, Durability::QuorumRelaxed] {
        s.settings.durability = mode;
        let both = alone(&s, sub).expect("the same rule, but not by lease");
        assert_eq!(both.rules.iter().map(|r| r.mode).collect::<Vec<_>>(), [Durability::Async, mode]);
        let end = Change::RuleEnd { term: Term(1), keep: sub + 1, drop: sub, lsn: Lsn(300) };
        let after = must(&both, "n1", end);
        assert_eq!(code(ask(&after, "n2", begin(&after, missed(&["n2", "n3"])))), "TAN0105", "{mode}");
    }
}

#[test]
fn an_opening_by_a_life_that_is_over_is_refused() {
    let s = elected();
    let join = Change::Join { node: node("n2"), addresses: Addresses::default(), nonce: 99 };
    let s = must(&s, "n2", join);
    let sub = s.sub_next;
    assert_eq!(code(ask(&s, "n2", opened(2, 4, 300, sub))), "TAN0111");
}

#[test]
fn an_older_leader_that_may_be_needed_is_not_taken_out_at_once() {
    let s = must(&elected(), "n2", Change::RemoveMember { node: node("n1") });
    assert!(s.members[&node("n1")].leaving, "it leaves when the new term has opened");
    assert_eq!(s.members[&node("n1")].state, MemberState::Voter);
}

#[test]
fn a_promotion_below_its_election_is_refused() {
    let s = elected();
    assert_eq!(code(ask(&s, "n2", opened(2, 4, 299, s.sub_next))), "TAN0107");
    assert_eq!(code(ask(&s, "n2", opened(2, 4, 300, s.sub_next))), "accepted");
}

#[test]
fn an_opening_rule_names_nobody_who_can_not_be_asked_afterwards() {
    let s = three();
    let s = must(&s, "n3", set_state("n3", MemberState::Quarantined { why: "x".into() }, 0));
    let s = must(&s, "n2", begin(&s, operator(None, &[])));
    let old = Evidence { resigned: Term(1), ..says("n1", 2, 300) };
    let evidence = vec![says("n2", 2, 300), old];
    assert_eq!(code(ask(&s, "n2", elect(&s, "n2", evidence.clone(), rule(&["n3"], 1)))), "TAN0109");
    assert_eq!(code(ask(&s, "n2", elect(&s, "n2", evidence, rule(&["n1"], 1)))), "accepted");
}

#[test]
fn c3_a_witness_that_keeps_wal_is_asked_as_a_standby_is_and_never_leads() {
    let s = cluster(&["n1", "n2", "k1"], Durability::Quorum);
    assert_eq!(s.newest_rule().map(|r| &r.rule), Some(&rule(&["k1", "n2"], 1)));
    let s = must(&s, "n2", begin(&s, missed(&["n2", "k1"])));
    let try_with = |leader: &str, evidence: Vec<Evidence>| {
        let to = rule(&[if leader == "n2" { "k1" } else { "n2" }], 1);
        code(ask(&s, "n2", elect(&s, leader, evidence, to)))
    };
    assert_eq!(try_with("n2", vec![says("n2", 2, 300), says("k1", 2, 300)]), "accepted");
    assert_eq!(try_with("n2", vec![says("n2", 2, 300), says("k1", 2, 301)]), "TAN0106", "it has less");
    assert_eq!(try_with("n2", vec![says("n2", 2, 300)]), "TAN0106", "the other may have more");
    let blank = Evidence { position: None, ..says("k1", 2, 0) };
    assert_eq!(try_with("n2", vec![says("n2", 2, 300), blank]), "TAN0106", "nor does a promise alone tell");
    assert_eq!(try_with("k1", vec![says("n2", 2, 300), says("k1", 2, 301)]), "TAN0107", "no database");
    // A copy that is being made anew is not believed.
    let anew = must(&s, "k1", set_state("k1", MemberState::Quarantined { why: "x".into() }, 0));
    let evidence = vec![says("n2", 2, 300), says("k1", 2, 300)];
    assert_eq!(code(ask(&anew, "n2", elect(&anew, "n2", evidence, rule(&["n2"], 1)))), "TAN0106");
}

#[test]
fn c13_a_witness_that_keeps_wal_is_dropped_on_anothers_word_only() {
    let s = cluster(&["n1", "n2", "k1"], Durability::Quorum);
    let drop = |by: &[&str]| code(ask(&s, "n1", change_rule(1, 2, rule(&["n2"], 1), by)));
    assert_eq!(drop(&[]), "TAN0109");
    assert_eq!(drop(&["n1"]), "TAN0109", "the leader's own word is none");
    assert_eq!(drop(&["n2"]), "accepted");
}
