//! How old at most what a standby shows is, when it gets no WAL for the moment.
//!
//! At the beginning of a term nobody streams from its leader yet. A standby that did
//! so in the term before shows what it showed then: its lag of that time, and the
//! time since. Until a pool's limit is passed readers may stay there, so that an
//! election is no pause for them.
//!
//! Reads no clock: the moment is handed in.

use std::collections::BTreeMap;
use std::time::Instant;

use api::routes::{Role, RouteMember};
use cluster::NodeId;

/// When each standby was last seen to stream.
#[derive(Clone, Debug, Default)]
pub struct Fresh(BTreeMap<NodeId, Instant>);

impl Fresh {
    /// Takes note of who streams, and forgets who has no seat any more or leads.
    pub fn note(&mut self, members: &[RouteMember], now: Instant) {
        self.0.retain(|name, _| members.iter().any(|m| m.name == *name && m.role == Role::Standby));
        for m in members.iter().filter(|m| m.streaming && m.role == Role::Standby) {
            self.0.insert(m.name.clone(), now);
        }
    }

    /// Age of what a standby shows, in milliseconds; `None` if that can't be told.
    #[must_use]
    pub fn lag_ms(&self, m: &RouteMember, now: Instant) -> Option<u64> {
        let own = m.replay_lag_ms?;
        if m.streaming {
            return Some(own);
        }
        let since = now.saturating_duration_since(*self.0.get(&m.name)?);
        Some(own.saturating_add(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn standby(streaming: bool, lag: Option<u64>) -> RouteMember {
        RouteMember {
            name: NodeId::new("n2").expect("a good name"),
            postgres: "n2:5432".to_string(),
            agent: String::new(),
            zone: String::new(),
            role: Role::Standby,
            streaming,
            replay_lag_ms: lag,
            lag_bytes: None,
            maintenance: false,
            unreachable: false,
        }
    }

    #[test]
    fn what_was_fresh_grows_old_from_when_it_streamed_last() {
        let (mut fresh, start) = (Fresh::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(fresh.lag_ms(&standby(false, Some(0)), at(0)), None, "it never streamed");
        assert_eq!(fresh.lag_ms(&standby(true, Some(70)), at(0)), Some(70));
        fresh.note(&[standby(true, Some(70))], at(0));
        fresh.note(&[standby(false, Some(70))], at(400));
        assert_eq!(fresh.lag_ms(&standby(false, Some(70)), at(500)), Some(570));
        assert_eq!(fresh.lag_ms(&standby(false, None), at(500)), None, "its server is not there");
        fresh.note(&[standby(true, Some(0))], at(600));
        assert_eq!(fresh.lag_ms(&standby(false, Some(0)), at(700)), Some(100));
        let leads = RouteMember { role: Role::Leader, streaming: false, ..standby(false, None) };
        fresh.note(&[leads], at(800));
        assert_eq!(fresh.lag_ms(&standby(false, Some(0)), at(900)), None, "it led meanwhile");
    }
}
