//! Cancels over several proxies: one that arrives here and belongs to another of the set is passed on.
//!
//! ```text
//!   client ──▶ balancer ──▶ proxy 2: "number 1/..., that is proxy 1's" ──▶ proxy 1 ──▶ server
//! ```
//!
//! The client's number tells whose it is (`cancel_key`), so one step is enough
//! where every proxy knows every other. Where an address is a balancer's, the
//! step may lead to a third: each may pass it on, a few times.
//!
//! Never tells anybody whether there is such a client, and never waits for one.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use crate::cancel_key::{self, Owner, PEER_MAX};
use crate::reactor::Reactor;
use crate::stream;

/// How often one cancel may be passed on.
pub const HOPS_MAX: u8 = 3;
/// Cancels that are passed on at a time; more are dropped.
pub const FORWARDS_MAX: usize = 100;
/// Longest that passing on may take.
const FORWARD_LIMIT: Duration = Duration::from_secs(5);

/// Another proxy of the set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its `peer_id`.
    pub id: u8,
    /// Where it listens: `host:port`, or `/folder:port` for a unix socket.
    pub address: String,
}

/// What can't be of a set.
///
/// # Errors
/// The first, in words.
pub fn check(own: u8, peers: &[Peer]) -> Result<(), String> {
    if own == 0 && !peers.is_empty() {
        return Err(format!(
            "it names a [[peer]], and no peer_id of its own: choose one from 1 to {PEER_MAX}"
        ));
    }
    let mut seen = std::collections::BTreeSet::new();
    for peer in peers {
        if peer.id == 0 {
            return Err(format!("a [[peer]] has the id 0: they go from 1 to {PEER_MAX}"));
        }
        if !seen.insert(peer.id) {
            return Err(format!("the [[peer]] {} is there twice", peer.id));
        }
        stream::check_address(&peer.address)
            .map_err(|why| format!("peer.address = \"{}\": {why}", peer.address))?;
    }
    Ok(())
}

/// Whether a client of that number would be one of ours.
#[must_use]
pub fn is_own(reactor: &Reactor, pid: u32) -> bool {
    let peer = Owner::of(pid).peer;
    peer == reactor.config.peer_id
}

/// Passes a cancel on to whose it is, if that is known.
pub fn pass_on(reactor: &Rc<Reactor>, pid: u32, secret: &[u8]) {
    let (secret, hops) = cancel_key::read(secret);
    let owner = Owner::of(pid).peer;
    let peer = reactor.config.peers.iter().find(|p| p.id == owner);
    let (Some(peer), Some(hops)) = (peer, hops.unwrap_or(HOPS_MAX).checked_sub(1)) else { return };
    // A stranger may have written anything there.
    if !cancel_key::is_whole(secret) {
        return;
    }
    let hops = hops.min(HOPS_MAX);
    if reactor.forwards.get() >= FORWARDS_MAX {
        tracing::warn!(peer = owner, "too many cancels are being passed on: one was dropped");
        return;
    }
    let (address, secret) = (peer.address.clone(), cancel_key::passed_on(secret, hops));
    reactor.forwards.set(reactor.forwards.get() + 1);
    let reactor = reactor.clone();
    tokio::task::spawn_local(async move {
        let said = timeout(FORWARD_LIMIT, stream::say_cancel(&address, pid, &secret)).await;
        if let Err(why) = said.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            tracing::warn!(peer = owner, address, %why, "a cancel could not be passed on");
        }
        reactor.forwards.set(reactor.forwards.get() - 1);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_can_not_be_is_refused() {
        let peer = |id, address: &str| Peer { id, address: address.to_string() };
        let two = [peer(1, "a:1"), peer(2, "/run/tanist:6432")];
        assert_eq!(check(1, &two), Ok(()));
        assert_eq!(check(0, &[]), Ok(()));
        for (own, peers, why) in [
            (0, vec![peer(1, "a:1")], "no peer_id"),
            (1, vec![peer(0, "a:1")], "id 0"),
            (1, vec![peer(2, "a:1"), peer(2, "b:1")], "twice"),
            (1, vec![peer(2, "nowhere")], "peer.address"),
        ] {
            let said = check(own, &peers).expect_err(why);
            assert!(said.contains(why), "{said}");
        }
    }
}
