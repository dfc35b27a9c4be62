//! The loop of an agent: report, think, act, repeat.
//!
//! ```text
//!   tick, peers, store, probes, ends of deeds ──▶ Controller ──▶ promise, deed, command, word to the others
//! ```
//! One task, one queue in; everything slow runs beside it and sends its result
//! back as an event. The loop itself touches no disk but for a bare promise.
//!
//! At rest an agent costs what its wake-ups cost, so they are made to coincide:
//! whoever follows speaks when the leader has just spoken, and a turn that
//! something else caused puts the next tick off.

use std::sync::Arc;
use std::time::Duration;

use cluster::command::{Change, Command};
use cluster::report::Report;
use cluster::state::Phase;
use cluster::{ClusterState, Durability, NodeId, Time};
use failover::{Controller, Effects, Event};
use store::Store;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep_until};

use crate::clock;
use crate::executor::{Executor, Tools};
use crate::keeper::Keeper;
use crate::shared::Shared;

/// Longest between two turns of the loop, unless all is calm.
pub const TICK: Duration = Duration::from_millis(50);
/// A leader whose heartbeat is this late is looked at directly.
pub const LOOK_AFTER: Duration = Duration::from_millis(180);
/// A follower waits so long beyond a heartbeat for the leader to speak first.
pub const GRACE: Duration = Duration::from_millis(20);
/// A turn that begins this much late is counted as lateness (decision 8).
pub const LATE: Duration = Duration::from_millis(100);
/// What people and probes see is at most this old.
pub const PICTURE: Duration = Duration::from_millis(50);
/// Longest that a command may be on its way.
pub const SUBMIT_LIMIT: Duration = Duration::from_secs(2);

/// What the loop is wired to.
pub struct Wires {
    /// From probes, deeds and submissions.
    pub events: mpsc::UnboundedReceiver<Event>,
    /// To the same, for submissions made here.
    pub events_tx: mpsc::UnboundedSender<Event>,
    /// What is agreed.
    pub state: watch::Receiver<Arc<ClusterState>>,
    /// Reports to everybody.
    pub outbox: mpsc::Sender<Report>,
    /// Asks for a look at the leader's PostgreSQL.
    pub look: Arc<Notify>,
    /// Asks for a read of the store that proves our term.
    pub read: Arc<Notify>,
    /// The guard's deadline and sign of life.
    pub guard: watch::Sender<Option<Time>>,
}

/// An agent that thinks.
pub struct Agent {
    controller: Controller,
    executor: Executor,
    keeper: Arc<Keeper>,
    store: Store,
    me: NodeId,
    shared: Arc<Shared>,
    tools: Tools,
    spoke: Time,
    led: Time,
    said: Option<Report>,
    pictured: Time,
}

impl Agent {
    /// An agent with everything it needs.
    #[must_use]
    pub fn new(controller: Controller, tools: Tools, shared: Arc<Shared>) -> Agent {
        Agent {
            controller,
            executor: Executor::new(tools.clone()),
            keeper: tools.keeper.clone(),
            store: tools.store.clone(),
            me: tools.source.me(),
            shared,
            tools,
            spoke: Time::default(),
            led: Time::default(),
            said: None,
            pictured: Time::default(),
        }
    }

    /// Runs until every sender of events is gone.
    pub async fn run(mut self, mut wires: Wires) {
        let (mut turned, mut tick) = (Instant::now(), TICK);
        loop {
            let event = tokio::select! {
                () = sleep_until(turned + tick) => Event::Tick,
                changed = wires.state.changed() => {
                    if changed.is_err() { return }
                    self.learn(&wires)
                }
                event = wires.events.recv() => {
                    let Some(event) = event else { return };
                    event
                }
            };
            let gap = turned.elapsed();
            turned = Instant::now();
            if gap > tick + LATE {
                tracing::warn!(late_ms = gap.as_millis() as u64, "the agent's loop ran late");
                self.step(Event::Late(gap - tick), &wires);
            }
            self.step(event, &wires);
            // Whatever else is waiting is taken in before anything is said.
            while let Ok(event) = wires.events.try_recv() {
                self.step(event, &wires);
            }
            self.breathe(&wires);
            tick = self.tick();
        }
    }

    /// How long the next turn may be off. While the term is open and its leader
    /// speaks, nothing is due before the next heartbeat.
    fn tick(&self) -> Duration {
        let state = self.tools.source.state();
        let leads = state.ctl.leader.as_ref().is_some_and(|l| l.node == self.me);
        match state.ctl.phase {
            Phase::Open if leads => self.beat(),
            Phase::Open if clock::now().since(self.led) < self.beat() => self.beat() + GRACE,
            _ => TICK,
        }
    }

    fn beat(&self) -> Duration {
        Duration::from_millis(self.tools.source.state().settings.timing.heartbeat_ms)
    }

    /// A new agreed state: our seat may have changed with it.
    fn learn(&mut self, wires: &Wires) -> Event {
        let state = wires.state.clone().borrow_and_update().clone();
        self.tools.source.set(state.clone());
        let seat = state.member_id(&self.me).filter(|id| id.incarnation > 0);
        if let Some(id) = seat.filter(|id| self.keeper.vows().member.as_ref() != Some(id)) {
            if let Err(why) = block_in_place(|| self.keeper.vow(|v| v.member = Some(id))) {
                tracing::error!(%why, "our seat can't be written down");
            }
            self.step(Event::Vows(Box::new(self.keeper.vows())), wires);
        }
        Event::State(state)
    }

    fn step(&mut self, event: Event, wires: &Wires) {
        if let Event::Heard(report) = &event {
            let leader = &self.tools.source.state().ctl.leader;
            if leader.as_ref() == Some(&report.member) {
                self.led = clock::now();
            }
        }
        let effects = self.controller.step(clock::now(), clock::unix_ms(), event);
        self.carry_out(effects, wires);
    }

    fn carry_out(&mut self, effects: Effects, wires: &Wires) {
        if let Some(term) = effects.promise {
            match block_in_place(|| self.keeper.vow(|v| v.promise = v.promise.max(term))) {
                Ok(()) => self.step(Event::Vows(Box::new(self.keeper.vows())), wires),
                Err(why) => tracing::error!(%why, "a promise can't be written down"),
            }
        }
        if let Some(action) = effects.perform {
            tracing::info!(?action, "begins");
            self.executor.begin(action);
        }
        if let Some(change) = effects.submit {
            self.submit(change, wires);
        }
        if effects.speak {
            self.speak(wires);
        }
    }

    fn submit(&self, change: Change, wires: &Wires) {
        let (store, events) = (self.store.clone(), wires.events_tx.clone());
        let command = Command { at_ms: clock::unix_ms(), by: self.me.clone(), change };
        tokio::spawn(async move {
            let answer = tokio::time::timeout(SUBMIT_LIMIT, store.submit(command.clone())).await;
            let answer = match answer {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(why)) => Err(why.to_string()),
                Err(_) => Err("the store did not answer in time".to_string()),
            };
            if let Err(why) = &answer {
                tracing::debug!(?command, %why, "not accepted");
            }
            let _ = events.send(Event::Submitted(answer));
        });
    }

    /// Heartbeat, guard, and what people see.
    fn breathe(&mut self, wires: &Wires) {
        let now = clock::now();
        if self.must_speak(now) {
            self.speak(wires);
        }
        if now.since(self.led) > LOOK_AFTER {
            wires.look.notify_one();
        }
        if self.needs_read() {
            wires.read.notify_one();
        }
        let _ = wires.guard.send(self.controller.guard_deadline(now));
        if now.since(self.pictured) >= PICTURE {
            self.pictured = now;
            self.shared.update(&self.controller, self.tools.source.state(), self.said.clone());
        }
    }

    /// Whether nothing but the store can say that we still lead.
    fn needs_read(&self) -> bool {
        let state = self.tools.source.state();
        let leads = state.ctl.leader.as_ref().is_some_and(|l| l.node == self.me);
        let asynchronous = state.rules.iter().any(|r| r.mode == Durability::Async);
        leads && (asynchronous || !self.shared.picture().grants)
    }

    /// A heartbeat is due: in step with the leader's where there is one to hear.
    fn must_speak(&self, now: Time) -> bool {
        let (beat, silent) = (self.beat(), now.since(self.spoke));
        let since_led = now.since(self.led);
        if since_led >= beat * 2 {
            return silent + Duration::from_millis(5) >= beat;
        }
        (since_led < Duration::from_millis(5) && silent >= beat / 2) || silent >= beat + GRACE
    }

    fn speak(&mut self, wires: &Wires) {
        let now = clock::now();
        self.spoke = now;
        if let Some(report) = self.controller.next_report(now) {
            self.said = Some(report.clone());
            // A full queue means that the last report is not out yet; the next will be newer.
            let _ = wires.outbox.try_send(report);
        }
    }
}
