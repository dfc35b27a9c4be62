//! A proxy's lease on strict reads: until when nobody can have been elected after the leader that it knows
//! (docs/protocol.md, C-19 and C-20).
//!
//! ```text
//!   asked at 0 ms ─── on its way ─── given at 40 ms, for 300 ms ▶ valid until 300 ms, not 340
//! ```
//! All by the clock of whoever asks: what is late, or comes from a host that stood still, is only shorter.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use cluster::Time;
use serde::{Deserialize, Serialize};

/// Questions without an answer that are remembered; the oldest is given up.
pub const ASKED_MAX: usize = 16;
/// How often whoever needs a lease asks for the next.
pub const RENEW: Duration = Duration::from_millis(75);

/// "How long may I give reads of your server?", of a proxy to the leader's agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Counts the proxy's questions.
    pub seq: u64,
}

/// "For so long, from when you asked."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Which question.
    pub seq: u64,
    /// The term that the sender leads.
    pub term: u64,
    /// For how long, in milliseconds.
    pub valid_ms: u64,
}

/// What may be believed: no term after this one has served anybody before this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Which term; 0 for none.
    pub term: u64,
    /// Until when, by the holder's CLOCK_BOOTTIME.
    pub until: Time,
}

impl Lease {
    /// Whether a statement may be sent to the leader of `term` now: whoever led later has acknowledged nothing yet
    /// that it would have to see.
    #[must_use]
    pub fn covers(&self, term: u64, now: Time) -> bool {
        self.term == term && now < self.until
    }
}

/// Who asks, and what it was given.
#[derive(Clone, Debug, Default)]
pub struct Holder {
    asked: VecDeque<(u64, Time)>,
    seq: u64,
    lease: Lease,
}

impl Holder {
    /// A question that is sent now, or later.
    pub fn ask(&mut self, now: Time) -> Ask {
        if self.asked.len() >= ASKED_MAX {
            self.asked.pop_front();
        }
        self.seq += 1;
        self.asked.push_back((self.seq, now));
        Ask { seq: self.seq }
    }

    /// An answer. One to a question that was not asked, or long ago, says nothing.
    pub fn given(&mut self, said: Given) {
        let Some(found) = self.asked.iter().position(|(seq, _)| *seq == said.seq) else { return };
        let Some((_, sent)) = self.asked.remove(found) else { return };
        let until = sent + Duration::from_millis(said.valid_ms);
        let held = self.lease;
        if said.term > held.term || (said.term == held.term && until > held.until) {
            self.lease = Lease { term: said.term, until };
        }
    }

    /// What is held.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.lease
    }
}

macro_rules! on_the_wire {
    ($($of:ident)*) => { $(
        impl $of {
            /// As it is sent.
            #[must_use]
            pub fn to_bytes(self) -> Vec<u8> {
                postcard::to_allocvec(&self).unwrap_or_default()
            }

            /// What was sent; `None` for anything else.
            #[must_use]
            pub fn from_bytes(bytes: &[u8]) -> Option<$of> {
                postcard::from_bytes(bytes).ok()
            }
        }
    )* };
}

on_the_wire!(Ask Given);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    #[test]
    fn c19_it_counts_from_the_question() {
        let mut holder = Holder::default();
        assert!(!holder.lease().covers(0, at(0)));
        let ask = holder.ask(at(1_000));
        assert_eq!(Ask::from_bytes(&ask.to_bytes()), Some(ask));
        let given = |seq, term| Given { seq, term, valid_ms: 300 };
        holder.given(given(ask.seq + 1, 4));
        assert_eq!(holder.lease(), Lease::default(), "nobody asked that");
        holder.given(given(ask.seq, 4));
        assert!(holder.lease().covers(4, at(1_299)) && !holder.lease().covers(4, at(1_300)));
        assert!(!holder.lease().covers(3, at(1_100)) && !holder.lease().covers(5, at(1_100)));
        holder.given(given(ask.seq, 5));
        assert_eq!(holder.lease().term, 4, "that was answered");
    }

    #[test]
    fn an_older_answer_takes_nothing_away() {
        let mut holder = Holder::default();
        let (one, two, three) = (holder.ask(at(0)), holder.ask(at(75)), holder.ask(at(150)));
        holder.given(Given { seq: two.seq, term: 4, valid_ms: 300 });
        holder.given(Given { seq: one.seq, term: 4, valid_ms: 300 });
        assert_eq!(holder.lease(), Lease { term: 4, until: at(375) });
        holder.given(Given { seq: three.seq, term: 3, valid_ms: 300 });
        assert_eq!(holder.lease().term, 4);
        let many = (0..100).map(|_| holder.ask(at(200))).collect::<Vec<_>>();
        assert_eq!(holder.asked.len(), ASKED_MAX);
        holder.given(Given { seq: many[0].seq, term: 9, valid_ms: 300 });
        assert_eq!(holder.lease().term, 4, "it was given up");
    }
}
