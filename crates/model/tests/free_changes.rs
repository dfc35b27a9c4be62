//! C-6 undone in the core itself: rules that change in any steps lose a write.
//!
//! In a process of its own, since such a mistake is one of the whole process.

use std::time::Duration;

use cluster::mutant::{Mutant, set};
use model::bounds::Bounds;
use model::law::Law;
use model::search::{Limits, search};
use model::step::Explorer;

#[test]
fn c6_rules_that_change_in_any_steps_lose_a_write() {
    let bounds = Bounds {
        nodes: 3,
        terms: 2,
        writes: 1,
        changes: 1,
        crashes: 0,
        rebuilds: 0,
        switchovers: 0,
        acks: 2,
        relaxed: false,
        any_opening: false,
        plain: false,
        liveness: false,
    };
    let limits = Limits { worlds: 3_000_000, time: Duration::from_secs(1_800) };
    let run = || search(&mut Explorer::new(bounds.clone(), None), limits, |_, _, _| {});
    let well = run();
    assert!(well.complete && well.violation.is_none(), "{:?}", well.violation);
    set(Some(Mutant::AnyStep));
    let (law, trace) = run().violation.expect("it is found");
    assert_eq!(law, Law::AckDurable, "{}", trace.join("\n"));
}
