//! A proxy: what it has heard, where it sends, and how it carries a client's bytes
//! (`proxy::client`, `proxy::reactor`, call for call).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cluster::NodeId;
use route::lease::Holder;
use route::merge::{Merged, Word, merge};
use route::routes::{RanIn, Routes};
use route::session::{Fate, Heard, Loss, Outcome, Step};
use route::{Out, Rules, Shelf};
use wire::frame::HEADER_BYTES;

use crate::clock::{Clock, Us, ms};
use crate::mutation::Env;
use crate::network::At;
use crate::world::{What, World};

use super::Due;
use super::conn::Up;
use super::pool::{Waiter, Who};
use super::settle::Settling;
use super::told::Sends;

/// How often queues are looked through and words grow older (`reactor::TICK`).
const TICK: Us = ms(100);

/// One proxy.
#[derive(Debug)]
pub struct Proxy {
    /// Its name.
    pub name: String,
    /// The host that it runs on; nobody's if `None`.
    pub home: Option<At>,
    /// What it asks of its sessions.
    pub rules: Rules,
    /// Connections at most.
    pub size: usize,
    /// It gives strict reads, and asks for leases.
    pub strict: bool,
    /// What it was given.
    pub(super) leases: Holder,
    /// Its clock, where it is on no host of the cluster.
    pub(super) clock: Clock,
    /// It runs.
    pub runs: bool,
    /// Where it believes the servers to be.
    pub merged: Merged,
    /// It hears no agent.
    pub deaf: bool,
    /// How often its link to each server is cut.
    pub cut: BTreeMap<At, u32>,
    pub(super) words: BTreeMap<NodeId, (Routes, Us)>,
    /// Pushes come in order.
    pub(super) pushed: BTreeMap<At, Us>,
    pub(super) idle: Vec<u64>,
    /// Who waits, in order.
    pub queue: VecDeque<Waiter>,
    pub(super) opening: usize,
    shelf: Shelf,
    told_drained: bool,
}

impl World {
    /// One more proxy, on a host or by itself.
    pub fn add_proxy(&mut self, name: &str, home: Option<At>, rules: Rules, size: usize) {
        let first = !self.front.is_there();
        self.front.proxies.push(Proxy {
            name: name.to_string(),
            home,
            rules,
            size,
            strict: false,
            leases: Holder::default(),
            clock: Clock::default(),
            runs: true,
            merged: Merged::default(),
            deaf: false,
            cut: BTreeMap::new(),
            words: BTreeMap::new(),
            pushed: BTreeMap::new(),
            idle: Vec::new(),
            queue: VecDeque::new(),
            opening: 0,
            shelf: Shelf::new(0, 1),
            told_drained: false,
        });
        let tick = self.front_span(0, TICK);
        self.after(tick, What::Front(Box::new(Due::Tick(self.front.proxies.len() - 1))));
        if first {
            (0..self.hosts.len()).for_each(|at| self.keep_alive(at));
        }
    }

    /// Whether its process gets the processor.
    pub(super) fn acts(&self, proxy: usize) -> bool {
        let p = &self.front.proxies[proxy];
        p.runs && p.home.is_none_or(|home| self.hosts[home].up && !self.hosts[home].paused)
    }

    /// A link of a proxy's works again.
    pub(crate) fn mend_proxy_link(&mut self, proxy: usize, at: At) {
        if let Some(cuts) = self.front.proxies[proxy].cut.get_mut(&at) {
            *cuts = cuts.saturating_sub(1);
        }
    }

    /// Everything that was wrong with proxies ends.
    pub(crate) fn calm_front(&mut self) {
        self.front.calmed_at = self.now;
        for p in &mut self.front.proxies {
            p.cut.clear();
            p.deaf = false;
        }
    }

    /// A host has lost its power: proxies on it are gone, and their connections with them, without a word.
    pub(crate) fn proxies_lost(&mut self, at: At) {
        for proxy in 0..self.front.proxies.len() {
            let p = &mut self.front.proxies[proxy];
            if p.home != Some(at) {
                continue;
            }
            p.runs = false;
            p.queue.clear();
            p.idle.clear();
            for conn in self.front.conns.values_mut().filter(|c| c.proxy == proxy) {
                conn.vanish();
            }
            for app in 0..self.front.apps.len() {
                if self.front.apps[app].proxy == proxy {
                    self.app_lost(app);
                }
            }
        }
    }

    /// It has power again, and its proxies begin anew, knowing nothing.
    pub(crate) fn proxies_back(&mut self, at: At) {
        for p in self.front.proxies.iter_mut().filter(|p| p.home == Some(at)) {
            p.runs = true;
            p.leases = Holder::default();
            p.merged = Merged::default();
            p.words.clear();
            p.told_drained = false;
        }
    }

    pub(super) fn proxy_tick(&mut self, proxy: usize) {
        self.after(TICK, What::Front(Box::new(Due::Tick(proxy))));
        self.look_for_dark(proxy);
        if !self.acts(proxy) {
            return;
        }
        self.reckon(proxy);
        self.refuse_late(proxy);
        self.tidy(proxy);
        self.pump_queue(proxy);
    }

    /// Makes one picture of what it has heard, and does what follows (`Reactor::rerouted`).
    pub(super) fn reckon(&mut self, proxy: usize) {
        let now = self.now;
        let p = &mut self.front.proxies[proxy];
        let word = |(routes, at): &(Routes, Us)| Word {
            routes: routes.clone(),
            age: Duration::from_micros(now - at),
        };
        let words: BTreeMap<NodeId, Word> =
            p.words.iter().map(|(n, heard)| (n.clone(), word(heard))).collect();
        let new = merge(&words, &p.merged);
        let old = std::mem::replace(&mut p.merged, new);
        let new = &p.merged;
        if !new.members.is_empty() {
            let members = new.members.clone();
            p.words.retain(|name, _| members.iter().any(|m| m.name == *name));
        }
        if old.routes_as(&self.front.proxies[proxy].merged) {
            return;
        }
        let p = &self.front.proxies[proxy];
        let changed = old.leader != p.merged.leader && p.merged.leader.is_some();
        let (term, leader) = (p.merged.term, p.merged.leader.as_ref().map(|l| l.name.clone()));
        if old.leader != p.merged.leader || old.term != term || old.handing_over != p.merged.handing_over {
            let (name, holds) = (p.name.clone(), p.merged.handing_over);
            self.note(None, || format!("{name} routes: term {term} leader {leader:?} handing over {holds}"));
        }
        if !self.holds(proxy) {
            self.say_drained(proxy, false);
        }
        if changed && !self.is(Env::OldServerKept) {
            let admitted = self.leads_for(proxy);
            for app in 0..self.front.apps.len() {
                let Some(id) = self.front.apps[app].conn.filter(|_| self.front.apps[app].proxy == proxy)
                else {
                    continue;
                };
                if self.front.conns.get(&id).map(|c| c.at) != admitted {
                    self.mark("front: a server was let go of for a newer leader");
                    self.lose(app, Loss::Silent, None);
                }
            }
        }
        self.tidy(proxy);
        self.pump_queue(proxy);
        for app in 0..self.front.apps.len() {
            if self.front.apps[app].proxy == proxy {
                self.app_turn(app);
            }
        }
        self.account(proxy);
    }

    /// Whether nobody has a transaction on the leader; told to the agents while it hands over.
    pub(super) fn account(&mut self, proxy: usize) {
        let busy = |a: &super::App| a.proxy == proxy && a.conn.is_some() && !a.session.is_between();
        if self.front.proxies[proxy].merged.handing_over && !self.front.apps.iter().any(busy) {
            self.say_drained(proxy, true);
        }
    }

    fn say_drained(&mut self, proxy: usize, drained: bool) {
        if std::mem::replace(&mut self.front.proxies[proxy].told_drained, drained) == drained {
            return;
        }
        let term = cluster::Term(self.front.proxies[proxy].merged.term);
        for at in 0..self.hosts.len() {
            let delay = self.front_delay();
            let word = drained.then_some(term);
            self.after(delay, What::Front(Box::new(Due::Drained(proxy, at, word))));
        }
    }

    /// It has got a server.
    pub(super) fn attach(&mut self, app: usize, id: u64) {
        let mut out = Out::default();
        let Some(conn) = self.front.conns.get_mut(&id) else { return };
        conn.user = Some(Who::App(app));
        conn.numbers = (0, 0);
        let a = &mut self.front.apps[app];
        a.session.attach(&mut conn.known, &mut out);
        (a.conn, a.fresh) = (Some(id), true);
        self.judge_sent(app, id, Sends::First);
        self.hand_on(app, &out, &[], &[], Sends::Ours);
    }

    /// Sends what a call of the session has made.
    fn hand_on(&mut self, app: usize, out: &Out, to_client: &[u8], to_server: &[u8], sends: Sends) {
        let a = &mut self.front.apps[app];
        out.to_client.slices(to_client).for_each(|bytes| a.heard.extend_from_slice(bytes));
        let id = a.conn;
        let bytes: Vec<u8> = out.to_server.slices(to_server).flatten().copied().collect();
        if let Some(id) = id.filter(|_| !bytes.is_empty()) {
            self.front.apps[app].fresh = false;
            self.judge_sent(app, id, sends);
            self.send_up(id, Up::Bytes(bytes));
        }
    }

    /// Takes what the application has sent, as far as that is possible now (`Client::hear_client`).
    pub(super) fn app_turn(&mut self, app: usize) {
        loop {
            let a = &self.front.apps[app];
            if a.settling.is_some() || a.waits_since.is_some() || a.closed || !self.acts(a.proxy) {
                break;
            }
            let proxy = a.proxy;
            if let Some(id) = a.conn {
                if self.holds(proxy) && a.session.is_between() {
                    // Whoever has not sent anything yet need not keep it.
                    self.front.apps[app].fresh = false;
                    self.let_go(app);
                    if self.front.apps[app].conn.is_some() {
                        break;
                    }
                    continue;
                }
                let over = self
                    .front
                    .conns
                    .get(&id)
                    .is_some_and(|c| c.known.term != self.front.proxies[proxy].merged.term);
                if over && !self.is(Env::TermOutlived) {
                    // What is under way may still be answered; nothing else is.
                    if !self.front.apps[app].session.is_busy() {
                        self.mark("front: a block was ended with its term");
                        self.lose(app, Loss::Silent, None);
                        continue;
                    }
                    break;
                }
                let a = &self.front.apps[app];
                // A cancel that comes too late must not meet its next request either.
                let late = self.front.conns.get(&id).is_some_and(|c| c.cancels > 0);
                if late && !a.session.is_busy() {
                    break;
                }
            }
            self.let_go(app);
            if self.front.apps[app].input.is_empty() {
                break;
            }
            match self.app_feed(app) {
                Step::More | Step::Whole(_) | Step::Wait => break,
                Step::End => {
                    self.front.apps[app].closed = true;
                    break;
                }
                Step::Link => {}
            }
            match self.try_get(proxy) {
                Some(id) => self.attach(app, id),
                None => {
                    self.mark("front: a statement was held");
                    self.front.apps[app].waits_since = Some(self.now);
                    self.wait_in_queue(proxy, Who::App(app));
                    break;
                }
            }
        }
        self.account(self.front.apps[app].proxy);
        self.app_reads(app);
    }

    fn app_feed(&mut self, app: usize) -> Step {
        let mut out = Out::default();
        let super::Front { apps, conns, proxies, .. } = &mut self.front;
        let a = &mut apps[app];
        let came_in = std::mem::take(&mut a.input);
        let known = a.conn.and_then(|id| conns.get_mut(&id)).map(|c| &mut c.known);
        let taken = a.session.front(&mut proxies[a.proxy].shelf, known, &came_in, &mut out);
        a.input = came_in[taken.bytes..].to_vec();
        a.fresh &= out.to_client.is_empty();
        self.hand_on(app, &out, &[], &came_in, Sends::Clients);
        taken.step
    }

    /// Its server has said something.
    pub(super) fn proxy_hears(&mut self, id: u64) {
        let Some(conn) = self.front.conns.get(&id) else { return };
        match conn.user {
            Some(Who::App(app)) => self.hear_server(app, id),
            Some(Who::Fate(app)) => self.fate_hears(app, id),
            // Whatever it has to say: it is not what was asked for.
            None => self.close_conn(id),
        }
    }

    fn hear_server(&mut self, app: usize, id: u64) {
        let mut out = Out::default();
        let super::Front { apps, conns, .. } = &mut self.front;
        let Some(conn) = conns.get_mut(&id) else { return };
        let came_in = std::mem::take(&mut conn.came_in);
        let (used, heard) = apps[app].session.back(&mut conn.known, &came_in, &mut out);
        conn.came_in = came_in[used..].to_vec();
        self.hand_on(app, &out, &came_in, &[], Sends::Ours);
        match heard {
            Heard::Fatal(n) => {
                let words = came_in[used + HEADER_BYTES..used + n].to_vec();
                self.lose(app, Loss::Ended, Some(&words));
            }
            Heard::Broken | Heard::End => {
                let session = format!("{:?}", self.front.apps[app].session);
                self.note(None, || {
                    format!(
                        "app {app} is closed: {heard:?} of {:?}, {session}",
                        String::from_utf8_lossy(&came_in[used..])
                    )
                });
                self.close_conn(id);
                (self.front.apps[app].conn, self.front.apps[app].closed) = (None, true);
            }
            Heard::Unfit => {
                self.close_conn(id);
                self.front.apps[app].conn = None;
            }
            Heard::More | Heard::Whole(_) => {}
        }
        self.app_turn(app);
    }

    /// Gives the server back if it is not needed any more.
    fn let_go(&mut self, app: usize) {
        let a = &mut self.front.apps[app];
        let Some(id) = a.conn.filter(|_| a.session.is_free() && !a.fresh) else { return };
        if self.front.conns.get(&id).is_some_and(|c| c.came_in.is_empty() && c.cancels == 0) {
            a.conn = None;
            self.give_back(id);
        }
    }

    /// Its server is gone (`Client::lose`).
    pub(super) fn lose(&mut self, app: usize, loss: Loss, last_words: Option<&[u8]>) {
        let Some(id) = self.front.apps[app].conn.take() else { return };
        let mut out = Out::default();
        let (ran_in, unanswered) = self
            .front
            .conns
            .get(&id)
            .map_or_else(Default::default, |c| (c.known.ran_in(), c.numbers.0 > c.numbers.1));
        self.remember_loss(app, loss, unanswered);
        let loss = if self.is(Env::SilenceIsAnEnd) { Loss::Ended } else { loss };
        self.close_conn(id);
        let outcome = self.front.apps[app].session.lost(loss, last_words, &mut out);
        self.note(None, || format!("app {app} loses its server ({loss:?}): {outcome:?}"));
        self.hand_on(app, &out, &[], &[], Sends::Ours);
        self.after_loss(app, outcome, ran_in);
    }

    /// What became of its transaction is known, or is not.
    pub(super) fn settled(&mut self, app: usize, fate: Fate) {
        self.front.apps[app].settling = None;
        self.mark(&format!("front: settled {fate:?}"));
        self.note(None, || format!("app {app}: {fate:?}"));
        let mut out = Out::default();
        let outcome = self.front.apps[app].session.settled(fate, &mut out);
        self.hand_on(app, &out, &[], &[], Sends::Ours);
        self.after_loss(app, outcome, RanIn::default());
    }

    fn after_loss(&mut self, app: usize, outcome: Outcome, ran_in: RanIn) {
        match outcome {
            Outcome::Goes => {}
            Outcome::End => self.front.apps[app].closed = true,
            Outcome::Again => {
                self.mark("front: a statement was run again");
                let a = &mut self.front.apps[app];
                let mut again = a.session.take_again();
                again.append(&mut a.input);
                a.input = again;
            }
            Outcome::Settle(xid) => {
                self.front.apps[app].settling = Some(Settling::new(ran_in, xid, self.now));
                self.ask_fate(app);
            }
        }
        self.app_turn(app);
    }
}
