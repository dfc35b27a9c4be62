//! I9 StrictRead in a history: a register reads as if it were one, in one place.
//!
//! Each read gives at least what was acknowledged, or read by somebody, before
//! it was sent, and at most what was sent before it ended.
//! Source: docs/protocol.md, section 5; M. Herlihy and J. Wing,
//! "Linearizability", 1990, for registers of one writer.

use alloc::vec::Vec;

use crate::history::Fate;
use crate::register::{Deed, Touch};

/// Reads that no single register could have given. Only for reads that were
/// acknowledged as writes are: what a plain `SELECT` gives may be old.
#[must_use]
pub fn impossible(touches: &[Touch]) -> Vec<Touch> {
    let wrong = |read: &&Touch| {
        let Deed::Read(Some(value)) = read.deed else { return false };
        let same = || touches.iter().filter(|t| t.key == read.key);
        let least = same().filter(|t| t.ended < read.sent).filter_map(known).max();
        let most = same().filter(|t| t.sent <= read.ended).filter_map(written).max();
        value < least.unwrap_or(0) || value > most.unwrap_or(0)
    };
    touches.iter().filter(|t| t.fate == Fate::Acknowledged).filter(wrong).copied().collect()
}

/// What is certain once this deed has ended.
fn known(touch: &Touch) -> Option<u64> {
    match touch.deed {
        Deed::Write(value) if touch.fate == Fate::Acknowledged => Some(value),
        Deed::Read(value) if touch.fate == Fate::Acknowledged => value,
        Deed::Write(_) | Deed::Read(_) => None,
    }
}

fn written(touch: &Touch) -> Option<u64> {
    match touch.deed {
        Deed::Write(value) if touch.fate != Fate::Failed => Some(value),
        Deed::Write(_) | Deed::Read(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    fn touch(deed: Deed, sent: u64, ended: u64, fate: Fate) -> Touch {
        let ms = Duration::from_millis;
        Touch { key: 1, deed, sent: ms(sent), ended: ms(ended), fate, timeline: 1 }
    }

    #[test]
    fn i9_a_read_of_the_past_or_of_nothing_is_found() {
        use Fate::{Acknowledged, Failed, Unknown};
        let read = |value, sent, ended| touch(Deed::Read(Some(value)), sent, ended, Acknowledged);
        let write = |value, sent, ended, fate| touch(Deed::Write(value), sent, ended, fate);
        let writes = [write(1, 0, 10, Acknowledged), write(2, 20, 50, Unknown), write(3, 60, 65, Failed)];
        let judged = |reads: &[Touch]| impossible(&[&writes, reads].concat());
        assert!(judged(&[read(1, 30, 40), read(2, 45, 46)]).is_empty());
        assert!(judged(&[read(0, 5, 9)]).is_empty(), "while the first write is under way");
        assert_eq!(judged(&[read(0, 11, 12)]), [read(0, 11, 12)], "acknowledged and not there");
        assert_eq!(judged(&[read(2, 15, 19)]), [read(2, 15, 19)], "not yet written");
        assert_eq!(judged(&[read(3, 70, 71)]), [read(3, 70, 71)], "refused and there");
        assert_eq!(judged(&[read(2, 30, 40), read(1, 45, 46)]), [read(1, 45, 46)], "new, then old");
    }
}
