//! Carries out deeds on the own server, one at a time.
//!
//! Every deed is a short story of promises and hands: what must be durable is
//! on disk before the deed goes on (C-4, C-5), and what a deed changed is
//! probed afresh before its end is told, so the thinking part judges facts.
//!
//! Decides nothing: a deed whose ground is gone fails and is judged again.

use std::sync::Arc;
use std::time::Duration;

use cluster::local::{Promoting, Rebuild};
use cluster::report::{Progress, Recruited};
use cluster::state::Phase;
use cluster::{Action, MemberId, Position, Term};
use failover::{Event, Outcome, Setback};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock;
use crate::keeper::Keeper;
use crate::routing::{Routing, is_handed_over};
use crate::shared::Shared;
use crate::source::Source;
use crate::wal_over_peers::{Stretch, fetch};
use crate::wal_witness::WalHands;
use peers::Peers;
use postgres::Error as HandsError;
use postgres::perform::{Hands, PromoteOrder};
use store::Store;

/// Longest that a barrier waits before it is judged again.
pub const BARRIER_LIMIT: Duration = Duration::from_secs(5);
/// Longest that a switchover's shutdown may take before the tree is killed.
pub const HAND_OVER_LIMIT: Duration = Duration::from_secs(3);

/// What a deed may use.
#[derive(Clone)]
pub struct Tools {
    /// The own server.
    pub hands: Arc<Hands>,
    /// What a witness that keeps WAL has in its place.
    pub wal: Option<Arc<WalHands>>,
    /// Other agents, who may have WAL for us.
    pub peers: Peers,
    /// What everybody last said.
    pub shared: Arc<Shared>,
    /// Who routes clients, and is told before they lose their server.
    pub routing: Arc<Routing>,
    /// The promises.
    pub keeper: Arc<Keeper>,
    /// The store, to validate a promotion.
    pub store: Store,
    /// Where other members are.
    pub source: Source,
    /// To the agent's loop.
    pub events: mpsc::UnboundedSender<Event>,
    /// Where deeds run, which may block.
    pub runtime: Handle,
}

/// The deed under way.
pub struct Executor {
    tools: Tools,
    running: Option<JoinHandle<()>>,
}

impl Executor {
    /// Nothing under way.
    #[must_use]
    pub fn new(tools: Tools) -> Executor {
        Executor { tools, running: None }
    }

    /// Begins `action`, breaking off what runs.
    pub fn begin(&mut self, action: Action) {
        if let Some(old) = self.running.take() {
            old.abort();
        }
        let tools = self.tools.clone();
        self.running = Some(self.tools.runtime.spawn(async move {
            let outcome = tools.perform(&action).await;
            match &outcome {
                Ok(_) => tracing::info!(?action, "done"),
                Err(why) => tracing::warn!(?action, %why, "failed"),
            }
            let setback = |e: HandsError| Setback { why: e.to_string(), of_the_data: e.is_of_the_data() };
            tools.tell_end(action, outcome.map_err(setback)).await;
        }));
    }
}

impl Tools {
    async fn tell_end(&self, action: Action, outcome: Result<Outcome, Setback>) {
        self.tell(Event::Vows(Box::new(self.keeper.vows())));
        match &self.wal {
            Some(wal) => self.tell(Event::Probed(Box::new(wal.look().await.server), None)),
            None => {
                let probe = self.hands.probe().await;
                self.tell(Event::Probed(Box::new(probe.server), probe.leading.map(Box::new)));
            }
        }
        self.tell(Event::Done(Box::new(action), outcome));
    }

    pub(crate) fn vow(&self, change: impl FnOnce(&mut cluster::Vows)) -> Result<(), HandsError> {
        self.keeper.vow(change).map_err(|e| called_off(&e.to_string()))
    }

    /// The loop's end of the channel only closes when the agent ends.
    pub(crate) fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }

    async fn perform(&self, action: &Action) -> Result<Outcome, HandsError> {
        if let Some(wal) = &self.wal {
            return self.perform_on_wal(wal, action).await;
        }
        match action {
            Action::Initdb => self.hands.initdb().await?,
            Action::StartCut => self.hands.start_cut().await?,
            Action::Fence { term } => self.fence(*term).await?,
            Action::Recruit { term } => return self.recruit(*term).await.map(Outcome::Recruited),
            Action::HandOver { term } => self.hand_over(*term).await?,
            Action::Prepare { .. } => self.hands.prepare().await?,
            Action::FastForward { term, holder, timeline, from, to } => {
                let (holder, timeline) = (holder.clone(), *timeline);
                let stretch = Stretch { holder, timeline, from: *from, to: *to };
                return self.fast_forward(*term, &stretch).await.map(Outcome::Recruited);
            }
            Action::Promote { term, .. } => self.promote(*term, action).await?,
            Action::Barrier { rule, .. } => {
                return self.hands.barrier(rule, BARRIER_LIMIT).await.map(Outcome::Proven);
            }
            Action::ChangeRule { term, from, to, sub } => {
                self.vow(|v| v.last_rule_seen = Some((*term, *sub, to.clone())))?;
                return self.hands.change_rule(from, to).await.map(Outcome::Proven);
            }
            Action::Follow { term, leader, afresh } => {
                if *afresh {
                    tracing::warn!("the server gets no WAL of {leader} and is restarted");
                    self.hands.stop_and_cut_off().await?;
                }
                self.follow(*term, leader).await?;
            }
            Action::Rewind { leader, .. } => self.rebuild(leader, Rebuild::Rewind).await?,
            Action::Clone { leader, .. } => self.rebuild(leader, Rebuild::Clone).await?,
            Action::Checkpoint { .. } => {
                // Whoever clones from us waits for the checkpoint, and needs role and slot.
                self.hands.ensure_roles().await?;
                self.hands.keep_slots(&self.source.slots()).await?;
                self.hands.checkpoint().await?;
            }
            Action::Stop => self.hands.stop().await?,
        }
        Ok(Outcome::Done)
    }

    /// C-4: the tree is dead and that is on disk before anybody hears of it.
    /// Where the log ends is read when the next term recruits us.
    async fn fence(&self, term: Term) -> Result<(), HandsError> {
        self.hands.kill_tree().await?;
        self.vow(|v| {
            v.resigned = v.resigned.max(term);
            v.resigned_at = None;
            v.resigned_clean = false;
        })
    }

    /// C2 a to c. Promise and cut may overlap; the position is read after both.
    async fn recruit(&self, term: Term) -> Result<Recruited, HandsError> {
        let keeper = self.keeper.clone();
        let promise = tokio::task::spawn_blocking(move || keeper.vow(|v| v.promise = v.promise.max(term)));
        let cut = self.hands.cut().await;
        let promised = promise.await.map_err(|_| called_off("the promise was interrupted"))?;
        promised.map_err(|e| called_off(&e.to_string()))?;
        cut?;
        let read = self.hands.wal_end().await;
        let (position, lineage, replay) = match read {
            Ok(end) => (self.source.position_of(&end), end.lineage, end.replay),
            Err(why) => {
                // It blocks, but discovers nothing (C-3).
                tracing::warn!(%why, "the end of the WAL can't be told");
                (None, self.hands.lineage(), cluster::Lsn::ZERO)
            }
        };
        Ok(Recruited { term, position, lineage, replay })
    }

    /// (a) 5: gets the WAL that we lack and reports again. Our receiver is off since we
    /// were recruited; only whole records are taken.
    async fn fast_forward(&self, term: Term, stretch: &Stretch) -> Result<Recruited, HandsError> {
        self.hands.cut().await?;
        let state = self.source.state();
        let holder = state.member(&stretch.holder).ok_or_else(|| called_off("the holder is no member"))?;
        let ours = self.hands.wal_end().await?.lineage.timeline;
        let percent = |at: cluster::Lsn| {
            let whole = stretch.to.bytes_past(stretch.from).max(1);
            u8::try_from(at.bytes_past(stretch.from).saturating_mul(100) / whole).ok()
        };
        let progress = |at| {
            let what = "fast-forward".to_string();
            let detail = format!("WAL up to {} from {}", stretch.to, stretch.holder.node);
            self.tell(Event::Progress(Some(Progress { what, percent: percent(at), detail })));
        };
        fetch(&self.peers, &holder.addresses.peers, stretch, ours, &self.hands, progress).await?;
        self.recruit(term).await
    }

    /// P0, P1 and P2's first half.
    async fn hand_over(&self, term: Term) -> Result<(), HandsError> {
        let _held = self.routing.hold(term);
        let mut agreed = self.store.watch();
        tokio::select! {
            biased;
            _ = agreed.wait_for(|state| !is_handed_over(state, term)) => {
                return Err(called_off("the switchover was called off before the shutdown"));
            }
            () = self.routing.drain(term) => {}
        }
        let end = self.hands.shut_down_for_handover(HAND_OVER_LIMIT).await?;
        self.vow(|v| {
            v.resigned = v.resigned.max(term);
            v.resigned_at = end.as_ref().map(|e| Position::new(term, e.end));
            v.resigned_lineage = end.as_ref().map(|e| e.lineage.clone());
            v.resigned_clean = end.is_some();
        })?;
        self.routing.resigned(term);
        Ok(())
    }

    /// C5. The store is read once more, linearizably, when everything else is
    /// ready: a promotion that was queued while we slept must not happen.
    async fn promote(&self, term: Term, action: &Action) -> Result<(), HandsError> {
        let Action::Promote { timeline, rule, sub, .. } = action else { return Ok(()) };
        if self.keeper.vows().promoting.is_some_and(|p| p.term >= term) {
            return Err(called_off("it was asked to promote in this term before"));
        }
        self.vow(|v| {
            v.promise = v.promise.max(term);
            v.last_rule_seen = Some((term, *sub, rule.clone()));
        })?;
        let order = PromoteOrder { timeline: *timeline, rule: rule.clone() };
        let (keeper, store, me) = (self.keeper.clone(), self.store.clone(), self.source.me());
        let hands = self.hands.clone();
        let validate = move |next_xid: u64| async move {
            keeper
                .vow(|v| v.promoting = Some(Promoting { term, next_xid }))
                .map_err(|e| called_off(&e.to_string()))?;
            let began = clock::now();
            let state = store.read().await.map_err(|e| called_off(&e.to_string()))?;
            let mine = state.ctl.leader.as_ref().is_some_and(|l| l.node == me);
            if state.ctl.term != term || state.ctl.phase != Phase::Elected || !mine {
                return Err(called_off("another term has begun"));
            }
            // C-25: a guard that was just started has no deadline, and must have one first.
            let until = began + failover::fencing::first_reach(&state);
            hands.site().guard.arm(Some(clock::boot_ms(until))).await
        };
        self.hands.promote(order, validate).await
    }

    /// Attaching is itself a promise: to that term, and to having attached (O-8).
    pub(crate) fn vow_to_follow(&self, term: Term) -> Result<(), HandsError> {
        let vows = self.keeper.vows();
        if vows.promise > term {
            return Err(called_off("a later term is promised"));
        }
        if vows.promise < term || vows.attached < term {
            self.vow(|v| {
                v.promise = v.promise.max(term);
                v.attached = v.attached.max(term);
            })?;
        }
        Ok(())
    }

    async fn follow(&self, term: Term, leader: &MemberId) -> Result<(), HandsError> {
        self.vow_to_follow(term)?;
        let address = self.source.postgres_address(leader)?;
        self.hands.follow(term, &address).await
    }

    /// The mark stands on disk before the first byte is changed: a directory
    /// that was left half made is never started.
    async fn rebuild(&self, leader: &MemberId, how: Rebuild) -> Result<(), HandsError> {
        let address = self.source.postgres_address(leader)?;
        self.vow(|v| v.rebuilding = Some(how))?;
        self.tell(Event::Vows(Box::new(self.keeper.vows())));
        let events = self.events.clone();
        let progress = move |p| {
            let _ = events.send(Event::Progress(Some(p)));
        };
        let sysid = match how {
            Rebuild::Rewind => self.hands.rewind(&address, self.source.switch_lsn(), progress).await?,
            Rebuild::Clone => self.hands.copy_from(&address, self.source.sysid(), progress).await?,
        };
        self.vow(|v| {
            v.rebuilding = None;
            v.sysid = sysid;
        })?;
        Ok(())
    }
}

fn called_off(why: &str) -> HandsError {
    HandsError::CalledOff(why.to_string())
}
