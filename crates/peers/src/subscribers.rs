//! Who watches this agent: told everything at once, and again before long.
//!
//! Each has a connection of its own and a queue of one: whoever is slow gets the
//! newest picture when it is ready for one, and misses those between. An agent
//! whose loop stands still falls silent here too, so that nobody takes an old
//! picture for a fresh one.
//!
//! Never knows what a picture says.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::PeersError;
use crate::frame::{self, Frame, Kind};
use crate::identity::Bearer;
use crate::transport::{USER_TIMEOUT, unreachable_at};

/// Subscribers that an agent may have at a time.
pub const SUBSCRIBERS_MAX: usize = 64;
/// A subscriber is told the newest picture at least this often, changed or not.
pub const KEEP_ALIVE: Duration = Duration::from_millis(250);
/// A picture that nobody has confirmed for so long is not told again.
pub const PICTURE_AGE_MAX: Duration = Duration::from_secs(1);
/// Questions for leases that may wait for this agent to look at them; more are lost, and asked again.
pub const LEASE_ASKS_MAX: usize = 256;
/// Answers to them that may wait for one subscriber; more are lost.
pub const LEASES_MAX: usize = 16;
/// Longest word of a subscriber.
pub const WORD_BYTES_MAX: usize = 64;

/// One subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// Who it is, by certificate.
    pub who: Bearer,
    /// The body of its last `Drained` since `forget_words`.
    pub drained: Option<Bytes>,
}

/// Those who are connected now, by a number that none gets twice.
pub type Present = BTreeMap<u64, Subscriber>;

/// The subscribers of one agent.
#[derive(Clone, Debug)]
pub struct Subscribers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    newest: watch::Sender<Option<Picture>>,
    present: watch::Sender<Present>,
    next: AtomicU64,
    asks: mpsc::Sender<LeaseAsk>,
    answers: Mutex<BTreeMap<u64, mpsc::Sender<Bytes>>>,
}

/// A subscriber's question for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseAsk {
    /// Whose, by number.
    pub from: u64,
    /// What it says.
    pub body: Bytes,
}

#[derive(Clone, Debug)]
struct Picture {
    body: Bytes,
    at: Instant,
}

impl Default for Subscribers {
    /// Those whose questions nobody answers.
    fn default() -> Subscribers {
        Subscribers::open().0
    }
}

/// A subscriber's place, free again when its connection ends.
struct Place<'a> {
    of: &'a Subscribers,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(&self.of.0.answers).remove(&self.number);
        self.of.0.present.send_modify(|present| {
            present.remove(&self.number);
        });
    }
}

impl Subscribers {
    /// Nobody yet, and where their questions for leases will be.
    #[must_use]
    pub fn open() -> (Subscribers, mpsc::Receiver<LeaseAsk>) {
        let (newest, present) = (watch::Sender::new(None), watch::Sender::new(Present::new()));
        let (asks, asked) = mpsc::channel(LEASE_ASKS_MAX);
        let (next, answers) = (AtomicU64::new(0), Mutex::default());
        (Subscribers(Arc::new(Inner { newest, present, next, asks, answers })), asked)
    }

    /// The newest picture: told at once if it is urgent, else with the next keep-alive.
    pub fn publish(&self, body: Bytes, urgent: bool) {
        self.0.newest.send_if_modified(|newest| {
            *newest = Some(Picture { body, at: Instant::now() });
            urgent
        });
    }

    /// Who is connected, and what they said.
    #[must_use]
    pub fn present(&self) -> watch::Receiver<Present> {
        self.0.present.subscribe()
    }

    /// Gives one of them a lease, if it is still there.
    pub fn give_lease(&self, to: u64, body: Bytes) {
        if let Some(answers) = lock(&self.0.answers).get(&to) {
            // One that takes nothing asks again.
            let _ = answers.try_send(body);
        }
    }

    /// What they said until now was about something else.
    pub fn forget_words(&self) {
        self.0.present.send_modify(|present| {
            for subscriber in present.values_mut() {
                subscriber.drained = None;
            }
        });
    }

    /// Serves one subscriber until either side closes.
    pub(crate) async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite,
        who: Bearer,
    ) -> Result<(), PeersError> {
        let place = self.enter(who)?;
        let (answer, answers) = mpsc::channel(LEASES_MAX);
        lock(&self.0.answers).insert(place.number, answer);
        let (mut from, mut to) = tokio::io::split(stream);
        tokio::select! {
            ended = self.tell(&mut to, answers) => ended,
            ended = self.hear(&mut from, place.number) => ended,
        }
    }

    fn enter(&self, who: Bearer) -> Result<Place<'_>, PeersError> {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let entered = self.0.present.send_if_modified(|present| {
            let room = present.len() < SUBSCRIBERS_MAX;
            if room {
                present.insert(number, Subscriber { who, drained: None });
            }
            room
        });
        let full = PeersError::BadFrame("too many subscribe already");
        if entered { Ok(Place { of: self, number }) } else { Err(full) }
    }

    async fn tell(
        &self,
        to: &mut (impl AsyncWrite + Unpin),
        mut leases: mpsc::Receiver<Bytes>,
    ) -> Result<(), PeersError> {
        let mut newest = self.0.newest.subscribe();
        let mut due = Instant::now();
        loop {
            tokio::select! {
                changed = newest.changed() => {
                    if changed.is_err() { return Ok(()) }
                }
                () = sleep_until(due) => {}
                lease = leases.recv() => {
                    let Some(body) = lease else { return Ok(()) };
                    write(to, Frame { kind: Kind::Lease, body }).await?;
                    continue;
                }
            }
            due = Instant::now() + KEEP_ALIVE;
            let picture = newest.borrow_and_update().clone();
            if let Some(picture) = picture.filter(|p| p.at.elapsed() < PICTURE_AGE_MAX) {
                write(to, Frame { kind: Kind::Routes, body: picture.body }).await?;
            }
        }
    }

    async fn hear(&self, from: &mut (impl AsyncRead + Unpin), number: u64) -> Result<(), PeersError> {
        while let Some(frame) = frame::read(from).await? {
            if !matches!(frame.kind, Kind::Drained | Kind::LeaseAsk) || frame.body.len() > WORD_BYTES_MAX {
                return Err(PeersError::BadFrame(
                    "a subscriber says when it is drained and asks for leases, and no more",
                ));
            }
            if frame.kind == Kind::LeaseAsk {
                let _ = self.0.asks.try_send(LeaseAsk { from: number, body: frame.body });
                continue;
            }
            self.0.present.send_modify(|present| {
                if let Some(subscriber) = present.get_mut(&number) {
                    subscriber.drained = Some(frame.body);
                }
            });
        }
        Ok(())
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), frame: Frame) -> Result<(), PeersError> {
    let lost = |why: &str| unreachable_at("a subscriber", why);
    let written = timeout(USER_TIMEOUT, frame::write(to, &frame)).await;
    written.map_err(|_| lost("it takes nothing"))?.map_err(|e| lost(&e.to_string()))
}

/// Nobody panics while he holds one of these.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
