//! The agent's end of the line to its guard.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::protocol::{Answer, Ask, Event, Fault, Start, Status};
use crate::error::{Error, Result};

/// Longest that the guard may take to answer; killing a tree takes longest.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(8);

type Waiting = Arc<Mutex<VecDeque<oneshot::Sender<Answer>>>>;

/// The line.
#[derive(Clone)]
pub struct Client {
    writer: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    waiting: Waiting,
}

impl Client {
    /// Connects to the guard at `socket`; its news come out of the receiver,
    /// which closes when the guard is gone.
    ///
    /// # Errors
    /// `Guard` when nobody listens there.
    pub async fn connect(socket: &Path) -> Result<(Client, mpsc::UnboundedReceiver<Event>)> {
        let stream = UnixStream::connect(socket).await;
        let stream = stream.map_err(|e| failed("be reached", &e.to_string()))?;
        let (read, write) = stream.into_split();
        let waiting = Waiting::default();
        let (news_tx, news) = mpsc::unbounded_channel();
        tokio::spawn(listen(read, waiting.clone(), news_tx));
        Ok((Client { writer: Arc::new(write.into()), waiting }, news))
    }

    async fn ask(&self, deed: &'static str, ask: &Ask) -> Result<Answer> {
        let mut bytes = serde_json::to_vec(ask).map_err(|e| failed(deed, &e.to_string()))?;
        bytes.push(b'\n');
        let (tx, rx) = oneshot::channel();
        let mut writer = self.writer.lock().await;
        // Answers come in the order of requests, so both are queued under one lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(tx);
        writer.write_all(&bytes).await.map_err(|e| failed(deed, &e.to_string()))?;
        drop(writer);
        match timeout(ANSWER_LIMIT, rx).await {
            Ok(Ok(Answer::Failed(why))) => Err(failed(deed, &why)),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(failed(deed, "it hung up")),
            Err(_) => Err(failed(deed, "it did not answer in time")),
        }
    }

    /// "I am well": the server may run until then.
    ///
    /// # Errors
    /// `Guard`.
    pub async fn arm(&self, deadline_ms: Option<u64>) -> Result<()> {
        self.ask("arm its deadline", &Ask::Arm { deadline_ms }).await.map(|_| ())
    }

    /// Starts the postmaster; its pid.
    ///
    /// # Errors
    /// `Guard`.
    pub async fn start(&self, start: Start) -> Result<i32> {
        match self.ask("start the server", &Ask::Start(start)).await? {
            Answer::Started(pid) => Ok(pid),
            Answer::Done | Answer::Status(_) | Answer::Failed(_) => {
                Err(failed("start the server", "it said something else"))
            }
        }
    }

    /// Signals the postmaster.
    ///
    /// # Errors
    /// `Guard`.
    pub async fn signal(&self, signal: i32) -> Result<()> {
        self.ask("signal the server", &Ask::Signal { signal }).await.map(|_| ())
    }

    /// Kills the server's whole tree; returns when nothing of it is left.
    ///
    /// # Errors
    /// `Guard`, also when something would not die.
    pub async fn kill_tree(&self) -> Result<()> {
        self.ask("kill the server", &Ask::Kill).await.map(|_| ())
    }

    /// Has a fault made, for a drill; it begins a moment after the answer.
    ///
    /// # Errors
    /// `Guard`, also where drills are not allowed.
    pub async fn fault(&self, fault: Fault, ms: u64) -> Result<()> {
        self.ask("make a fault", &Ask::Fault { fault, ms }).await.map(|_| ())
    }

    /// What is.
    ///
    /// # Errors
    /// `Guard`.
    pub async fn status(&self) -> Result<Status> {
        match self.ask("tell how things are", &Ask::Status).await? {
            Answer::Status(status) => Ok(status),
            Answer::Done | Answer::Started(_) | Answer::Failed(_) => {
                Err(failed("tell how things are", "it said something else"))
            }
        }
    }
}

fn failed(deed: &'static str, why: &str) -> Error {
    Error::Guard { deed, why: why.to_string() }
}

async fn listen(read: OwnedReadHalf, waiting: Waiting, news: mpsc::UnboundedSender<Event>) {
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Event::Answer(answer)) => {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                if let Some(next) = next {
                    let _ = next.send(answer);
                }
            }
            Ok(event @ (Event::PostmasterEnded { .. } | Event::DeadlineFired)) => {
                let _ = news.send(event);
            }
            Err(why) => tracing::warn!(%why, "the guard said something that can't be read"),
        }
    }
    waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
