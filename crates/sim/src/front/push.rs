//! What agents push to proxies, and what those say back (`agent::routing`).

use std::collections::BTreeMap;
use std::rc::Rc;

use cluster::report::Report;
use cluster::{Action, NodeId, Term};
use route::routes::{Own, Routes, routes};

use crate::clock::{Us, ms};
use crate::network::At;
use crate::world::{What, World};

use super::Due;

/// Between two words of an agent to which nothing has changed.
const KEEP_ALIVE: Us = ms(250);
/// Longest that a hand-over waits for proxies (`routing::DRAIN_LIMIT`).
const DRAIN_LIMIT: Us = ms(1000);

impl World {
    pub(super) fn keep_alive(&mut self, at: At) {
        self.after(KEEP_ALIVE, What::Front(Box::new(Due::KeepAlive(at))));
        self.publish(at, true);
    }

    /// A host was added: proxies hear its agent as well.
    pub(crate) fn watch_new_agent(&mut self, at: At) {
        if self.front.is_there() {
            self.keep_alive(at);
        }
    }

    /// An agent has spoken to the others: so it knows this of itself.
    pub(crate) fn remember_said(&mut self, at: At, report: &Rc<Report>) {
        if self.front.is_there() {
            self.front.said.insert(at, report.clone());
        }
    }

    /// Tells the proxies what is agreed and reported, if that is news or `anyway`.
    pub(crate) fn publish(&mut self, at: At, anyway: bool) {
        if !self.front.is_there() || !self.hosts[at].is_awake() {
            return;
        }
        let now = self.picture_of(at);
        let news = self.front.told.get(&at).is_none_or(|told| !told.routes_as(&now));
        if !(news || anyway) || now.cluster.is_empty() {
            return;
        }
        let pushed = Rc::new(now.clone());
        self.front.told.insert(at, now);
        for proxy in 0..self.front.proxies.len() {
            let delay = self.front_delay();
            let p = &mut self.front.proxies[proxy];
            let heard = p.home.is_none_or(|home| self.network.both(at, home)) && !p.deaf && p.runs;
            if heard {
                let due = (self.now + delay).max(p.pushed.get(&at).copied().unwrap_or(0));
                p.pushed.insert(at, due);
                self.at(due, What::Front(Box::new(Due::Routes(proxy, at, pushed.clone()))));
            }
        }
    }

    fn picture_of(&self, at: At) -> Routes {
        let host = &self.hosts[at];
        let view = host.agent.controller.view(host.clock.local(self.now), 0);
        let age = |n: &NodeId| view.silent_ms(n).unwrap_or(u64::MAX);
        let mut reports: BTreeMap<NodeId, (Report, u64)> =
            view.peers.iter().map(|(n, h)| (n.clone(), (h.report.clone(), age(n)))).collect();
        if let Some(own) = self.front.said.get(&at).filter(|r| r.boot == u64::from(host.agent.life)) {
            reports.insert(host.name.clone(), ((**own).clone(), 0));
        }
        let term = view.state.ctl.term;
        let deed = host.agent.deed.as_ref().map(|d| &d.action);
        let hands_over = matches!(deed, Some(Action::HandOver { term: t }) if *t == term)
            && self.front.handing_over.get(&at) == Some(&term);
        let own = Own { resigned: host.vows.resigned, handing_over: hands_over };
        routes(view.state, &reports, &host.name, own)
    }

    /// A word comes in.
    pub(super) fn hear_routes(&mut self, proxy: usize, _at: At, routes: &Rc<Routes>) {
        let now = self.now;
        if self.front.proxies[proxy].deaf || !self.acts(proxy) {
            return;
        }
        self.front.proxies[proxy].words.insert(routes.from.clone(), ((**routes).clone(), now));
        self.reckon(proxy);
    }

    pub(super) fn hear_drained(&mut self, proxy: usize, at: At, term: Option<Term>) {
        match term {
            Some(term) => drop(self.front.drained.insert((proxy, at), term)),
            None => drop(self.front.drained.remove(&(proxy, at))),
        }
    }

    /// Another deed begins: nothing is handed over any more.
    pub(crate) fn forget_hand_over(&mut self, at: At) {
        self.front.handing_over.remove(&at);
    }

    /// Whether a hand-over waits: clients are held, and somebody may have a transaction yet.
    pub(crate) fn waits_for_proxies(&mut self, at: At, term: Term, waited: Us) -> bool {
        if !self.front.is_there() {
            return false;
        }
        if self.front.handing_over.insert(at, term) != Some(term) {
            self.front.drained.retain(|(_, node), _| *node != at);
            self.publish(at, false);
        }
        let reached =
            |p: &super::Proxy| p.runs && !p.deaf && p.home.is_none_or(|home| self.network.both(at, home));
        let drained = |i: usize| self.front.drained.get(&(i, at)) == Some(&term);
        let all = self.front.proxies.iter().enumerate().all(|(i, p)| !reached(p) || drained(i));
        !all && waited < DRAIN_LIMIT
    }
}
