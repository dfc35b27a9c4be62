//! Leases of proxies: asked for, given and held (`proxy::follow`, `agent::run`).

use cluster::{Term, Time};
use failover::Event;
use failover::lease::{Lease, Ticket};
use route::lease::{Given, RENEW};

use crate::clock::{Us, us};
use crate::law::Moment;
use crate::network::At;
use crate::world::{What, World};

use super::Due;

impl World {
    /// A proxy that gives strict reads begins to ask for leases.
    pub(crate) fn make_strict(&mut self, proxy: usize) {
        self.front.proxies[proxy].strict = true;
        let drift = i64::try_from(self.front_span(0, 2000)).unwrap_or(0) - 1000;
        self.front.proxies[proxy].clock.drift_ppm = drift;
        self.lease_in(proxy, 0);
    }

    fn lease_in(&mut self, proxy: usize, delay: Us) {
        self.after(delay, What::Front(Box::new(Due::LeaseTick(proxy))));
    }

    /// What the clock of a proxy's host shows.
    pub(crate) fn proxy_time(&self, proxy: usize) -> Time {
        let p = &self.front.proxies[proxy];
        p.home.map_or(p.clock, |home| self.hosts[home].clock).local(self.now)
    }

    pub(super) fn lease_tick(&mut self, proxy: usize) {
        self.lease_in(proxy, us(RENEW));
        let leader = self.front.proxies[proxy].merged.leader.as_ref();
        let Some(at) = leader.and_then(|l| self.places.get(&l.name).copied()) else { return };
        if !self.acts(proxy) || !self.hears(proxy, at) {
            return;
        }
        let (now, delay) = (self.proxy_time(proxy), self.front_delay());
        let ask = self.front.proxies[proxy].leases.ask(now);
        self.after(delay, What::Front(Box::new(Due::LeaseAsked(proxy, at, ask.seq))));
    }

    /// Whether an agent and a proxy hear each other.
    fn hears(&self, proxy: usize, at: At) -> bool {
        let p = &self.front.proxies[proxy];
        p.runs && !p.deaf && p.home.is_none_or(|home| self.network.both(at, home))
    }

    /// A question reaches an agent.
    pub(super) fn lease_asked(&mut self, proxy: usize, at: At, seq: u64) {
        let life = self.hosts[at].agent.life;
        self.tell(at, life, Event::LeaseAsked(Ticket { from: proxy as u64, seq }));
    }

    /// An agent answers.
    pub(crate) fn give_leases(&mut self, at: At, leases: Vec<Lease>) {
        for lease in leases {
            let proxy = usize::try_from(lease.ticket.from).unwrap_or(usize::MAX);
            if proxy >= self.front.proxies.len() || !self.hears(proxy, at) {
                continue;
            }
            let valid_ms = u64::try_from(lease.valid.as_millis()).unwrap_or(u64::MAX);
            let given = Given { seq: lease.ticket.seq, term: lease.term.0, valid_ms };
            let delay = self.front_delay();
            self.after(delay, What::Front(Box::new(Due::LeaseGiven(proxy, given))));
        }
    }

    /// An answer reaches its proxy.
    pub(super) fn lease_given(&mut self, proxy: usize, given: Given) {
        if !self.front.proxies[proxy].runs {
            return;
        }
        self.front.proxies[proxy].leases.given(given);
        self.mark("front: a lease was given");
        self.judge(&Moment::Leased { proxy });
    }

    /// The term of the lease that a proxy holds now, if it does.
    pub(crate) fn leased(&self, proxy: usize) -> Option<Term> {
        let lease = self.front.proxies[proxy].leases.lease();
        lease.covers(lease.term, self.proxy_time(proxy)).then_some(Term(lease.term))
    }
}
