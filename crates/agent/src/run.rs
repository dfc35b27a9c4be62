//! The loop of an agent: report, think, act, repeat.
//!
//! ```text
//!   tick, peers, store, probes, ends of deeds ──▶ Controller ──▶ promise, deed, command, word to the others
//! ```
//! One task, one queue in; everything slow runs beside it and sends its result
//! back as an event. The loop itself touches no disk but for a bare promise.

use std::sync::Arc;
use std::time::Duration;

use cluster::command::{Change, Command};
use cluster::report::Report;
use cluster::{ClusterState, NodeId, Time};
use failover::{Controller, Effects, Event};
use store::Store;
use tokio::sync::{mpsc, watch};
use tokio::task::block_in_place;
use tokio::time::{Instant, MissedTickBehavior};

use crate::clock;
use crate::executor::{Executor, Tools};
use crate::keeper::Keeper;
use crate::shared::Shared;

/// Between two turns of the loop when nothing happens.
pub const TICK: Duration = Duration::from_millis(50);
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
            said: None,
            pictured: Time::default(),
        }
    }

    /// Runs until every sender of events is gone.
    pub async fn run(mut self, mut wires: Wires) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turned = Instant::now();
        loop {
            let event = tokio::select! {
                _ = tick.tick() => Event::Tick,
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
            if gap > TICK + LATE {
                tracing::warn!(late_ms = gap.as_millis() as u64, "the agent's loop ran late");
                self.step(Event::Late(gap - TICK), &wires);
            }
            self.step(event, &wires);
            // Whatever else is waiting is taken in before anything is said.
            while let Ok(event) = wires.events.try_recv() {
                self.step(event, &wires);
            }
            self.breathe(&wires);
        }
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
        let beat = Duration::from_millis(self.tools.source.state().settings.timing.heartbeat_ms);
        if now.since(self.spoke) + Duration::from_millis(5) >= beat {
            self.speak(wires);
        }
        let _ = wires.guard.send(self.controller.guard_deadline(now));
        if now.since(self.pictured) >= PICTURE {
            self.pictured = now;
            self.shared.update(&self.controller, self.tools.source.state(), self.said.clone());
        }
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
