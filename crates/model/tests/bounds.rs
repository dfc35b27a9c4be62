//! Small bounds searched to their end, and each deliberate mistake found.
//!
//! The numbers of worlds are pinned: another number means that the core or the
//! model does something else than before, which whoever changed it must explain.

use std::time::Duration;

use model::bounds::{Bounds, Mutation};
use model::law::Law;
use model::search::{Found, Limits, search};
use model::step::Explorer;

/// Far beyond what any of these needs, so that a mistake in the model ends.
const LIMITS: Limits = Limits { worlds: 3_000_000, time: Duration::from_secs(1_800) };

/// Three nodes, one write, and nothing else.
const LEAST: Bounds = Bounds {
    nodes: 3,
    terms: 2,
    writes: 1,
    changes: 0,
    crashes: 0,
    rebuilds: 0,
    switchovers: 0,
    acks: 1,
    relaxed: false,
    any_opening: false,
    plain: false,
    liveness: false,
};

fn run(bounds: Bounds, mutation: Option<Mutation>) -> Found {
    bounds.check().expect("tests ask for bounds that there is room for");
    search(&mut Explorer::new(bounds, mutation), LIMITS, |_, _, _| {})
}

fn holds(bounds: Bounds) -> Found {
    let found = run(bounds.clone(), None);
    assert!(found.complete, "{bounds:?}: not complete");
    assert_eq!(found.violation, None, "{bounds:?}");
    found
}

fn breaks(mutation: Mutation, law: Law, bounds: Bounds) {
    let found = run(bounds, Some(mutation));
    let (broken, trace) = found.violation.unwrap_or_else(|| panic!("{mutation:?} is not found"));
    assert_eq!(broken, law, "{mutation:?}:\n{}", trace.join("\n"));
    assert!(trace.len() > 1 && trace.len() == found.depth, "{mutation:?}: {} lines", trace.len());
}

#[test]
fn three_terms_keep_every_law_and_one_more_can_always_be_led() {
    let found = holds(Bounds { terms: 3, liveness: true, ..LEAST });
    assert_eq!((found.worlds, found.states), (37_959, 191));
}

#[test]
fn a_rule_change_and_a_failover_in_any_order_keep_every_law() {
    let found = holds(Bounds { changes: 1, liveness: true, ..LEAST });
    assert_eq!((found.worlds, found.states), (119_427, 152));
}

#[test]
fn a_leader_that_is_left_alone_and_joined_again_keeps_every_law() {
    let relaxed = Bounds { nodes: 2, changes: 2, crashes: 1, relaxed: true, any_opening: true, ..LEAST };
    let found = holds(Bounds { liveness: true, ..relaxed });
    assert_eq!((found.worlds, found.states), (86_947, 214));
}

#[test]
fn planned_changes_of_leaders_and_crashes_keep_every_law() {
    let found = holds(Bounds { crashes: 1, switchovers: 2, liveness: true, ..LEAST });
    assert_eq!((found.worlds, found.states), (14_304, 22));
}

#[test]
fn what_is_left_out_of_a_world_makes_no_difference() {
    let each = [
        Bounds { crashes: 1, writes: 2, any_opening: true, ..LEAST },
        Bounds { crashes: 1, rebuilds: 1, ..LEAST },
        Bounds { nodes: 2, terms: 3, crashes: 1, changes: 1, ..LEAST },
    ];
    for bounds in each {
        let (small, plain) = (holds(bounds.clone()), holds(Bounds { plain: true, ..bounds.clone() }));
        assert!(small.worlds < plain.worlds, "{bounds:?}");
        // The same agreed states were reached, and nothing that only the smaller search can do.
        assert_eq!(small.states, plain.states, "{bounds:?}");
        assert!(small.depth <= plain.depth, "{bounds:?}: {} and {}", small.depth, plain.depth);
    }
}

#[test]
fn a_position_read_before_the_cut_loses_a_write() {
    breaks(Mutation::ReportBeforeCut, Law::AckDurable, LEAST);
}

#[test]
fn a_promise_that_is_forgotten_loses_a_write() {
    breaks(Mutation::PromiseNotDurable, Law::AckDurable, Bounds { crashes: 1, ..LEAST });
}

#[test]
fn a_resignation_before_the_kill_loses_a_write() {
    breaks(Mutation::ResignBeforeKill, Law::AckDurable, LEAST);
}

#[test]
fn c4_a_server_that_promotes_after_its_report_loses_a_write() {
    breaks(Mutation::PromotingSurvives, Law::AckDurable, Bounds { terms: 3, ..LEAST });
}

#[test]
fn c4_a_promotion_that_is_forgotten_is_made_again() {
    breaks(Mutation::PromotesTwice, Law::TermLeader, Bounds { crashes: 1, ..LEAST });
}

#[test]
fn c1_lsns_compared_without_terms_lose_a_write() {
    breaks(Mutation::LsnOnly, Law::AckDurable, Bounds { terms: 3, writes: 3, ..LEAST });
}

#[test]
fn c6_a_change_without_its_data_barrier_loses_a_write() {
    breaks(Mutation::NoDataBarrier, Law::AckDurable, Bounds { changes: 1, ..LEAST });
}

#[test]
fn c6_a_data_barrier_taken_before_the_config_barrier_loses_a_write() {
    breaks(Mutation::EarlyDataBarrier, Law::AckDurable, Bounds { changes: 1, ..LEAST });
}

#[test]
fn c6_a_change_without_its_config_barrier_leaves_a_dropped_rule_in_force() {
    breaks(Mutation::NoConfigBarrier, Law::Intersect, Bounds { changes: 1, ..LEAST });
}

#[test]
fn c9_leaving_the_leader_alone_without_the_checkpointer_lets_commits_wait_for_nobody() {
    let bounds = Bounds { nodes: 2, changes: 2, relaxed: true, ..LEAST };
    breaks(Mutation::NoCheckpointerProof, Law::Intersect, bounds);
}

#[test]
fn an_opening_without_its_barrier_loses_a_write() {
    let bounds = Bounds { terms: 3, any_opening: true, ..LEAST };
    breaks(Mutation::OpenedWithoutBarrier, Law::AckDurable, bounds);
}

#[test]
fn c10_a_copy_made_without_asking_loses_a_write() {
    breaks(Mutation::RebuildUnasked, Law::AckDurable, Bounds { terms: 3, rebuilds: 1, ..LEAST });
}

#[test]
fn c10_a_copy_that_is_believed_early_loses_a_write() {
    breaks(Mutation::BelievedEarly, Law::AckDurable, Bounds { terms: 3, rebuilds: 1, ..LEAST });
}
