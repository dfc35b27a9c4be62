//! WAL handed from one agent to another, on request, in bounded pieces.
//!
//! Who asks is known by certificate and must have a seat with a database: WAL
//! holds everything that the database does. Whoever answers reads files that are
//! there; whoever asks checks every record before it uses one.
//!
//! Never sends what was not asked for.

use bytes::Bytes;
use cluster::command::Kind;
use cluster::{ClusterState, Lineage, Lsn, MemberId, NodeId, Timeline};
use peers::Peers;
use postgres::perform::Hands;
use postgres::salvage::{PIECE_BYTES_MAX, Piece, Shelf, Stage};
use postgres::{Error, durable, history};
use serde::{Deserialize, Serialize};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Question {
    /// Every history file.
    Histories,
    /// WAL, as the past that ends on that timeline sees it.
    Bytes { timeline: Timeline, at: Lsn, bytes_max: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    Histories(Vec<(Timeline, Vec<u8>)>),
    /// The bytes themselves follow it: a serializer would look at each of them.
    Bytes {
        timeline: Timeline,
        at: Lsn,
    },
    No(String),
}

/// A stretch of a member's WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Who has it.
    pub holder: MemberId,
    /// The timeline that it is on at its end.
    pub timeline: Timeline,
    /// Our own end.
    pub from: Lsn,
    /// Its end.
    pub to: Lsn,
}

/// Answers somebody who asks for WAL; `shelf` is where ours is.
pub async fn answer<F>(state: &ClusterState, from: &NodeId, body: &[u8], shelf: F) -> Bytes
where
    F: FnOnce() -> postgres::Result<Shelf> + Send + 'static,
{
    let may = state.members.get(from).is_some_and(|m| m.kind == Kind::Data && m.has_seat());
    let question = postcard::from_bytes::<Question>(body);
    let no = |why: String| (Answer::No(why), Vec::new());
    let (answer, bytes) = match question {
        _ if !may => no(format!("{from} has no seat with a database here")),
        Err(why) => no(why.to_string()),
        Ok(question) => {
            let read = durable::off_loop(move || look_up(&shelf()?, question));
            read.await.unwrap_or_else(|why| no(why.to_string()))
        }
    };
    let mut body = postcard::to_allocvec(&answer).unwrap_or_default();
    body.extend(bytes);
    body.into()
}

fn look_up(shelf: &Shelf, question: Question) -> postgres::Result<(Answer, Vec<u8>)> {
    match question {
        Question::Histories => Ok((Answer::Histories(shelf.histories()?), Vec::new())),
        Question::Bytes { timeline, at, bytes_max } => {
            let Piece { timeline, at, bytes } = shelf.read(timeline, at, bytes_max)?;
            Ok((Answer::Bytes { timeline, at }, bytes))
        }
    }
}

/// Fetches `stretch` from the agent at `address` into the log of our standby, whose
/// last record is on `ours`. No receiver may run there.
///
/// # Errors
/// That it can't be reached, has it not, or sent what is not whole: nothing was changed.
pub async fn fetch(
    peers: &Peers,
    address: &str,
    stretch: &Stretch,
    ours: Timeline,
    hands: &Hands,
    progress: impl Fn(Lsn),
) -> postgres::Result<()> {
    let site = hands.site();
    let mut stage = Stage::begin(&site.dir.pgdata(), ours, stretch.from, site.run_as)?;
    let mut lineage = Lineage { ancestors: Vec::new(), timeline: stretch.timeline };
    let (Answer::Histories(histories), _) = ask(peers, address, stretch, Question::Histories).await? else {
        return Err(unasked());
    };
    for (timeline, text) in histories.into_iter().filter(|(t, _)| *t <= stretch.timeline) {
        if timeline == stretch.timeline {
            lineage = history::parse(timeline, &text)?;
        }
        if timeline > ours {
            stage.put_history(timeline, text)?;
        }
    }
    let mut at = stage.first();
    // Each turn brings at least a byte, or is the last.
    while at < stretch.to {
        let bytes_max = u32::try_from(stretch.to.bytes_past(at)).unwrap_or(u32::MAX).min(PIECE_BYTES_MAX);
        let question = Question::Bytes { timeline: stretch.timeline, at, bytes_max };
        match ask(peers, address, stretch, question).await? {
            (Answer::Bytes { timeline, at: start }, bytes) if start == at => {
                at = stage.put(&Piece { timeline, at, bytes: bytes.to_vec() })?;
                progress(at);
            }
            _ => return Err(unasked()),
        }
    }
    hands.put_in_place(stage, lineage, stretch.to).await
}

async fn ask(
    peers: &Peers,
    address: &str,
    of: &Stretch,
    question: Question,
) -> postgres::Result<(Answer, Bytes)> {
    let body = postcard::to_allocvec(&question).unwrap_or_default();
    let asked = peers.ask_for_wal(address, Bytes::from(body)).await;
    let (who, answer) = asked.map_err(|e| Error::Unreachable(e.to_string()))?;
    if who != of.holder.node {
        return Err(Error::BadAnswer(format!("{who} answers where {} was asked", of.holder.node)));
    }
    match postcard::take_from_bytes(&answer) {
        Ok((Answer::No(why), _)) => Err(Error::BadAnswer(format!("{who} has no such WAL to give: {why}"))),
        Ok((said, rest)) => Ok((said, answer.slice_ref(rest))),
        Err(why) => Err(Error::BadAnswer(why.to_string())),
    }
}

fn unasked() -> Error {
    Error::BadAnswer("it answered what was not asked".to_string())
}
