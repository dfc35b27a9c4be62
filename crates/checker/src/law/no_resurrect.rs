//! I12 NoResurrect: a write that was reported failed is never seen later.
//!
//! Source: docs/protocol.md, section 5.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::history::{Fate, History, Operation};

/// Failed writes that a member holds.
#[must_use]
pub fn resurrected(history: &History, held: &BTreeSet<(u32, u64)>) -> Vec<Operation> {
    history.with(Fate::Failed).filter(|o| held.contains(&o.key())).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn i12_a_failed_write_that_is_there_is_found() {
        let op = |seq, fate| Operation { client: 1, seq, sent: Duration::ZERO, ended: Duration::ZERO, fate };
        let history = History { operations: [op(1, Fate::Failed), op(2, Fate::Failed)].into() };
        assert_eq!(resurrected(&history, &BTreeSet::from([(1, 2)])), [op(2, Fate::Failed)]);
    }
}
