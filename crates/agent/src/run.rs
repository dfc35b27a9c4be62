//! The loop of an agent: report, think, act, repeat.
//!
//! ```text
//!   tick, peers, store, probes, ends of deeds ──▶ Controller ──▶ promise, deed, command, word to the others
//! ```
//! One task, one queue in; everything slow runs beside it and sends its result
//! back as an event. The loop itself touches no disk but for a bare promise.
//!
//! When it turns and when it speaks is `pace`'s to say.

use std::sync::Arc;
use std::time::Duration;

use cluster::command::{Change, Command};
use cluster::report::Report;
use cluster::{ClusterState, Durability, MemberId, NodeId, Time};
use failover::{Controller, Effects, Event};
use peers::subscribers::LeaseAsk;
use store::Store;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep_until};

use crate::clock;
use crate::executor::{Executor, Tools};
use crate::keeper::Keeper;
use crate::routing;
use crate::shared::Shared;
use failover::pace::{Pace, TICK};

/// A leader whose heartbeat is this late is looked at directly.
pub const LOOK_AFTER: Duration = Duration::from_millis(180);
/// A leader that speaks, while its PostgreSQL has sent nothing for so long, is looked at
/// as well: a walreceiver that gets nothing asks for a word after half of its timeout of 5 s.
pub const LOOK_AFTER_WAL: Duration = Duration::from_millis(2600);
/// Between two such looks.
pub const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// While the leader is silent the own server is probed this often: what its receiver hears tells of the leader's.
pub const PROBE_CLOSELY: Duration = Duration::from_millis(20);
/// For so long: whoever has waited longer waits for others, and probes as often as while anything moves.
pub const CLOSELY: Duration = Duration::from_secs(10);
/// A turn that begins this much late is counted as lateness (decision 8).
pub const LATE: Duration = Duration::from_millis(100);
/// What people and probes see is made anew on every change, and else this often while anything turns.
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
    /// Asks for a probe of our own, which tells whether WAL still comes in.
    pub again: Arc<Notify>,
    /// Asks for a read of the store that proves our term.
    pub read: Arc<Notify>,
    /// Proxies' questions for leases.
    pub asks: mpsc::Receiver<LeaseAsk>,
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
    looked: Time,
    probed: Time,
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
            looked: Time::default(),
            probed: Time::default(),
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
                Some(said) = wires.asks.recv() => routing::asked(&said).unwrap_or(Event::Tick),
            };
            let gap = turned.elapsed();
            turned = Instant::now();
            if gap > tick + LATE {
                tracing::warn!(late_ms = gap.as_millis() as u64, "the agent's loop ran late");
                self.step(Event::Late(gap - tick), &wires);
            }
            let tick_only = matches!(event, Event::Tick);
            if !tick_only {
                self.step(event, &wires);
            }
            // Whatever else is waiting is taken in before anything is said, and
            // before time is judged by: it may have waited as long as we did.
            while let Ok(event) = wires.events.try_recv() {
                self.step(event, &wires);
            }
            if tick_only {
                self.step(Event::Tick, &wires);
            }
            self.breathe(&wires);
            tick = self.pace(clock::now()).next_turn();
        }
    }

    fn pace(&self, now: Time) -> Pace {
        let (silent, led) = (now.since(self.spoke), now.since(self.led));
        let phase = self.tools.source.state().ctl.phase;
        Pace { beat: self.beat(), silent, led, leads: self.leads(), phase }
    }

    fn leads(&self) -> bool {
        self.tools.source.state().ctl.leader.as_ref().is_some_and(|l| l.node == self.me)
    }

    fn beat(&self) -> Duration {
        Duration::from_millis(self.tools.source.state().settings.timing.heartbeat_ms)
    }

    /// A new agreed state: our seat may have changed with it.
    fn learn(&mut self, wires: &Wires) -> Event {
        let state = wires.state.clone().borrow_and_update().clone();
        self.tools.source.set(state.clone());
        // Before anything is thought about it: clients are waiting.
        self.tools.routing.publish();
        self.pictured = Time::default();
        let seat = state.member_id(&self.me).filter(|id| id.incarnation > 0);
        // What a member of the store begins with may be from before our present life.
        let newer = |id: &MemberId| {
            self.keeper.vows().member.as_ref().is_none_or(|old| old.incarnation < id.incarnation)
        };
        if let Some(id) = seat.filter(newer) {
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
        for lease in effects.leases {
            self.tools.routing.give(lease);
        }
        if effects.speak {
            self.pictured = Time::default();
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
        if self.pace(now).must_speak() {
            self.speak(wires);
        }
        if !self.leads() && now.since(self.led) > LOOK_AFTER {
            wires.look.notify_one();
            // Each probe turns the loop: without a pause this would be all that it does.
            if now.since(self.led) < CLOSELY && now.since(self.probed) >= PROBE_CLOSELY {
                self.probed = now;
                wires.again.notify_one();
            }
        } else if self.controller.leader_server_silent(now).is_some_and(|d| d > LOOK_AFTER_WAL)
            && now.since(self.looked) >= LOOK_AGAIN
        {
            self.looked = now;
            wires.look.notify_one();
        }
        if self.needs_read() {
            wires.read.notify_one();
        }
        let _ = wires.guard.send(self.controller.guard_deadline(now));
        if now.since(self.pictured) >= PICTURE {
            self.pictured = now;
            self.shared.update(&self.controller, self.tools.source.state(), self.said.clone());
            self.tools.routing.publish();
        }
    }

    /// Whether nothing but the store can say that we still lead.
    fn needs_read(&self) -> bool {
        let state = self.tools.source.state();
        let asynchronous = state.rules.iter().any(|r| r.mode == Durability::Async);
        self.leads() && (asynchronous || !self.shared.picture().grants)
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
