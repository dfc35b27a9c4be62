//! I1 AckDurable: a write that was acknowledged is there, on every member.
//!
//! Source: docs/protocol.md, section 5.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::history::{Fate, History, Operation};

/// Acknowledged writes that a member does not hold.
#[must_use]
pub fn lost(history: &History, held: &BTreeSet<(u32, u64)>) -> Vec<Operation> {
    history.with(Fate::Acknowledged).filter(|o| !held.contains(&o.key())).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn i1_an_acknowledged_write_that_is_missing_is_found() {
        let op = |seq, fate| Operation { client: 1, seq, sent: Duration::ZERO, ended: Duration::ZERO, fate };
        let history = History {
            operations: [op(1, Fate::Acknowledged), op(2, Fate::Unknown), op(3, Fate::Acknowledged)].into(),
        };
        let held = BTreeSet::from([(1, 1)]);
        assert_eq!(lost(&history, &held), [op(3, Fate::Acknowledged)]);
        assert!(lost(&history, &BTreeSet::from([(1, 1), (1, 3)])).is_empty());
    }
}
