//! Receives WAL from a leader, fsyncs it and acknowledges it, as a walreceiver does.
//!
//! ```text
//!   connect ▶ log in ▶ same database? ▶ histories ▶ START_REPLICATION ▶ WAL ▶ fsync ▶ acknowledge
//!      ▲                                                 │ this timeline goes no further: the next
//!      └──── after an error, a little later ◀────────────┘
//! ```
//! It has a thread of its own, so an fsync holds up nobody. Stopping it is the cut
//! of the ack path (C-5): once `stop` has given the store back, nothing is
//! acknowledged any more, for what could is gone.
//!
//! Never acknowledges what is not on disk, and never judges whom to follow.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cluster::lineage::INITDB_TIMELINE;
use cluster::{Lineage, Lsn, MemberId, Term, Timeline};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::perform::WalEnd;
use crate::secrets::Password;
use crate::wal::page::Form;
use crate::wal::segment::holders;
use crate::witness::replication::{Heard, Replication};
use crate::witness::store::Store;

/// Longest that connecting and asking may take.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Between two tries to connect, as `wal_retrieve_retry_interval` on a standby.
pub const AGAIN: Duration = Duration::from_millis(100);
/// We say how far we are at least this often, and ask for a sign of life.
pub const STATUS: Duration = Duration::from_millis(500);
/// A leader that says nothing for so long is given up.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(5);
/// Longest that stopping may take: an fsync that is under way.
pub const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Bytes that may come in before they are fsynced, however fast more comes.
const UNSYNCED_BYTES_MAX: u64 = 4 << 20;

/// A leader to receive from.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The leader's term.
    pub term: Term,
    /// Who we are there: `application_name` and slot (C-8).
    pub me: MemberId,
    /// The password of the replication role.
    pub password: Password,
}

/// How the receiving goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Of the database.
    pub sysid: u64,
    /// PostgreSQL's major version.
    pub major: u32,
    /// WAL comes in, or could: the leader has answered on the stream.
    pub streams: bool,
    /// The past up to the timeline that is received.
    pub lineage: Lineage,
    /// What is on disk.
    pub flushed: Lsn,
    /// When the leader was last heard.
    pub heard: Option<Instant>,
    /// Where what is kept begins.
    pub begin: Lsn,
    /// Bytes on disk.
    pub bytes: u64,
    /// Why nothing is received, in one sentence.
    pub trouble: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// WAL before this may be dropped.
    keep: AtomicU64,
}

impl Shared {
    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A receiver at work.
#[derive(Debug)]
pub struct Receiver {
    term: Term,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    back: oneshot::Receiver<Store>,
    thread: std::thread::JoinHandle<()>,
}

impl Receiver {
    /// Receives into `store`, whose log ends at `end`, until it is stopped, over connections
    /// that `connect` makes.
    ///
    /// # Errors
    /// `File` when no thread can be had.
    pub fn start<C, F, S>(
        store: Store,
        end: Option<WalEnd>,
        upstream: Upstream,
        connect: C,
    ) -> Result<Receiver>
    where
        C: Fn() -> F + Send + 'static,
        F: Future<Output = Result<S>>,
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (stop, stopped) = oneshot::channel();
        let (give, back) = oneshot::channel();
        let (term, shared) = (upstream.term, Arc::new(Shared::default()));
        shared.update(|s| {
            (s.sysid, s.major) = (store.origin().sysid, store.origin().major);
            (s.lineage, s.flushed) = end.map(|e| (e.lineage, e.end)).unwrap_or_default();
        });
        let theirs = shared.clone();
        let work = move || {
            let mut store = store;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                let mut job = Job { store: &mut store, upstream, shared: &theirs };
                runtime.block_on(async {
                    tokio::select! {
                        _ = stopped => {}
                        () = job.run(&connect) => {}
                    }
                });
            }
            let _ = give.send(store);
        };
        let spawned = std::thread::Builder::new().name("wal-receiver".to_string()).spawn(work);
        let thread = spawned.map_err(Error::file("start", "a thread"))?;
        Ok(Receiver { term, shared, stop: Some(stop), back, thread })
    }

    /// The term of the leader it receives from.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Whether it has ended without having been told to: a bug of ours, which is not to
    /// look like a stream that is merely quiet.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.thread.is_finished()
    }

    /// How it goes.
    #[must_use]
    pub fn state(&self) -> State {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.is_dead() {
            let trouble = Some("what receives WAL has died".to_string());
            return State { streams: false, trouble, ..state };
        }
        state
    }

    /// WAL before `keep` is not needed any more.
    pub fn may_drop(&self, keep: Lsn) {
        self.shared.keep.store(keep.0, Ordering::Relaxed);
    }

    /// Ends it: nothing is acknowledged any more when this returns. May be tried again.
    /// `None` where it had died, and its store with it; what is on disk is as good.
    ///
    /// # Errors
    /// `AckPathStays` when it is still in an fsync after `STOP_LIMIT`.
    pub async fn stop(&mut self) -> Result<Option<Store>> {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        match timeout(STOP_LIMIT, &mut self.back).await {
            Ok(back) => Ok(back.ok()),
            Err(_) => Err(Error::AckPathStays { pid: std::process::id(), limit: STOP_LIMIT }),
        }
    }
}

/// The leader has no WAL from there on: it has gone on to another timeline, or will never.
struct Over(String);

struct Job<'a> {
    store: &'a mut Store,
    upstream: Upstream,
    shared: &'a Shared,
}

impl Job<'_> {
    async fn run<C, F, S>(&mut self, connect: &C)
    where
        C: Fn() -> F,
        F: Future<Output = Result<S>>,
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut told, mut hurried) = (String::new(), false);
        loop {
            let (why, over) = match self.receive(connect).await {
                Ok(Over(why)) => (why, true),
                Err(why) => (why.to_string(), false),
            };
            // One that was promoted while we asked is asked anew at once, the first time:
            // its first commit waits for us.
            let hurry = over && !hurried;
            hurried = over;
            if hurry {
                continue;
            }
            if told != why {
                tracing::warn!(%why, "no WAL is received");
            }
            // Whole records only, or a torn one would make us look diverged.
            let end = self.store.end().ok().flatten();
            self.shared.update(|s| {
                (s.streams, s.trouble) = (false, Some(why.clone()));
                if let Some(end) = end {
                    (s.lineage, s.flushed) = (end.lineage, end.end);
                }
            });
            told = why;
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// One connection, until it fails, or has no more on the timeline that it was asked for.
    async fn receive<C, F, S>(&mut self, connect: &C) -> Result<Over>
    where
        C: Fn() -> F,
        F: Future<Output = Result<S>>,
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = self.upstream.me.to_string();
        let asking = async {
            let mut leader = Replication::login(connect().await?, &self.upstream.password, &name).await?;
            let system = leader.identify().await?;
            let origin = self.store.origin();
            if system.sysid != origin.sysid {
                return Err(Error::BadAnswer("the leader's database is another one".to_string()));
            }
            self.fetch_histories(&mut leader, system.timeline).await?;
            Ok((leader, system))
        };
        let late = Error::Hung { what: "answer the WAL witness", limit: CONNECT_LIMIT };
        let (mut leader, system) = timeout(CONNECT_LIMIT, asking).await.map_err(|_| late)??;
        loop {
            let leg = self.leg(&self.store.lineage(system.timeline)?)?;
            let slot = self.upstream.me.slot_name();
            if !leader.start(&slot, leg.timeline, leg.at).await? {
                return Ok(Over(format!("timeline {} has no WAL at {}", leg.timeline, leg.at)));
            }
            self.stream(&mut leader, leg).await?;
            leader.finish().await?;
        }
    }

    /// All that we lack, the first ones too: without them our past would seem to begin
    /// in the middle, and a candidate is to get them from us.
    async fn fetch_histories<S>(&self, leader: &mut Replication<S>, newest: Timeline) -> Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        for number in INITDB_TIMELINE.0 + 1..=newest.0 {
            let timeline = Timeline(number);
            if self.store.has_history(timeline) {
                continue;
            }
            match leader.history(timeline).await {
                Ok(text) => self.store.keep_history(timeline, &text)?,
                // A number that was given out and never opened may have none.
                Err(Error::Sql { .. }) if timeline < newest => {}
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// From where on which timeline is to be received, so that it continues ours.
    fn leg(&self, leader: &Lineage) -> Result<Leg> {
        let form = self.store.form();
        match self.store.end()? {
            None => {
                let origin = self.store.origin();
                Ok(Leg { timeline: Timeline(origin.timeline), at: origin.begin })
            }
            Some(ours) if ours.lineage.can_follow(ours.end, leader) => {
                Ok(leg_after(ours.lineage.timeline, ours.end, leader, &form))
            }
            Some(ours) => Err(Error::BadAnswer(format!("our WAL up to {} is not the leader's", ours.end))),
        }
    }

    async fn stream<S>(&mut self, leader: &mut Replication<S>, leg: Leg) -> Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let lineage = self.store.lineage(leg.timeline)?;
        let (mut written, mut flushed) = (leg.at, leg.at);
        let mut heard = Instant::now();
        let mut said = Instant::now();
        self.shared.update(|s| (s.lineage, s.flushed) = (lineage, leg.at));
        leader.acknowledge(flushed, true).await?;
        loop {
            let wait = STATUS.saturating_sub(said.elapsed());
            let mut owed = false;
            match timeout(wait, leader.next()).await {
                Ok(Ok(Heard::Ended)) => return Ok(()),
                Ok(Ok(Heard::Alive { reply })) => owed = reply,
                Ok(Ok(Heard::Wal { at, bytes })) => {
                    if at != written {
                        return Err(Error::BadAnswer(format!("WAL at {at} came where {written} was due")));
                    }
                    self.store.write(leg.timeline, at, &bytes)?;
                    written = Lsn(written.0 + bytes.len() as u64);
                }
                Ok(Err(why)) => return Err(why),
                Err(_) if heard.elapsed() >= SILENCE_LIMIT => {
                    return Err(Error::Unreachable("the leader's server is silent".to_string()));
                }
                Err(_) => {
                    leader.acknowledge(flushed, true).await?;
                    said = Instant::now();
                    self.keep_house(leg.timeline)?;
                    continue;
                }
            }
            heard = Instant::now();
            // What is here already is fsynced together.
            if written > flushed && (!leader.has_more() || written.bytes_past(flushed) >= UNSYNCED_BYTES_MAX)
            {
                self.store.sync()?;
                (flushed, owed) = (written, true);
            }
            self.shared.update(|s| {
                (s.streams, s.trouble, s.heard, s.flushed) = (true, None, Some(heard), flushed);
            });
            if owed || said.elapsed() >= STATUS {
                leader.acknowledge(flushed, false).await?;
                said = Instant::now();
            }
        }
    }

    fn keep_house(&mut self, timeline: Timeline) -> Result<()> {
        let keep = Lsn(self.shared.keep.load(Ordering::Relaxed));
        self.store.prune(keep, timeline)?;
        let bytes = self.store.bytes()?;
        let begin = self.store.origin().begin;
        self.shared.update(|s| (s.begin, s.bytes) = (begin, bytes));
        Ok(())
    }
}

/// A stretch to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leg {
    timeline: Timeline,
    at: Lsn,
}

/// What continues a log that ends at `end` on `timeline`, as `leader` sees it. In the
/// segment in which a timeline was left its successor's file has all of it, from the
/// segment's start; before that only its own has.
fn leg_after(timeline: Timeline, end: Lsn, leader: &Lineage, form: &Form) -> Leg {
    let segment = form.segment_of(end.0);
    let newest = holders(leader, form, segment).first().map_or(timeline, |s| s.timeline);
    if newest == timeline {
        return Leg { timeline, at: end };
    }
    Leg { timeline: newest, at: Lsn(form.segment_start(segment)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::lineage::Branch;

    #[test]
    fn what_continues_a_log_is_its_own_timeline_until_the_segment_in_which_that_was_left() {
        let form = Form::new(15, 7, 8192, 1 << 20).unwrap();
        let at = |mb: u64, rest: u64| Lsn((mb << 20) + rest);
        let branch = |t, end| Branch { timeline: Timeline(t), end };
        let ancestors = vec![branch(2, at(5, 100)), branch(3, at(5, 400)), branch(4, at(8, 0))];
        let leader = Lineage { ancestors, timeline: Timeline(5) };
        let after = |t, end| leg_after(Timeline(t), end, &leader, &form);
        let leg = |t, at| Leg { timeline: Timeline(t), at };
        assert_eq!(after(2, at(3, 9)), leg(2, at(3, 9)));
        assert_eq!(after(2, at(5, 50)), leg(4, at(5, 0)), "left in this segment, and so was 3");
        assert_eq!(after(4, at(7, 1)), leg(4, at(7, 1)));
        assert_eq!(after(4, at(8, 0)), leg(5, at(8, 0)));
        assert_eq!(after(5, at(9, 5)), leg(5, at(9, 5)));
    }
}
