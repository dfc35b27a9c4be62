//! Whether a server can still be reached, when its agent is not heard any more.
//!
//! A link that is cut says nothing: TCP finds out after seconds. The agents push every
//! 250 ms; one that has been silent for `SILENCE` makes us knock at its server.
//!
//! ```text
//!   agent speaks ────────────────────────────────▶ reached
//!   silent ▶ connect to its PostgreSQL ─ answered ▶ reached (an agent that died cuts nobody)
//!                                      └ nothing for `KNOCK_LIMIT` ▶ cut off: readers go elsewhere
//! ```
//! A host that is merely slow answers: the kernel does that, not PostgreSQL. Nobody
//! knocks while all agents speak. Whoever leads is the agents' affair, not ours.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use api::routes::Role;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::login;
use crate::reactor::Reactor;
use route::merge::Merged;

/// An agent that was heard less long ago is not asked after: it has missed one push at most.
pub const SILENCE: Duration = Duration::from_millis(550);
/// A server that does not answer for so long can't be reached. Nothing on the way takes so long but a cut link.
pub const KNOCK_LIMIT: Duration = Duration::from_millis(400);
/// Between two knocks at one door.
pub const KNOCK_AGAIN: Duration = Duration::from_millis(500);

/// What is known of the links.
#[derive(Default)]
pub struct Links {
    cut_off: RefCell<BTreeSet<Rc<str>>>,
    knocked: RefCell<BTreeMap<Rc<str>, Instant>>,
    changed: Cell<bool>,
}

impl Links {
    /// Servers that can't be reached.
    #[must_use]
    pub fn cut_off(&self) -> BTreeSet<Rc<str>> {
        self.cut_off.borrow().clone()
    }

    /// Whether that has changed since this was asked last.
    #[must_use]
    pub fn take_changed(&self) -> bool {
        self.changed.replace(false)
    }

    fn set(&self, address: &Rc<str>, is_cut_off: bool) {
        let mut all = self.cut_off.borrow_mut();
        let changed = if is_cut_off { all.insert(address.clone()) } else { all.remove(address) };
        if changed {
            tracing::info!(%address, cut_off = is_cut_off, "link to a standby");
            self.changed.set(true);
        }
    }

    /// Whether it is time to knock at a door, which then has been done.
    fn is_due(&self, address: &Rc<str>, now: Instant) -> bool {
        let mut knocked = self.knocked.borrow_mut();
        let due = knocked.get(address).is_none_or(|at| now.saturating_duration_since(*at) >= KNOCK_AGAIN);
        if due {
            knocked.insert(address.clone(), now);
        }
        due
    }

    /// Those of whom nothing is known any more are forgotten.
    fn keep(&self, known: &BTreeSet<Rc<str>>) {
        self.knocked.borrow_mut().retain(|address, _| known.contains(address));
        let gone: Vec<Rc<str>> = self.cut_off.borrow().difference(known).cloned().collect();
        gone.iter().for_each(|address| self.set(address, false));
    }
}

/// Standbys, and whether their agents are silent.
fn standbys(merged: &Merged) -> impl Iterator<Item = (Rc<str>, bool)> {
    let silent = |name| merged.heard.get(name).is_none_or(|age| *age >= SILENCE);
    let all = merged.members.iter().filter(|m| m.role == Role::Standby && !m.postgres.is_empty());
    all.map(move |m| (Rc::from(m.postgres.as_str()), m.unreachable || silent(&m.name)))
}

impl Reactor {
    /// Knocks where it is time to.
    pub fn watch_links(self: &Rc<Reactor>, merged: &Merged) {
        let all: BTreeMap<Rc<str>, bool> = standbys(merged).collect();
        self.links.keep(&all.keys().cloned().collect());
        for (address, silent) in all {
            if !silent {
                self.links.set(&address, false);
            } else if self.links.is_due(&address, Instant::now()) {
                let reactor = self.clone();
                tokio::task::spawn_local(async move {
                    let answers = answers(&address).await;
                    reactor.links.set(&address, !answers);
                });
            }
        }
    }

    /// A login at a server has failed. Where no cluster says who is there, a standby is left alone from then on,
    /// until somebody answers there again.
    pub fn missed(self: &Rc<Reactor>, address: &Rc<str>) {
        let fixed = self.config.servers.iter().any(|s| s.replica && s.address == **address);
        if !fixed {
            return;
        }
        self.links.set(address, true);
        if !self.links.take_changed() {
            return;
        }
        self.reroute_fixed();
        let (reactor, address) = (self.clone(), address.clone());
        tokio::task::spawn_local(async move {
            let gone = || !reactor.config.servers.iter().any(|s| s.address == *address);
            loop {
                tokio::time::sleep(KNOCK_AGAIN).await;
                let answers = timeout(KNOCK_LIMIT, login::connect(&reactor, &address)).await;
                if matches!(answers, Ok(Ok(_))) || gone() {
                    break;
                }
            }
            reactor.links.set(&address, false);
            let _ = reactor.links.take_changed();
            reactor.reroute_fixed();
        });
    }

    /// Where servers are that no cluster manages.
    pub fn reroute_fixed(self: &Rc<Reactor>) {
        self.rerouted(crate::run::fixed(&self.config, self.links.cut_off()));
    }
}

/// Whether anything comes back: that nobody listens is an answer as well.
async fn answers(address: &str) -> bool {
    match timeout(KNOCK_LIMIT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => true,
        Ok(Err(why)) => why.kind() == io::ErrorKind::ConnectionRefused,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Rc<str> {
        Rc::from(address)
    }

    #[test]
    fn a_door_is_knocked_at_now_and_then() {
        let (links, now) = (Links::default(), Instant::now());
        assert!(links.is_due(&at("a"), now) && links.is_due(&at("b"), now));
        assert!(!links.is_due(&at("a"), now + KNOCK_AGAIN / 2));
        assert!(links.is_due(&at("a"), now + KNOCK_AGAIN));
    }

    #[test]
    fn changes_are_told_once_and_strangers_are_forgotten() {
        let links = Links::default();
        links.set(&at("a"), false);
        assert!(!links.take_changed());
        links.set(&at("a"), true);
        links.set(&at("a"), true);
        assert!(links.take_changed() && !links.take_changed());
        assert_eq!(links.cut_off(), [at("a")].into());
        links.keep(&[at("b")].into());
        assert!(links.take_changed() && links.cut_off().is_empty());
    }
}
