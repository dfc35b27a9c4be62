//! What this agent tells those who route clients, and when they are waited for.
//!
//! Told at once on every change that routes anybody otherwise; lags go with the
//! keep-alive. A planned switchover tells them first, and waits until nobody has
//! a transaction running, for a moment at most (protocol (f), P0). They are not
//! told while the switchover is only being prepared: that takes as long as two
//! checkpoints, and clients would be held all the while.
//!
//! Decides nothing about who leads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::lease::{Ask, Given};
use api::routes::{Drained, Own, Routes, routes};
use bytes::Bytes;
use cluster::{ClusterState, Term};
use failover::Event;
use failover::lease::{Lease, Ticket};
use peers::Subscribers;
use peers::subscribers::{LeaseAsk, Present};
use tokio::time::timeout;

use crate::shared::Shared;
use crate::source::Source;

/// Longest that a hand-over waits until its subscribers have drained; what runs then
/// is ended by the shutdown.
pub const DRAIN_LIMIT: Duration = Duration::from_millis(1000);

/// The word of this agent to its subscribers.
#[derive(Debug)]
pub struct Routing {
    source: Source,
    shared: Arc<Shared>,
    subscribers: Subscribers,
    word: Mutex<Word>,
}

#[derive(Debug, Default)]
struct Word {
    told: Option<Routes>,
    /// The term that is being handed over.
    holding: Option<Term>,
    resigned: Term,
}

/// Clients are held as long as this is kept.
#[derive(Debug)]
pub struct Hold(Arc<Routing>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.lock().holding = None;
        self.0.publish();
    }
}

/// Whether `term` is still to be handed over, as agreed.
#[must_use]
pub fn is_handed_over(state: &ClusterState, term: Term) -> bool {
    state.ctl.term == term && state.ctl.target.is_some()
}

impl Routing {
    /// Has told nothing yet.
    #[must_use]
    pub fn new(source: Source, shared: Arc<Shared>, subscribers: Subscribers) -> Routing {
        Routing { source, shared, subscribers, word: Mutex::default() }
    }

    /// Tells what is agreed now, and what everybody last said.
    pub fn publish(&self) {
        let mut word = self.lock();
        let (state, picture) = (self.source.state(), self.shared.picture());
        let own = Own { resigned: word.resigned, handing_over: word.holding == Some(state.ctl.term) };
        let now = routes(&state, &picture.reports, &self.source.me(), own);
        let urgent = word.told.as_ref().is_none_or(|told| !told.routes_as(&now));
        self.subscribers.publish(Bytes::from(now.to_bytes()), urgent);
        word.told = Some(now);
    }

    /// Has clients held in `term` for as long as the answer is kept.
    #[must_use]
    pub fn hold(self: &Arc<Self>, term: Term) -> Hold {
        // What they said of an earlier try is over.
        self.subscribers.forget_words();
        self.lock().holding = Some(term);
        self.publish();
        Hold(self.clone())
    }

    /// Waits until no subscriber has a transaction running in `term`, or for `DRAIN_LIMIT`.
    pub async fn drain(&self, term: Term) {
        let mut present = self.subscribers.present();
        let all = |present: &Present| present.values().all(|s| is_drained(s.drained.as_ref(), term));
        let waited = timeout(DRAIN_LIMIT, present.wait_for(all)).await.is_ok();
        if !waited {
            let late = present.borrow().values().filter(|s| !is_drained(s.drained.as_ref(), term)).count();
            tracing::warn!(%term, late, "not every proxy has drained: its transactions are ended");
        }
    }

    /// Gives a proxy the lease that it asked for.
    pub fn give(&self, lease: Lease) {
        let valid_ms = u64::try_from(lease.valid.as_millis()).unwrap_or(u64::MAX);
        let given = Given { seq: lease.ticket.seq, term: lease.term.0, valid_ms };
        self.subscribers.give_lease(lease.ticket.from, Bytes::from(given.to_bytes()));
    }

    /// Our server has taken its last write in `term`: known here before our report says so,
    /// so that nobody who was held is sent to it.
    pub fn resigned(&self, term: Term) {
        let mut word = self.lock();
        word.resigned = word.resigned.max(term);
    }

    /// A thread that panicked left a word that is told anew.
    fn lock(&self) -> MutexGuard<'_, Word> {
        self.word.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A proxy's question, for whoever thinks about it; nothing if it is none.
#[must_use]
pub fn asked(said: &LeaseAsk) -> Option<Event> {
    let ask = Ask::from_bytes(&said.body)?;
    Some(Event::LeaseAsked(Ticket { from: said.from, seq: ask.seq }))
}

fn is_drained(said: Option<&Bytes>, term: Term) -> bool {
    said.and_then(|body| Drained::from_bytes(body)).is_some_and(|d| d.term == term.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::command::{Kind, Member, MemberState};
    use cluster::state::{Control, Phase, Switchover};
    use cluster::{MemberId, NodeId};

    /// n1, which leads term 4 and is to hand it over.
    fn leader() -> Arc<Routing> {
        let me = NodeId::new("n1").expect("a good name");
        let member = Member {
            incarnation: 1,
            raft_id: 1,
            nonce: 1,
            kind: Kind::Data,
            addresses: Default::default(),
            tags: Default::default(),
            state: MemberState::Voter,
            leaving: false,
            reinit: false,
        };
        let ctl = Control {
            term: Term(4),
            phase: Phase::Open,
            leader: Some(MemberId::new(me.clone(), 1)),
            target: Some(Switchover { to: None, at_ms: None, asked_ms: 0 }),
            ..Control::default()
        };
        let members = [(me.clone(), member)].into();
        let source = Source::new(me);
        source.set(Arc::new(ClusterState { members, ctl, ..ClusterState::default() }));
        Arc::new(Routing::new(source, Arc::default(), Subscribers::default()))
    }

    fn told(routing: &Routing) -> (bool, bool) {
        routing.publish();
        let word = routing.lock();
        let told = word.told.as_ref().expect("it was told");
        (told.leader.is_some(), told.handing_over)
    }

    #[test]
    fn clients_are_held_while_it_is_handed_over_and_never_sent_back_after() {
        let routing = leader();
        assert_eq!(told(&routing), (true, false), "staged, and not begun");
        let hold = routing.hold(Term(4));
        assert_eq!(told(&routing), (true, true));
        drop(hold);
        assert_eq!(told(&routing), (true, false), "it failed before the shutdown");
        let hold = routing.hold(Term(4));
        routing.resigned(Term(4));
        drop(hold);
        assert_eq!(told(&routing), (false, false));
    }

    #[test]
    fn what_is_called_off_holds_nobody() {
        let routing = leader();
        let _hold = routing.hold(Term(4));
        let mut state = ClusterState::clone(&routing.source.state());
        assert!(is_handed_over(&state, Term(4)) && !is_handed_over(&state, Term(3)));
        state.ctl.target = None;
        assert!(!is_handed_over(&state, Term(4)));
        routing.source.set(Arc::new(state));
        assert_eq!(told(&routing), (true, false));
    }

    #[tokio::test]
    async fn where_nobody_subscribes_nobody_is_waited_for() {
        let routing = leader();
        let at_once = tokio::select! {
            biased;
            () = routing.drain(Term(4)) => true,
            () = std::future::ready(()) => false,
        };
        assert!(at_once);
    }

    #[test]
    fn a_word_about_another_term_drains_nothing() {
        let body = |term| Bytes::from(Drained { term }.to_bytes());
        assert!(is_drained(Some(&body(4)), Term(4)));
        assert!(!is_drained(Some(&body(3)), Term(4)) && !is_drained(None, Term(4)));
        assert!(!is_drained(Some(&Bytes::new()), Term(4)));
    }
}
