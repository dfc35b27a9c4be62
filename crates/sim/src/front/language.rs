//! The few statements that the model's server knows.

use std::collections::VecDeque;

use wire::back;
use wire::frame::{int16, int32};

use crate::network::At;
use crate::wal::Step;
use crate::world::World;

use super::backend::{Backend, Block, Done};

/// SQLSTATE and words.
pub(super) type Failure = (&'static str, String);

/// The statements of one text.
pub(super) fn split(text: &[u8]) -> VecDeque<String> {
    let text = String::from_utf8_lossy(text);
    text.split(';').map(str::trim).filter(|t| !t.is_empty()).map(String::from).collect()
}

/// The first value of a Bind, behind its names.
pub(super) fn argument(body: &[u8]) -> Option<String> {
    let (formats, mut rest) = int16(body)?;
    for _ in 0..formats {
        (_, rest) = int16(rest)?;
    }
    let (count, rest) = int16(rest)?;
    let (length, rest) = int32(rest).filter(|_| count > 0)?;
    rest.get(..usize::try_from(length).ok()?).map(|b| String::from_utf8_lossy(b).into_owned())
}

impl World {
    /// Runs one statement.
    pub(super) fn run_text(&mut self, at: At, id: u64, b: &mut Backend, text: &str) -> Result<Done, Failure> {
        let ends = text.starts_with("COMMIT") || text.starts_with("ROLLBACK");
        if b.block == Block::Failed && !ends {
            return Err(("25P02", "current transaction is aborted".into()));
        }
        match text.split_whitespace().next().unwrap_or_default() {
            "BEGIN" => {
                b.block = Block::Open;
                Ok(Done::Tag("BEGIN"))
            }
            "COMMIT" if b.block == Block::Failed => Ok(rolled_back(b)),
            "ROLLBACK" => Ok(rolled_back(b)),
            "COMMIT" => Ok(Done::Commits),
            "SET" => Ok(Done::Tag("SET")),
            "INSERT" => {
                let number = text.split(['(', ')']).nth(1).and_then(|n| n.parse().ok());
                let op: usize = number.ok_or(("42601", format!("syntax error in {text}")))?;
                self.begin_write(at, id, b, Some(op)).map(|()| Done::Tag("INSERT 0 1"))
            }
            "SELECT" if text.contains("pg_logical_emit_message") => {
                self.begin_write(at, id, b, None)?;
                row(b, Some("0/1"));
                Ok(Done::Tag("SELECT 1"))
            }
            "SELECT" if text.contains("txid_status") => {
                let number = text.split(['(', ')']).nth(1).and_then(|n| n.parse().ok());
                let xid = number.ok_or(("42601", format!("syntax error in {text}")))?;
                let said = self.xact_status(at, xid)?;
                row(b, Some(said));
                Ok(Done::Tag("SELECT 1"))
            }
            "SELECT" => {
                row(b, Some("1"));
                Ok(Done::Tag("SELECT 1"))
            }
            _ => Err(("42601", format!("syntax error in {text}"))),
        }
    }

    /// The first record of a transaction, which has its number from then on.
    fn begin_write(&mut self, at: At, id: u64, b: &mut Backend, op: Option<usize>) -> Result<(), Failure> {
        if !self.hosts[at].server.is_primary() {
            return Err(("25006", "cannot execute INSERT in a read-only transaction".into()));
        }
        if self.hosts[at].disk.full {
            // No room for WAL is a PANIC.
            self.kill_server(at);
            return Err(("53100", "no space left on device".into()));
        }
        let write = self.new_write();
        self.next_record += 1;
        let record = self.next_record;
        let s = &mut self.hosts[at].server;
        s.wal.append_step(record, Some(write), Step::Begins);
        b.xid = Some((s.wal.next_xid() - 1, write));
        if let Some(op) = op.filter(|op| *op < self.front.ops.len()) {
            self.front.op_of.insert(write, op);
            self.front.ops[op].runs.push(write);
            self.note(Some(at), || format!("runs op {op} as w{write} (connection {id})"));
        }
        b.point = Some("front-insert");
        Ok(())
    }

    /// `txid_status`.
    fn xact_status(&self, at: At, xid: u64) -> Result<&'static str, Failure> {
        let wal = &self.hosts[at].server.wal;
        let open = |c: &super::Conn| c.at == at && !c.ended && c.backend.xid.is_some_and(|(x, _)| x == xid);
        let in_progress = self.front.conns.values().any(open);
        match wal.status(xid) {
            _ if in_progress => Ok("in progress"),
            Some(true) => Ok("committed"),
            Some(false) => Ok("aborted"),
            None => Err(("22023", format!("transaction ID {xid} is in the future"))),
        }
    }
}

fn rolled_back(b: &mut Backend) -> Done {
    b.block = Block::None;
    b.xid = None;
    Done::Tag("ROLLBACK")
}

fn row(b: &mut Backend, value: Option<&str>) {
    back::text_columns(&mut b.output, &["x"]);
    back::text_row(&mut b.output, [value.map(str::as_bytes)].into_iter());
}
