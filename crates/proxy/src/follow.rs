//! Watches every agent, and keeps one picture of where clients may go.
//!
//! ```text
//!   agents we were given ─┐ connect ▶ hear ▶ lost ▶ wait ▶ connect …
//!   agents we learnt of ──┘              │
//!                                        └▶ newest word of each ▶ merge ▶ the picture
//! ```
//! Agents push; an agent that says nothing for `SILENCE` is lost and tried anew. Those
//! that members name are watched too, so one address is enough to begin with.
//!
//! Decides nothing: `merge` says what the words mean.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::routes::{Drained, Routes};
use bytes::Bytes;
use cluster::NodeId;
use peers::subscription::{Hearing, Said, Saying};
use peers::{Identity, PeersError, subscribe};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use route::lease::RENEW;
use route::merge::{Merged, Word, merge};

use crate::leases::Leases;

/// First and longest wait between two tries to connect to an agent.
pub const RECONNECT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));
/// Agents that are watched at a time.
pub const AGENTS_MAX: usize = 32;
/// Words that may wait to be merged; whoever says more waits.
pub const WORDS_MAX: usize = 64;
/// The picture is made anew on every word, and else this often: words grow old.
pub const RECKON: Duration = Duration::from_millis(250);

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Follower {
    merged: watch::Receiver<Arc<Merged>>,
    drained: watch::Sender<Option<u64>>,
    leases: Arc<Leases>,
    task: JoinHandle<()>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    /// Begins to watch the agents at these addresses (`host:port`, as other agents reach them).
    #[must_use]
    pub fn start(identity: Identity, agents: &[String]) -> Follower {
        let (drained, drained_rx) = watch::channel(None);
        let (merged_tx, merged) = watch::channel(Arc::default());
        let (words_tx, words_rx) = mpsc::channel(WORDS_MAX);
        let given = agents.iter().cloned().collect();
        let leases = Arc::<Leases>::default();
        let desk = Desk {
            leases: leases.clone(),
            identity,
            given,
            lines: BTreeMap::new(),
            heard: BTreeMap::new(),
            words: words_tx,
            drained: drained_rx,
            merged: merged_tx,
        };
        Follower { merged, drained, leases, task: tokio::spawn(desk.run(words_rx)) }
    }

    /// The picture. Wakes its reader on what routes anybody otherwise; ages and lags
    /// are there when it is read.
    #[must_use]
    pub fn routes(&self) -> watch::Receiver<Arc<Merged>> {
        self.merged.clone()
    }

    /// What is asked of the leader's agent besides: for how long its server may be read from strictly.
    #[must_use]
    pub fn leases(&self) -> &Arc<Leases> {
        &self.leases
    }

    /// Tells the agents that no transaction runs here in this term, or that this is
    /// no longer so: `None`, as soon as one is let through again. Told again to
    /// whoever is connected to anew.
    pub fn set_drained(&self, term: Option<u64>) {
        self.drained.send_replace(term);
    }
}

/// One agent's word, as it comes in.
struct Heard {
    address: String,
    routes: Routes,
    at: Instant,
}

/// A connection that is kept.
struct Line {
    who: Option<NodeId>,
    task: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Desk {
    leases: Arc<Leases>,
    identity: Identity,
    given: BTreeSet<String>,
    lines: BTreeMap<String, Line>,
    heard: BTreeMap<NodeId, (Routes, Instant)>,
    words: mpsc::Sender<Heard>,
    drained: watch::Receiver<Option<u64>>,
    merged: watch::Sender<Arc<Merged>>,
}

impl Desk {
    async fn run(mut self, mut words: mpsc::Receiver<Heard>) {
        loop {
            self.watch_all();
            tokio::select! {
                heard = words.recv() => {
                    let Some(heard) = heard else { return };
                    self.take(heard);
                }
                () = sleep(RECKON) => {}
            }
            for _ in 0..WORDS_MAX {
                let Ok(heard) = words.try_recv() else { break };
                self.take(heard);
            }
            self.reckon();
        }
    }

    fn take(&mut self, heard: Heard) {
        let who = heard.routes.from.clone();
        if let Some(line) = self.lines.get_mut(&heard.address) {
            line.who = Some(who.clone());
        }
        let older = self.heard.get(&who).is_some_and(|(_, at)| *at > heard.at);
        if !older {
            self.heard.insert(who, (heard.routes, heard.at));
        }
    }

    fn reckon(&self) {
        let word = |(routes, at): &(Routes, Instant)| Word { routes: routes.clone(), age: at.elapsed() };
        let words = self.heard.iter().map(|(name, heard)| (name.clone(), word(heard))).collect();
        self.merged.send_if_modified(|merged| {
            let now = merge(&words, merged);
            let changed = !now.routes_as(merged);
            *merged = Arc::new(now);
            changed
        });
    }

    /// Lines to those that were given, and to members that are reached by none of these.
    fn watch_all(&mut self) {
        let merged = self.merged.borrow().clone();
        let reached: BTreeSet<NodeId> = self
            .lines
            .iter()
            .filter(|(a, _)| self.given.contains(*a))
            .filter_map(|(_, l)| l.who.clone())
            .collect();
        let others = merged.members.iter().filter(|m| !m.agent.is_empty() && !reached.contains(&m.name));
        let wanted: BTreeSet<String> =
            self.given.iter().cloned().chain(others.map(|m| m.agent.clone())).collect();
        self.lines.retain(|address, _| wanted.contains(address));
        // Whoever was taken out is no longer believed, whatever it said.
        if !merged.members.is_empty() {
            self.heard.retain(|name, _| merged.members.iter().any(|m| m.name == *name));
        }
        for address in wanted {
            if self.lines.len() < AGENTS_MAX && !self.lines.contains_key(&address) {
                let line = Watcher {
                    leases: self.leases.clone(),
                    merged: self.merged.subscribe(),
                    identity: self.identity.clone(),
                    address: address.clone(),
                    words: self.words.clone(),
                    drained: self.drained.clone(),
                };
                self.lines.insert(address, Line { who: None, task: tokio::spawn(line.keep()) });
            }
        }
    }
}

/// What keeps one connection.
struct Watcher {
    leases: Arc<Leases>,
    merged: watch::Receiver<Arc<Merged>>,
    identity: Identity,
    address: String,
    words: mpsc::Sender<Heard>,
    drained: watch::Receiver<Option<u64>>,
}

impl Watcher {
    async fn keep(self) {
        let mut pause = RECONNECT.0;
        loop {
            let ended = match subscribe(&self.identity, &self.address).await {
                Ok((who, hearing, saying)) => tokio::select! {
                    ended = self.say(&who, saying) => ended,
                    ended = self.hear(&who, hearing, &mut pause) => ended,
                },
                Err(why) => Err(why),
            };
            match ended {
                Ok(()) => return,
                Err(why) => tracing::debug!(address = %self.address, %why, "an agent is not heard"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(RECONNECT.1);
        }
    }

    async fn hear(&self, who: &NodeId, mut from: Hearing, pause: &mut Duration) -> Result<(), PeersError> {
        loop {
            let body = match from.next().await? {
                Said::Routes(body) => body,
                Said::Lease(body) => {
                    self.leases.given(&body);
                    continue;
                }
            };
            let routes = Routes::from_bytes(&body).filter(|routes| routes.from == *who);
            let routes = routes.ok_or(PeersError::BadFrame("it tells no routes, or another's"))?;
            *pause = RECONNECT.0;
            let heard = Heard { address: self.address.clone(), routes, at: Instant::now() };
            if self.words.send(heard).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Says when nothing runs any more, and, to the leader's agent, that the next lease is due.
    async fn say(&self, who: &NodeId, mut to: Saying) -> Result<(), PeersError> {
        let (mut drained, mut merged) = (self.drained.clone(), self.merged.clone());
        let mut wanted = self.leases.wanted();
        drained.mark_changed();
        let mut ask_at = Instant::now();
        loop {
            let leads = merged.borrow_and_update().leader.as_ref().is_some_and(|l| l.name == *who);
            let asks = leads && *wanted.borrow_and_update();
            tokio::select! {
                changed = drained.changed() => {
                    if changed.is_err() { return Ok(()) }
                    let term = *drained.borrow_and_update();
                    if let Some(term) = term {
                        to.drained(Bytes::from(Drained { term }.to_bytes())).await?;
                    }
                }
                () = sleep_until(ask_at), if asks => {
                    ask_at = Instant::now() + RENEW;
                    to.ask_lease(self.leases.ask()).await?;
                }
                changed = merged.changed() => {
                    if changed.is_err() { return Ok(()) }
                }
                changed = wanted.changed() => {
                    if changed.is_err() { return Ok(()) }
                }
            }
        }
    }
}
