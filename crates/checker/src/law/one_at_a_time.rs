//! I2 OneAcker in a history: no two servers acknowledge side by side.
//!
//! Each term has a timeline of its own (C-2), so an acknowledgement that tells
//! its timeline tells its term. What was asked for after somebody had been
//! answered on a later timeline is never acknowledged on an older one.
//! Source: docs/protocol.md, section 5.

use alloc::vec::Vec;
use core::time::Duration;

/// An acknowledgement: when it was asked for, when it came, on which timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it was sent.
    pub sent: Duration,
    /// When the answer came.
    pub ended: Duration,
    /// Of the server that gave it.
    pub timeline: u32,
}

/// Answers of servers whose time was over.
#[must_use]
pub fn outlived(answers: &[Answer]) -> Vec<Answer> {
    let mut by_end = answers.to_vec();
    by_end.sort_by_key(|a| a.ended);
    let mut newest = 0;
    let so_far: Vec<(Duration, u32)> = by_end
        .iter()
        .map(|a| {
            newest = newest.max(a.timeline);
            (a.ended, newest)
        })
        .collect();
    let old = |a: &&Answer| {
        let before = so_far.partition_point(|(ended, _)| *ended < a.sent);
        before > 0 && so_far[before - 1].1 > a.timeline
    };
    by_end.iter().filter(old).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i2_an_old_server_that_answers_beside_a_new_one_is_found() {
        let ms = Duration::from_millis;
        let answer = |sent, ended, timeline| Answer { sent: ms(sent), ended: ms(ended), timeline };
        let fair = [answer(0, 5, 2), answer(4, 9, 3), answer(5, 12, 2), answer(20, 21, 3)];
        assert!(outlived(&fair).is_empty(), "two that overlap may come in either order");
        let late = answer(10, 12, 2);
        assert_eq!(outlived(&[fair[0], fair[1], late]), [late]);
    }
}
