//! Writers that never stop, and a ledger of what each was told.
//!
//! Each client inserts one numbered row after another with autocommit, and
//! connects again at once on an error. A row whose fate is not known is never
//! tried again under the same number.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use checker::{Fate, History, Operation};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::server::Server;

/// Pause between two rows of one client.
pub const PAUSE: Duration = Duration::from_millis(2);
/// Longest that one insert may hang before its fate is unknown.
pub const INSERT_LIMIT: Duration = Duration::from_secs(30);
/// Clients.
pub const CLIENTS: u32 = 4;

/// Writers at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    ledger: Arc<Mutex<Vec<Operation>>>,
    tasks: Vec<JoinHandle<()>>,
    began: Instant,
}

/// Makes the table that writers fill.
///
/// # Errors
/// PostgreSQL's own words.
pub async fn prepare(url: &str) -> Result<(), String> {
    let client = Server::new(url)?.reach(INSERT_LIMIT).await?;
    let table = "CREATE TABLE IF NOT EXISTS ledger (client int, seq bigint, PRIMARY KEY (client, seq))";
    client.batch_execute(table).await.map_err(|e| e.to_string())
}

impl Load {
    /// Starts the writers.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn start(url: &str, clients: u32) -> Result<Load, String> {
        let plain = |client| Manner { client, pause: PAUSE, limit: INSERT_LIMIT };
        Load::start_with(url, &(0..clients).map(plain).collect::<Vec<_>>())
    }

    /// Starts one writer for each.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn start_with(url: &str, clients: &[Manner]) -> Result<Load, String> {
        let server = Server::new(url)?;
        let (stop, ledger, began) =
            (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())), Instant::now());
        let tasks = clients.iter().map(|manner| {
            let (manner, server) = (*manner, server.clone());
            let writer = Writer { manner, server, stop: stop.clone(), ledger: ledger.clone(), began };
            tokio::spawn(writer.run())
        });
        let tasks = tasks.collect();
        Ok(Load { stop, ledger, tasks, began })
    }

    /// When the writers started, from which the history counts.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Time since the writers started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// How many writes were acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.iter().filter(|o| o.fate == Fate::Acknowledged).count()
    }

    /// Stops the writers and gives what they were told.
    pub async fn finish(self) -> History {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            // A writer that hangs is left; what it wrote is in the ledger or unknown.
            let _ = tokio::time::timeout(INSERT_LIMIT, task).await;
        }
        let operations = self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone();
        History { operations }
    }
}

/// How one client behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Its number, in every row that it writes.
    pub client: u32,
    /// Between two rows.
    pub pause: Duration,
    /// Longest that it waits for an answer before it connects anew.
    pub limit: Duration,
}

struct Writer {
    manner: Manner,
    server: Server,
    stop: Arc<AtomicBool>,
    ledger: Arc<Mutex<Vec<Operation>>>,
    began: Instant,
}

impl Writer {
    async fn run(self) {
        let mut seq = 0;
        let mut line: Option<Client> = None;
        while !self.stop.load(Ordering::Relaxed) {
            let Some(client) = &line else {
                line = self.server.connect().await;
                if line.is_none() {
                    tokio::time::sleep(self.manner.pause * 5).await;
                }
                continue;
            };
            seq += 1;
            let sent = self.began.elapsed();
            let insert = format!("INSERT INTO ledger VALUES ({}, {seq})", self.manner.client);
            let done = tokio::time::timeout(self.manner.limit, client.batch_execute(&insert)).await;
            let fate = match &done {
                Ok(Ok(())) => Fate::Acknowledged,
                Ok(Err(e)) => fate_of(e),
                Err(_) => Fate::Unknown,
            };
            let operation =
                Operation { client: self.manner.client, seq, sent, ended: self.began.elapsed(), fate };
            self.ledger.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
            if fate != Fate::Acknowledged {
                line = None;
            }
            tokio::time::sleep(self.manner.pause).await;
        }
    }
}

/// What an error says of the write: a server that refused it did not do it,
/// unless it was being shut down while the commit waited.
pub(crate) fn fate_of(e: &tokio_postgres::Error) -> Fate {
    match e.as_db_error().map(|d| d.code().code()) {
        Some("25006" | "57P03" | "53300") => Fate::Failed,
        Some(_) | None => Fate::Unknown,
    }
}

/// What the server at `url` holds.
///
/// # Errors
/// PostgreSQL's own words.
pub async fn read_back(url: &str) -> Result<BTreeSet<(u32, u64)>, String> {
    read_back_of(url, 0..=i32::MAX.unsigned_abs()).await
}

/// What the server at `url` holds of some clients.
///
/// # Errors
/// PostgreSQL's own words.
pub async fn read_back_of(url: &str, clients: RangeInclusive<u32>) -> Result<BTreeSet<(u32, u64)>, String> {
    let client = Server::new(url)?.connect().await.ok_or("the server can't be reached")?;
    let (first, last) = clients.into_inner();
    let all = format!("SELECT client, seq FROM ledger WHERE client BETWEEN {first} AND {last}");
    let rows = client.query(&all, &[]).await.map_err(|e| e.to_string())?;
    let key = |r: &tokio_postgres::Row| {
        Some((u32::try_from(r.get::<_, i32>(0)).ok()?, u64::try_from(r.get::<_, i64>(1)).ok()?))
    };
    Ok(rows.iter().filter_map(key).collect())
}
