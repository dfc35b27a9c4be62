//! A proxy's connections and its queue, call for call as `proxy::pool` has them: first come,
//! first served, held while nobody leads, refused when it takes too long.

use cluster::report::ServerState;
use route::session::Loss;
use wire::back::Words;

use crate::clock::{Us, ms};
use crate::mutation::Env;
use crate::network::At;
use crate::server::Process;
use crate::world::{What, World};

use super::Due;
use super::conn::{Conn, PREPARED_MAX};

/// Longest that connecting and logging in may take (`login::LOGIN_LIMIT`), in tries.
const LOGIN_TRIES: u32 = 50;
/// Between two of these.
const LOGIN_AGAIN: Us = ms(100);
/// Longest that anybody waits for a server (`hold.timeout_s`, shorter here).
pub const HOLD_LIMIT: Us = ms(8000);

/// Who has a connection, or waits for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// An application.
    App(usize),
    /// Who asks for the fate of what that one wanted.
    Fate(usize),
}

/// Somebody who waits.
#[derive(Clone, Copy, Debug)]
pub struct Waiter {
    pub(super) who: Who,
    /// Since when.
    pub since: Us,
}

impl World {
    /// Where writes go now, as that proxy knows.
    pub(super) fn leads_for(&self, proxy: usize) -> Option<At> {
        let leader = self.front.proxies[proxy].merged.leader.as_ref()?;
        self.places.get(&leader.name).copied()
    }

    /// Whether new transactions wait (`Routing::holds`).
    pub(super) fn holds(&self, proxy: usize) -> bool {
        let handing_over = self.front.proxies[proxy].merged.handing_over && !self.is(Env::HoldForgotten);
        self.leads_for(proxy).is_none() || handing_over
    }

    /// A connection, if one is there for whoever comes now.
    pub(super) fn try_get(&mut self, proxy: usize) -> Option<u64> {
        if !self.front.proxies[proxy].queue.is_empty() {
            return None;
        }
        self.take_idle(proxy)
    }

    fn take_idle(&mut self, proxy: usize) -> Option<u64> {
        if self.holds(proxy) {
            return None;
        }
        let leader = self.leads_for(proxy);
        loop {
            let id = self.front.proxies[proxy].idle.pop()?;
            let term = self.front.proxies[proxy].merged.term;
            let Some(conn) = self.front.conns.get_mut(&id) else { continue };
            if Some(conn.at) == leader {
                conn.known.term = term;
                return Some(id);
            }
            self.close_conn(id);
        }
    }

    /// Stands in the queue.
    pub(super) fn wait_in_queue(&mut self, proxy: usize, who: Who) {
        let since = self.now;
        self.front.proxies[proxy].queue.push_back(Waiter { who, since });
        self.pump_queue(proxy);
    }

    /// Nobody waits there any more.
    pub(super) fn leave_queue(&mut self, proxy: usize, who: Who) {
        self.front.proxies[proxy].queue.retain(|w| w.who != who);
    }

    /// Serves the queue with what there is, and opens what is missing.
    pub(super) fn pump_queue(&mut self, proxy: usize) {
        while !self.front.proxies[proxy].queue.is_empty() {
            let Some(id) = self.take_idle(proxy) else { break };
            let Some(first) = self.front.proxies[proxy].queue.pop_front() else { return };
            self.got(first.who, id);
        }
        self.open_missing(proxy);
    }

    fn got(&mut self, who: Who, id: u64) {
        match who {
            Who::App(app) => {
                self.front.apps[app].waits_since = None;
                self.attach(app, id);
                self.app_turn(app);
            }
            Who::Fate(app) => self.fate_server(app, id),
        }
    }

    /// Gives a connection back: to the next in the queue, or it rests.
    pub(super) fn give_back(&mut self, id: u64) {
        let Some(conn) = self.front.conns.get_mut(&id) else { return };
        conn.user = None;
        let (proxy, at, clean) = (conn.proxy, conn.at, conn.known.clean);
        if !clean || self.leads_for(proxy) != Some(at) {
            return self.close_conn(id);
        }
        self.front.proxies[proxy].idle.push(id);
        self.pump_queue(proxy);
    }

    fn open_missing(&mut self, proxy: usize) {
        loop {
            let p = &self.front.proxies[proxy];
            let total = self.front.conns.values().filter(|c| c.proxy == proxy && !c.closed).count();
            let missing = p.queue.len() > p.opening && total < p.size && p.runs;
            let Some(at) = self.leads_for(proxy).filter(|_| missing && !self.holds(proxy)) else { return };
            self.front.proxies[proxy].opening += 1;
            self.front.next_conn += 1;
            let id = self.front.next_conn;
            self.front.conns.insert(id, Conn::new(proxy, at));
            let round_trips = 3 * self.front_delay() + ms(1);
            self.after(round_trips, What::Front(Box::new(Due::LoggedIn(id, 0))));
        }
    }

    /// A login is over, or goes on.
    pub(super) fn logged_in(&mut self, id: u64, tries: u32) {
        let Some(conn) = self.front.conns.get(&id) else { return };
        let (proxy, at, gone) = (conn.proxy, conn.at, conn.closed || conn.ended);
        let host = &self.hosts[at];
        let s = &host.server;
        let stuck =
            host.paused || s.stopped.contains(&Process::Postmaster) || s.stopped.contains(&Process::Backend);
        if !gone && tries < LOGIN_TRIES && (!self.is_lit(proxy, at) || stuck) {
            return self.after(LOGIN_AGAIN, What::Front(Box::new(Due::LoggedIn(id, tries + 1))));
        }
        self.front.proxies[proxy].opening -= 1;
        let serves = matches!(s.state, ServerState::Primary | ServerState::Standby) && !s.shutting_down;
        let standby = s.state == ServerState::Standby;
        let timeline = if self.is(Env::TermBelieved) { 0 } else { s.wal.lineage.timeline.0 };
        let known = self.is(Env::StandbyTaken);
        let Some(conn) = self.front.conns.get_mut(&id) else { return };
        // A leader that was just demoted may be back as a standby, and its routes on their way.
        let refused = standby && !known;
        if gone || !serves || refused || tries >= LOGIN_TRIES {
            self.front.conns.remove(&id);
        } else {
            let word = if standby { "on" } else { "off" };
            let reported = [("in_hot_standby", word), ("server_version", "18")];
            let reported = reported.map(|(n, v)| (n.to_string(), v.to_string())).into();
            let term = self.front.proxies[proxy].merged.term;
            conn.known = route::Backend::new(term, reported, PREPARED_MAX);
            conn.known.timeline = timeline;
            conn.open = true;
            self.front.proxies[proxy].idle.push(id);
        }
        self.pump_queue(proxy);
    }

    /// A connection is over, as the proxy sees it.
    pub(super) fn conn_lost(&mut self, id: u64, loss: Loss) {
        let Some(conn) = self.front.conns.get(&id).filter(|c| !c.closed) else { return };
        let proxy = conn.proxy;
        match conn.user {
            Some(Who::App(app)) => self.lose(app, loss, None),
            Some(Who::Fate(app)) => {
                self.close_conn(id);
                self.fate_lost(app);
            }
            None => self.close_conn(id),
        }
        self.pump_queue(proxy);
    }

    /// Whoever has waited too long is refused.
    pub(super) fn refuse_late(&mut self, proxy: usize) {
        while let Some(first) = self.front.proxies[proxy].queue.front().copied() {
            if self.now - first.since <= HOLD_LIMIT {
                return;
            }
            self.front.proxies[proxy].queue.pop_front();
            match first.who {
                Who::App(app) => {
                    self.mark("front: a held statement was refused");
                    self.front.apps[app].waits_since = None;
                    let words = Words::error("57P03", "no server could be reached that takes this statement");
                    self.front.apps[app].session.refuse(words);
                    self.app_turn(app);
                }
                Who::Fate(app) => self.fate_unknown(app, "nobody led for too long"),
            }
        }
    }

    /// Closes idle connections that nobody may use any more.
    pub(super) fn tidy(&mut self, proxy: usize) {
        let leader = self.leads_for(proxy);
        for id in self.front.proxies[proxy].idle.clone() {
            if self.front.conns.get(&id).map(|c| c.at) != leader {
                self.close_conn(id);
            }
        }
    }
}
