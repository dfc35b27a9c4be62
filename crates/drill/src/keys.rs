//! Clients of a few keys: registers that one writes and others read, and lists
//! that all append to. Each answer tells the timeline of the server that gave it.
//!
//! A read is an `UPDATE` that changes nothing that is read, so that it is only
//! answered by whoever may acknowledge writes: what a plain `SELECT` gives on a
//! server that was just replaced may be old, as the protocol says (2.4).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use checker::Fate;
use checker::append::Append;
use checker::law::append::Lists;
use checker::register::{Deed, Touch};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use crate::load::fate_of;
use crate::server::Server;

/// Registers at a time, each with a writer and a reader.
const REGISTERS: u32 = 2;
/// Clients that append.
const APPENDERS: u32 = 2;
/// Lists at a time, and how many values each gets before the next is begun.
const LISTS: u32 = 2;
const LIST_LENGTH: u64 = 40;
/// Between two deeds of one client.
const PAUSE: Duration = Duration::from_millis(40);
/// Longest that a client waits for an answer before it connects anew.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Longest that a server is waited for before and after.
const REACH_LIMIT: Duration = Duration::from_secs(30);
/// Keys of one history, of either kind.
const KEYS: u32 = 10_000;
/// The timeline that a server writes on.
const TIMELINE: &str =
    "('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int AS timeline";

/// Makes the tables.
///
/// # Errors
/// PostgreSQL's own words.
pub async fn prepare(url: &str) -> Result<(), String> {
    let tables = "CREATE TABLE IF NOT EXISTS register \
            (key int PRIMARY KEY, value bigint NOT NULL, reads bigint NOT NULL DEFAULT 0); \
        CREATE TABLE IF NOT EXISTS list (key int PRIMARY KEY, items bigint[] NOT NULL)";
    let client = Server::new(url)?.reach(REACH_LIMIT).await?;
    client.batch_execute(tables).await.map_err(|e| e.to_string())
}

/// What the clients did and saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// On registers.
    pub touches: Vec<Touch>,
    /// On lists.
    pub appends: Vec<Append>,
}

/// Clients at work on keys that are theirs alone.
pub struct Keys {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<JoinHandle<()>>,
    first: u32,
}

impl Keys {
    /// Starts them on the keys of history `number`; moments count from `began`.
    ///
    /// # Errors
    /// PostgreSQL's own words.
    pub async fn start(url: &str, number: u32, began: Instant) -> Result<Keys, String> {
        let server = Server::new(url)?;
        let first = number * KEYS;
        let client = server.reach(REACH_LIMIT).await?;
        for key in first..first + REGISTERS {
            let make = format!("INSERT INTO register VALUES ({key}, 0) ON CONFLICT DO NOTHING");
            client.batch_execute(&make).await.map_err(|e| e.to_string())?;
        }
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Seen::default())));
        let next = Arc::new(AtomicU64::new(1));
        let hand = || Hand { server: server.clone(), stop: stop.clone(), seen: seen.clone(), began };
        let mut tasks = Vec::new();
        for key in first..first + REGISTERS {
            tasks.push(tokio::spawn(hand().write(key)));
            tasks.push(tokio::spawn(hand().read(key)));
        }
        for _ in 0..APPENDERS {
            tasks.push(tokio::spawn(hand().append(first, next.clone())));
        }
        Ok(Keys { stop, seen, tasks, first })
    }

    /// Stops them and gives what they did, and what the lists are in the end.
    ///
    /// # Errors
    /// PostgreSQL's own words.
    pub async fn finish(self, url: &str) -> Result<(Seen, Lists), String> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            let _ = tokio::time::timeout(ANSWER_LIMIT * 4, task).await;
        }
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let client = Server::new(url)?.reach(REACH_LIMIT).await?;
        let last = self.first + KEYS - 1;
        let all = format!("SELECT key, items FROM list WHERE key BETWEEN {} AND {last}", self.first);
        let answer = client.simple_query(&all).await.map_err(|e| e.to_string())?;
        let mut lists: Lists = seen.appends.iter().map(|a| (a.key, Vec::new())).collect();
        lists.extend(rows(&answer).filter_map(|r| Some((number(r, "key")?, numbers(r, "items")))));
        Ok((seen, lists))
    }
}

/// One client.
struct Hand {
    server: Server,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    began: Instant,
}

/// When something was asked and answered, how, and what the answer was.
struct Answer {
    sent: Duration,
    ended: Duration,
    fate: Fate,
    said: Vec<SimpleQueryMessage>,
}

impl Answer {
    fn row(&self) -> Option<&SimpleQueryRow> {
        rows(&self.said).next()
    }

    fn timeline(&self) -> u32 {
        self.row().and_then(|r| number(r, "timeline")).unwrap_or(0)
    }
}

impl Hand {
    async fn write(self, key: u32) {
        let (mut line, mut value) = (None, 0);
        while !self.stop.load(Ordering::Relaxed) {
            value += 1;
            // Never back: a statement of unknown fate may come late.
            let sql = format!(
                "UPDATE register SET value = greatest(value, {value}) WHERE key = {key} RETURNING {TIMELINE}"
            );
            let a = self.ask(&mut line, &sql).await;
            let timeline = a.timeline();
            let deed = Deed::Write(value);
            self.note(Touch { key, deed, sent: a.sent, ended: a.ended, fate: a.fate, timeline });
        }
    }

    async fn read(self, key: u32) {
        let mut line = None;
        while !self.stop.load(Ordering::Relaxed) {
            let sql = format!(
                "UPDATE register SET reads = reads + 1 WHERE key = {key} RETURNING value, {TIMELINE}"
            );
            let a = self.ask(&mut line, &sql).await;
            let (timeline, value) = (a.timeline(), a.row().and_then(|r| number(r, "value")));
            // Without its row it was given a value that nobody wrote, which the law finds.
            let deed = Deed::Read(if a.fate == Fate::Acknowledged { value.or(Some(u64::MAX)) } else { None });
            self.note(Touch { key, deed, sent: a.sent, ended: a.ended, fate: a.fate, timeline });
        }
    }

    async fn append(self, first: u32, next: Arc<AtomicU64>) {
        let mut line = None;
        while !self.stop.load(Ordering::Relaxed) {
            let value = next.fetch_add(1, Ordering::Relaxed);
            let round = u32::try_from(value / (LIST_LENGTH * u64::from(LISTS))).unwrap_or(u32::MAX);
            let one = u32::try_from(value % u64::from(LISTS)).unwrap_or(0);
            let key = (first + REGISTERS + round.saturating_mul(LISTS) + one).min(first + KEYS - 1);
            let sql = format!(
                "INSERT INTO list VALUES ({key}, ARRAY[{value}]) ON CONFLICT (key) \
                 DO UPDATE SET items = list.items || excluded.items RETURNING items, {TIMELINE}"
            );
            let a = self.ask(&mut line, &sql).await;
            let seen = a.row().map(|r| numbers(r, "items")).unwrap_or_default();
            let timeline = a.timeline();
            let done = Append { key, value, seen, sent: a.sent, ended: a.ended, fate: a.fate, timeline };
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).appends.push(done);
        }
    }

    fn note(&self, touch: Touch) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).touches.push(touch);
    }

    /// One statement, over a connection that is made anew after anything went wrong.
    async fn ask(&self, line: &mut Option<Client>, sql: &str) -> Answer {
        tokio::time::sleep(PAUSE).await;
        while line.is_none() && !self.stop.load(Ordering::Relaxed) {
            *line = self.server.connect().await;
            if line.is_none() {
                tokio::time::sleep(PAUSE).await;
            }
        }
        let sent = self.began.elapsed();
        let Some(client) = line.as_ref() else {
            return Answer { sent, ended: sent, fate: Fate::Failed, said: Vec::new() };
        };
        // The simple protocol: its answer is complete only after the commit.
        let done = tokio::time::timeout(ANSWER_LIMIT, client.simple_query(sql)).await;
        let (fate, said) = match done {
            Ok(Ok(said)) => (Fate::Acknowledged, said),
            Ok(Err(e)) => (fate_of(&e), Vec::new()),
            Err(_) => (Fate::Unknown, Vec::new()),
        };
        if fate != Fate::Acknowledged {
            *line = None;
        }
        Answer { sent, ended: self.began.elapsed(), fate, said }
    }
}

fn rows(said: &[SimpleQueryMessage]) -> impl Iterator<Item = &SimpleQueryRow> {
    said.iter().filter_map(|m| if let SimpleQueryMessage::Row(row) = m { Some(row) } else { None })
}

fn number<T: std::str::FromStr>(row: &SimpleQueryRow, column: &str) -> Option<T> {
    row.try_get(column).ok()??.parse().ok()
}

/// An array as PostgreSQL writes it: `{1,2,3}`.
fn numbers(row: &SimpleQueryRow, column: &str) -> Vec<u64> {
    let text = row.try_get(column).ok().flatten().unwrap_or_default();
    text.trim_matches(['{', '}']).split(',').filter_map(|n| n.parse().ok()).collect()
}
