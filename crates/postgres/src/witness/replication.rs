//! The replication protocol, as much of it as one needs to receive WAL: SCRAM,
//! three questions and the stream (PostgreSQL's documentation, "Streaming
//! Replication Protocol"). No client library of ours speaks it.
//!
//! Never answers a server that asks for a password in any other way than SCRAM:
//! the password would be told to whoever listens there.

use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes, BytesMut};
use cluster::{Lsn, Timeline};
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::{Error, Result};
use crate::roles::REPLICATION;
use crate::secrets::Password;

/// Longest message that is read: a history file of a hundred thousand promotions.
const MESSAGE_BYTES_MAX: usize = 9 << 20;
/// Read from the network at a time: a few of a walsender's messages (128 kB each).
const READ_BYTES: usize = 256 << 10;
/// PostgreSQL's clock began then, in seconds after Unix's.
const EPOCH_OFFSET_S: u64 = 946_684_800;
/// Questions and answers of logging in: three for SCRAM, and what a server tells of itself.
const LOGIN_MESSAGES_MAX: u32 = 100;
/// Rows of one answer.
const ROWS_MAX: usize = 100;

/// What the server says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct System {
    /// System identifier.
    pub sysid: u64,
    /// The timeline that it writes.
    pub timeline: Timeline,
    /// How far its log is flushed.
    pub flushed: Lsn,
}

/// What comes in on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// WAL.
    Wal {
        /// Where it begins.
        at: Lsn,
        /// The bytes.
        bytes: Bytes,
    },
    /// The server is there; it may want an answer at once.
    Alive {
        /// Whether it does.
        reply: bool,
    },
    /// This timeline goes no further.
    Ended,
}

/// A connection in replication mode.
#[derive(Debug)]
pub struct Replication<S> {
    stream: S,
    input: BytesMut,
}

struct Message {
    tag: u8,
    body: Bytes,
}

type Row = Vec<Option<Bytes>>;

impl<S: AsyncRead + AsyncWrite + Unpin> Replication<S> {
    /// Logs in as Tanist's replication role under `name`, the `application_name`.
    ///
    /// # Errors
    /// `Unreachable`, `Sql`, `BadAnswer`.
    pub async fn login(stream: S, password: &Password, name: &str) -> Result<Replication<S>> {
        let mut it = Replication { stream, input: BytesMut::with_capacity(READ_BYTES) };
        let parameters = [
            ("user", REPLICATION),
            ("replication", "true"),
            ("application_name", name),
            ("client_encoding", "UTF8"),
        ];
        it.say(|out| frontend::startup_message(parameters, out)).await?;
        let mut scram: Option<ScramSha256> = None;
        for _ in 0..LOGIN_MESSAGES_MAX {
            let mut message = it.message().await?;
            match message.tag {
                b'R' => it.authenticate(&mut message.body, &mut scram, password).await?,
                b'E' => return Err(refusal("log in", &message.body)),
                b'Z' => return Ok(it),
                _ => {}
            }
        }
        Err(bad("it does not end logging in"))
    }

    async fn authenticate(
        &mut self,
        body: &mut Bytes,
        scram: &mut Option<ScramSha256>,
        password: &Password,
    ) -> Result<()> {
        let broken = |e: std::io::Error| bad(&format!("SCRAM failed: {e}"));
        let kind = body.try_get_i32().map_err(|_| bad("a short message"))?;
        match (kind, scram.as_mut()) {
            (0, None) => Err(bad("it lets us in without a password, so it is no member's server")),
            (0, Some(_)) => Ok(()),
            (10, None) => {
                let offered = body.split(|b| *b == 0).any(|m| m == SCRAM_SHA_256.as_bytes());
                if !offered {
                    return Err(bad("it offers no SCRAM-SHA-256"));
                }
                let fresh = scram
                    .insert(ScramSha256::new(password.reveal().as_bytes(), ChannelBinding::unsupported()));
                let first = fresh.message().to_vec();
                self.say(|out| frontend::sasl_initial_response(SCRAM_SHA_256, &first, out)).await
            }
            (11, Some(scram)) => {
                scram.update(body).map_err(broken)?;
                let next = scram.message().to_vec();
                self.say(|out| frontend::sasl_response(&next, out)).await
            }
            // With it the server proves that it knows the password too.
            (12, Some(scram)) => scram.finish(body).map_err(broken),
            _ => Err(bad("it asks for another authentication than SCRAM")),
        }
    }

    /// What the server is.
    ///
    /// # Errors
    /// `Unreachable`, `Sql`, `BadAnswer`.
    pub async fn identify(&mut self) -> Result<System> {
        let rows = self.ask("identify itself", "IDENTIFY_SYSTEM").await?;
        let sysid = field(&rows, 0).and_then(|t| t.parse().ok());
        let timeline = field(&rows, 1).and_then(|t| t.parse().ok()).map(Timeline);
        let flushed = field(&rows, 2).and_then(|t| t.parse().ok());
        match (sysid, timeline, flushed) {
            (Some(sysid), Some(timeline), Some(flushed)) => Ok(System { sysid, timeline, flushed }),
            _ => Err(bad("it does not say what it is")),
        }
    }

    /// The value of a setting.
    ///
    /// # Errors
    /// `Unreachable`, `Sql`, `BadAnswer`.
    pub async fn show(&mut self, setting: &'static str) -> Result<String> {
        let rows = self.ask("show a setting", &format!("SHOW {setting}")).await?;
        field(&rows, 0).map(str::to_string).ok_or_else(|| bad("no value"))
    }

    /// The history file of `timeline`.
    ///
    /// # Errors
    /// `Unreachable`, `Sql` where there is none, `BadAnswer`.
    pub async fn history(&mut self, timeline: Timeline) -> Result<Bytes> {
        let rows = self.ask("send a history", &format!("TIMELINE_HISTORY {timeline}")).await?;
        rows.into_iter().next().and_then(|r| r.into_iter().nth(1).flatten()).ok_or_else(|| bad("no history"))
    }

    /// Asks for WAL of `timeline` from `at` on, through `slot`. False: that timeline
    /// goes no further, and nothing is sent.
    ///
    /// # Errors
    /// `Unreachable`, `Sql`: the WAL is not there any more, say; `BadAnswer`.
    pub async fn start(&mut self, slot: &str, timeline: Timeline, at: Lsn) -> Result<bool> {
        let query = format!("START_REPLICATION SLOT {slot} PHYSICAL {at} TIMELINE {timeline}");
        self.say(|out| frontend::query(&query, out)).await?;
        let message = self.message_but_notices().await?;
        match message.tag {
            b'W' => Ok(true),
            b'E' => {
                let why = refusal("send WAL", &message.body);
                self.ready().await?;
                Err(why)
            }
            _ => self.ready().await.map(|()| false),
        }
    }

    /// What comes next on the stream. May be given up at any moment: nothing is lost.
    ///
    /// # Errors
    /// `Unreachable`, `Sql`, `BadAnswer`.
    pub async fn next(&mut self) -> Result<Heard> {
        loop {
            let mut message = self.message().await?;
            match message.tag {
                b'd' => return read_stream(&mut message.body),
                b'c' => return Ok(Heard::Ended),
                b'E' => return Err(refusal("send WAL", &message.body)),
                _ => {}
            }
        }
    }

    /// Ends a stream that the server has ended, so that it can be asked again.
    ///
    /// # Errors
    /// `Unreachable`, `Sql`.
    pub async fn finish(&mut self) -> Result<()> {
        self.say(|out| {
            frontend::copy_done(out);
            Ok(())
        })
        .await?;
        self.ready().await
    }

    /// Whether a whole message is here already, so that nothing has to be waited for.
    #[must_use]
    pub fn has_more(&self) -> bool {
        frame_bytes(&self.input).is_ok_and(|n| n.is_some_and(|n| self.input.len() >= n))
    }

    /// Tells how far we have written and flushed, and may ask for a sign of life.
    /// Nothing is ever applied here, so `remote_apply` is not satisfied by us.
    ///
    /// # Errors
    /// `Unreachable`.
    pub async fn acknowledge(&mut self, flushed: Lsn, asks: bool) -> Result<()> {
        let mut body = Vec::with_capacity(34);
        body.push(b'r');
        for lsn in [flushed.0, flushed.0, 0, now_us()] {
            body.extend(lsn.to_be_bytes());
        }
        body.push(u8::from(asks));
        self.say(|out| {
            frontend::CopyData::new(body.as_slice())?.write(out);
            Ok(())
        })
        .await
    }

    async fn ask(&mut self, what: &'static str, query: &str) -> Result<Vec<Row>> {
        self.say(|out| frontend::query(query, out)).await?;
        let (mut rows, mut failed) = (Vec::new(), None);
        loop {
            let message = self.message().await?;
            match message.tag {
                b'D' if rows.len() < ROWS_MAX => rows.push(row(message.body)?),
                b'E' => failed = Some(refusal(what, &message.body)),
                b'Z' => return failed.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    /// Reads on until the server waits for the next question.
    async fn ready(&mut self) -> Result<()> {
        loop {
            let message = self.message().await?;
            match message.tag {
                b'Z' => return Ok(()),
                b'E' => return Err(refusal("end the stream", &message.body)),
                _ => {}
            }
        }
    }

    async fn message_but_notices(&mut self) -> Result<Message> {
        loop {
            let message = self.message().await?;
            if !matches!(message.tag, b'N' | b'S') {
                return Ok(message);
            }
        }
    }

    async fn message(&mut self) -> Result<Message> {
        loop {
            if let Some(bytes) = frame_bytes(&self.input)?
                && self.input.len() >= bytes
            {
                let mut frame = self.input.split_to(bytes).freeze();
                let tag = frame.get_u8();
                frame.advance(4);
                return Ok(Message { tag, body: frame });
            }
            self.input.reserve(READ_BYTES);
            let got = self.stream.read_buf(&mut self.input).await.map_err(gone)?;
            if got == 0 {
                return Err(Error::Unreachable("the server hung up".to_string()));
            }
        }
    }

    async fn say(&mut self, put: impl FnOnce(&mut BytesMut) -> std::io::Result<()>) -> Result<()> {
        let mut out = BytesMut::new();
        put(&mut out).map_err(gone)?;
        self.stream.write_all(&out).await.map_err(gone)?;
        self.stream.flush().await.map_err(gone)
    }
}

/// How long the message at the front is with its head; `None` while that can't be told.
fn frame_bytes(input: &[u8]) -> Result<Option<usize>> {
    let Some(length) = input.get(1..5).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes) else {
        return Ok(None);
    };
    match length as usize {
        length @ 4..=MESSAGE_BYTES_MAX => Ok(Some(length + 1)),
        _ => Err(bad("a message of an impossible length")),
    }
}

fn read_stream(body: &mut Bytes) -> Result<Heard> {
    let short = |_| bad("a short message in the stream");
    match body.try_get_u8().map_err(short)? {
        b'w' => {
            let at = Lsn(body.try_get_u64().map_err(short)?);
            // The end of the server's log, and its clock.
            body.try_get_u64().map_err(short)?;
            body.try_get_u64().map_err(short)?;
            Ok(Heard::Wal { at, bytes: body.split_off(0) })
        }
        b'k' => {
            body.try_get_u64().map_err(short)?;
            body.try_get_u64().map_err(short)?;
            Ok(Heard::Alive { reply: body.try_get_u8().map_err(short)? != 0 })
        }
        _ => Err(bad("a message in the stream that is not known")),
    }
}

fn row(mut body: Bytes) -> Result<Row> {
    let short = |_| bad("a short row");
    let columns = body.try_get_u16().map_err(short)?;
    let mut row = Row::new();
    for _ in 0..columns {
        let length = body.try_get_i32().map_err(short)?;
        match usize::try_from(length) {
            Err(_) => row.push(None),
            Ok(n) if n <= body.len() => row.push(Some(body.split_to(n))),
            Ok(_) => return Err(bad("a short row")),
        }
    }
    Ok(row)
}

/// A column of the first row, as text.
fn field(rows: &[Row], column: usize) -> Option<&str> {
    std::str::from_utf8(rows.first()?.get(column)?.as_ref()?).ok()
}

/// An error of the server's: its code (`C`) and message (`M`).
fn refusal(what: &'static str, body: &[u8]) -> Error {
    let part = |kind: u8| {
        let found = body.split(|b| *b == 0).find(|f| f.first() == Some(&kind));
        found.map(|f| String::from_utf8_lossy(f.get(1..).unwrap_or_default()).into_owned())
    };
    Error::Sql { what, message: part(b'M').unwrap_or_default(), sqlstate: part(b'C').unwrap_or_default() }
}

fn bad(why: &str) -> Error {
    Error::BadAnswer(why.to_string())
}

fn gone(why: std::io::Error) -> Error {
    Error::Unreachable(why.to_string())
}

/// Microseconds of PostgreSQL's clock, by which the server tells how old a reply is.
fn now_us() -> u64 {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let since = unix.saturating_sub(Duration::from_secs(EPOCH_OFFSET_S));
    u64::try_from(since.as_micros()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wal_and_signs_of_life_are_told_apart() {
        let mut wal = vec![b'w'];
        wal.extend(0x0100_0028_u64.to_be_bytes());
        wal.extend([0; 16]);
        wal.extend(b"abc");
        let heard = read_stream(&mut wal.into()).unwrap();
        assert_eq!(heard, Heard::Wal { at: Lsn(0x0100_0028), bytes: Bytes::from_static(b"abc") });
        let mut alive = vec![b'k'];
        alive.extend([0; 16]);
        alive.push(1);
        assert_eq!(read_stream(&mut alive.into()).unwrap(), Heard::Alive { reply: true });
    }

    #[test]
    fn an_error_of_the_servers_is_told_with_its_code() {
        let body = b"SERROR\0VERROR\0C58P01\0Mit has already been removed\0\0";
        let told = refusal("send WAL", body);
        assert!(matches!(told, Error::Sql { sqlstate, .. } if sqlstate == "58P01"));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = frame_bytes(&bytes);
            let _ = read_stream(&mut Bytes::from(bytes.clone()));
            let _ = row(Bytes::from(bytes.clone()));
            let _ = refusal("x", &bytes);
        }
    }
}
