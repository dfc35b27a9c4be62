//! For how long nobody was told that a write is done.

use alloc::vec::Vec;
use core::time::Duration;

use crate::history::{Fate, History};

/// The longest time without an acknowledgement to any client between two moments.
#[must_use]
pub fn longest(history: &History, from: Duration, to: Duration) -> Duration {
    let mut moments: Vec<Duration> = history.with(Fate::Acknowledged).map(|o| o.ended).collect();
    moments.retain(|m| *m >= from && *m <= to);
    moments.extend([from, to]);
    moments.sort_unstable();
    moments.windows(2).map(|w| w[1].saturating_sub(w[0])).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Operation;

    #[test]
    fn the_longest_silence_counts_from_edge_to_edge() {
        let ms = Duration::from_millis;
        let op = |at| Operation { client: 0, seq: at, sent: ms(at), ended: ms(at), fate: Fate::Acknowledged };
        let history = History { operations: [op(10), op(400), op(420)].into() };
        assert_eq!(longest(&history, ms(0), ms(500)), ms(390));
        assert_eq!(longest(&history, ms(410), ms(900)), ms(480));
    }
}
