//! The agent's end of the line to its guard.
//!
//! Whoever asks may be broken off at any moment: a deed that the agent gives up. So a
//! request is handed over whole, to a task that writes it to its end, and its answer
//! is known by its number: one that nobody waits for any more is nobody else's.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OnceCell, mpsc, oneshot};
use tokio::time::timeout;

use super::protocol::{Answer, Ask, Event, Fault, Request, Start, Status};
use crate::error::{Error, Result};

/// Longest that the guard may take to answer; killing a tree takes longest.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(8);
/// Most requests that wait for their answers, those that were given up among them.
pub const WAITING_MAX: usize = 256;

/// The line.
#[derive(Clone)]
pub struct Client {
    line: mpsc::Sender<Vec<u8>>,
    asked: Arc<Mutex<Asked>>,
    /// Whether the guard knows numbers, once it has been asked.
    numbers: Arc<OnceCell<bool>>,
}

/// Who waits for the answer to which request.
#[derive(Default)]
struct Asked {
    last: u64,
    /// The last deadline that the guard was given or is to have, in ms by the boot clock.
    deadline_ms: Option<u64>,
    waiting: BTreeMap<u64, oneshot::Sender<Heard>>,
    /// The guard has hung up.
    over: bool,
}

struct Heard {
    answer: Answer,
    numbered: bool,
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
        let asked = Arc::new(Mutex::new(Asked::default()));
        let (line, lines) = mpsc::channel(WAITING_MAX);
        let (news_tx, news) = mpsc::unbounded_channel();
        let answered = asked.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = listen(read, &answered, news_tx) => {}
                () = speak(write, lines) => {}
            }
            let mut asked = lock(&answered);
            asked.over = true;
            asked.waiting.clear();
        });
        Ok((Client { line, asked, numbers: Arc::default() }, news))
    }

    async fn ask(&self, deed: &'static str, ask: &Ask) -> Result<Answer> {
        let numbers = *self.numbers.get_or_try_init(|| self.greet()).await?;
        let heard = if numbers {
            self.send(deed, |number| Request { number, ask }).await?
        } else {
            self.send(deed, |_| ask).await?
        };
        match heard.answer {
            Answer::Failed(why) => Err(failed(deed, &why)),
            answer @ (Answer::Done | Answer::Started(_) | Answer::Status(_)) => Ok(answer),
        }
    }

    /// A guard that does not know numbers refuses a numbered request, without one.
    async fn greet(&self) -> Result<bool> {
        let heard = self.send("be greeted", |number| Request { number, ask: Ask::Hello }).await?;
        if !heard.numbered {
            tracing::info!("the guard is older than this agent and answers in turn");
        }
        Ok(heard.numbered)
    }

    async fn send<R: Serialize>(&self, deed: &'static str, request: impl FnOnce(u64) -> R) -> Result<Heard> {
        let answer = self.hand_over(deed, request)?;
        match timeout(ANSWER_LIMIT, answer).await {
            Ok(Ok(heard)) => Ok(heard),
            Ok(Err(_)) => Err(failed(deed, "it hung up")),
            Err(_) => Err(failed(deed, "it did not answer in time")),
        }
    }

    /// At one go: nobody is broken off in the middle of this, and requests are sent in
    /// the order of their numbers, by which a guard without them is understood.
    fn hand_over<R: Serialize>(
        &self,
        deed: &'static str,
        request: impl FnOnce(u64) -> R,
    ) -> Result<oneshot::Receiver<Heard>> {
        let mut asked = lock(&self.asked);
        if asked.over {
            return Err(failed(deed, "it hung up"));
        }
        if asked.waiting.len() >= WAITING_MAX {
            return Err(failed(deed, "it has too many requests to answer"));
        }
        asked.last += 1;
        let number = asked.last;
        let mut bytes = serde_json::to_vec(&request(number)).map_err(|e| failed(deed, &e.to_string()))?;
        bytes.push(b'\n');
        self.line.try_send(bytes).map_err(|e| failed(deed, &e.to_string()))?;
        let (tx, rx) = oneshot::channel();
        asked.waiting.insert(number, tx);
        Ok(rx)
    }

    /// "I am well": the server may run until then.
    ///
    /// # Errors
    /// `Guard`.
    pub async fn arm(&self, deadline_ms: Option<u64>) -> Result<()> {
        let deed = "arm its deadline";
        if let Some(until) = deadline_ms {
            self.intend(until);
        }
        done(deed, &self.ask(deed, &Ask::Arm { deadline_ms }).await?)
    }

    /// A newer deadline, in ms by the boot clock, that the guard is to have as soon as
    /// it answers.
    pub fn intend(&self, deadline_ms: u64) {
        lock(&self.asked).deadline_ms = Some(deadline_ms);
    }

    /// When the server has to be gone, in ms by the boot clock: the last deadline that
    /// the guard was handed or is to have. `None` before the first.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        lock(&self.asked).deadline_ms
    }

    /// Whether the guard owes an answer, which takes one that runs a millisecond.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        !lock(&self.asked).waiting.is_empty()
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
        let deed = "signal the server";
        done(deed, &self.ask(deed, &Ask::Signal { signal }).await?)
    }

    /// Kills the server's whole tree; returns when nothing of it is left.
    ///
    /// # Errors
    /// `Guard`, also when something would not die.
    pub async fn kill_tree(&self) -> Result<()> {
        let deed = "kill the server";
        done(deed, &self.ask(deed, &Ask::Kill).await?)
    }

    /// Has a fault made, for a drill; it begins a moment after the answer.
    ///
    /// # Errors
    /// `Guard`, also where drills are not allowed.
    pub async fn fault(&self, fault: Fault, ms: u64) -> Result<()> {
        let deed = "make a fault";
        done(deed, &self.ask(deed, &Ask::Fault { fault, ms }).await?)
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

/// The answer to a request that has no other than this.
fn done(deed: &'static str, answer: &Answer) -> Result<()> {
    match answer {
        Answer::Done => Ok(()),
        Answer::Started(_) | Answer::Status(_) | Answer::Failed(_) => {
            Err(failed(deed, "it said something else"))
        }
    }
}

fn failed(deed: &'static str, why: &str) -> Error {
    Error::Guard { deed, why: why.to_string() }
}

fn lock(asked: &Mutex<Asked>) -> MutexGuard<'_, Asked> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Until the line breaks, or nobody asks any more.
async fn speak(mut write: OwnedWriteHalf, mut lines: mpsc::Receiver<Vec<u8>>) {
    while let Some(line) = lines.recv().await {
        if write.write_all(&line).await.is_err() {
            return;
        }
    }
}

async fn listen(read: OwnedReadHalf, asked: &Mutex<Asked>, news: mpsc::UnboundedSender<Event>) {
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Event::Numbered { number, answer }) => {
                let waiting = lock(asked).waiting.remove(&number);
                tell(waiting, Heard { answer, numbered: true });
            }
            Ok(Event::Answer(answer)) => {
                let oldest = lock(asked).waiting.pop_first();
                tell(oldest.map(|(_, waiting)| waiting), Heard { answer, numbered: false });
            }
            Ok(event @ (Event::PostmasterEnded { .. } | Event::DeadlineFired)) => {
                let _ = news.send(event);
            }
            Err(why) => tracing::warn!(%why, "the guard said something that can't be read"),
        }
    }
}

/// Whoever asked may have been broken off since.
fn tell(waiting: Option<oneshot::Sender<Heard>>, heard: Heard) {
    if let Some(waiting) = waiting {
        let _ = waiting.send(heard);
    }
}
