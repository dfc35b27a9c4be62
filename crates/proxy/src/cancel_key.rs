//! What a client cancels with: whose it is stands in it, what it opens can't be guessed.
//!
//! ```text
//!   pid      0 pppppppp tttttt rrrrrrrrrrrrrrrrr    never negative: 1 bit, peer 8, reactor 6, random 17
//!   secret   4 bytes (protocol 3.0) or 32 (3.2), all of them random
//! ```
//!
//! A cancel may arrive anywhere: at another proxy of the set, or at another
//! thread of this one. The number tells where it belongs, without asking around.
//!
//! Why so much of the number may be told: it is no secret in PostgreSQL either,
//! where it is the process id, shown in `pg_stat_activity` and handed out in
//! turn. What protects is the secret, and not one of its bits is spent on an
//! address. In 3.0 that are 32 bits as in PostgreSQL, for each client a key of
//! its own: who knows nothing must hit number *and* secret, 2^49 for one client
//! behind a known address; with 10,000 clients and 10,000 tries a second that is
//! one cancelled statement in two months. In 3.2 it is 2^256.

use wire::start::Version;

use crate::threads::THREADS_MAX;

/// The highest number of a proxy in its set; 0 is a proxy without one.
pub const PEER_MAX: u8 = u8::MAX;
/// Reactors of one proxy.
pub const REACTORS_MAX: u8 = 1 << REACTOR_BITS;
const _: () = assert!(THREADS_MAX <= REACTORS_MAX as usize, "each thread has a number");
/// Clients that can have different numbers on one reactor.
pub const CLIENTS_MAX: u32 = 1 << RANDOM_BITS;
/// Numbers that are tried before a reactor is taken for full.
pub const TRIES_MAX: usize = 1_000;

const REACTOR_BITS: u32 = 6;
const RANDOM_BITS: u32 = 17;
const SHORT_BYTES: usize = 4;
const LONG_BYTES: usize = 32;

/// Where a client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The proxy's number in its set.
    pub peer: u8,
    /// The thread, from 0 on.
    pub reactor: u8,
}

impl Owner {
    /// A client of this proxy, on this thread.
    ///
    /// # Panics
    /// With a thread beyond the last.
    #[must_use]
    pub fn at(peer: u8, reactor: usize) -> Owner {
        let reactor = u8::try_from(reactor).ok().filter(|reactor| *reactor < REACTORS_MAX);
        Owner { peer, reactor: reactor.expect("there are no more threads than that") }
    }

    /// Whose a number is. Any number is somebody's: a stranger may have made it up.
    #[must_use]
    pub fn of(pid: u32) -> Owner {
        let low = |bits: u32| u8::try_from(bits & 0xff).expect("it is eight bits");
        let reactor = low(pid >> RANDOM_BITS) & (REACTORS_MAX - 1);
        Owner { peer: low(pid >> (RANDOM_BITS + REACTOR_BITS)), reactor }
    }

    /// A number for a client of this owner, out of random bits; `None` for 0, which drivers take for none.
    ///
    /// # Panics
    /// With a thread beyond the last.
    #[must_use]
    pub fn pid(self, random: u32) -> Option<u32> {
        assert!(self.reactor < REACTORS_MAX, "a reactor beyond the last: {self:?}");
        let place = u32::from(self.peer) << REACTOR_BITS | u32::from(self.reactor);
        let pid = place << RANDOM_BITS | random & (CLIENTS_MAX - 1);
        (pid != 0).then_some(pid)
    }

    /// A number that `is_free`, from the system's random bits.
    ///
    /// # Errors
    /// When the system gives no random bytes. `None` when none was found: it is full.
    pub fn free_pid(self, is_free: impl Fn(u32) -> bool) -> Result<Option<u32>, getrandom::Error> {
        for _ in 0..TRIES_MAX {
            if let Some(pid) = self.pid(getrandom::u32()?).filter(|pid| is_free(*pid)) {
                return Ok(Some(pid));
            }
        }
        Ok(None)
    }
}

/// A fresh secret, as long as the protocol's version takes it.
///
/// # Errors
/// When the system gives no random bytes.
pub fn secret(version: Version) -> Result<Vec<u8>, getrandom::Error> {
    let mut secret = vec![0; if version == Version::V3_2 { LONG_BYTES } else { SHORT_BYTES }];
    getrandom::fill(&mut secret)?;
    Ok(secret)
}

/// Whether a secret is as long as those that we hand out.
#[must_use]
pub fn is_whole(secret: &[u8]) -> bool {
    secret.len() == SHORT_BYTES || secret.len() == LONG_BYTES
}

/// Stands between a secret that is passed on and what is added to it: a client that says a byte too many says no
/// right secret.
const PASSED_ON: &[u8] = b"tanist";

/// A secret on its way to another proxy: how many more may pass it on stands behind it, so that no circle of
/// proxies hands a cancel around for ever. No client's secret has that length.
#[must_use]
pub fn passed_on(secret: &[u8], hops_left: u8) -> Vec<u8> {
    [secret, PASSED_ON, &[hops_left]].concat()
}

/// The secret of a cancel, and, if a proxy passed it on, how many more may.
#[must_use]
pub fn read(secret: &[u8]) -> (&[u8], Option<u8>) {
    let parts = secret.split_last().and_then(|(hops, rest)| Some((rest.strip_suffix(PASSED_ON)?, *hops)));
    match parts {
        Some((secret, hops)) if is_whole(secret) => (secret, Some(hops)),
        Some(_) | None => (secret, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_stand_in_their_numbers() {
        for peer in [0, 1, 2, 127, 128, PEER_MAX] {
            for reactor in [0, 1, 63] {
                for random in [1, 77, CLIENTS_MAX - 1, u32::MAX] {
                    let owner = Owner { peer, reactor };
                    let pid = owner.pid(random).expect("random bits are set");
                    assert_eq!(Owner::of(pid), owner);
                    assert!(i32::try_from(pid).is_ok_and(|pid| pid > 0), "{pid}");
                }
            }
        }
        assert_eq!(Owner::default().pid(0), None);
        assert_eq!(Owner::default().pid(CLIENTS_MAX), None);
    }

    #[test]
    fn a_full_reactor_is_found_out() {
        let owner = Owner { peer: 3, reactor: 1 };
        let found = owner.free_pid(|_| true).expect("random bytes");
        assert_eq!(found.map(Owner::of), Some(owner));
        assert_eq!(owner.free_pid(|_| false), Ok(None));
    }

    #[test]
    fn what_was_passed_on_is_told_from_what_a_client_sent() {
        for version in [Version::V3_0, Version::V3_2] {
            let own = secret(version).expect("random bytes");
            assert_eq!(read(&own), (own.as_slice(), None));
            let passed = passed_on(&own, 2);
            assert_eq!(read(&passed), (own.as_slice(), Some(2)));
            assert!(passed.len() <= wire::start::CANCEL_KEY_BYTES_MAX);
        }
        for odd in [&[][..], &[1; 5], &[1; 6], &[1; 11], &[1; 33], b"1234tanis1", &[1; 256]] {
            assert_eq!(read(odd), (odd, None));
        }
    }
}
