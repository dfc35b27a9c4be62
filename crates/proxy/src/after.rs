//! Readers who must see what was written before: `tanist.read_after`.
//!
//! ```text
//!   writer: COMMIT, SHOW tanist.lsn ▶ 0/16B3748 ─ the application carries it ─▶ reader: SET tanist.read_after
//!   reader's next transaction ▶ a replica ▶ has it replayed so far? ▶ not yet: asked again ▶ late: leader, or 57014
//! ```
//! What is promised: whatever was acknowledged on the leader before the token was asked
//! for is seen, as far as the cluster keeps what it acknowledges. Nothing is promised
//! of two readers, or of what was not acknowledged.
//!
//! Costs one comparison for readers, and a question only for those who have set it.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

pub use route::read_after::{READ_AFTER, position as parse};

use crate::config::Late;
use crate::control::Control;
use crate::pool::{Key, Pool};
use crate::reactor::Reactor;
use crate::routing::Target;
use crate::server::Server;
use crate::waiter::{Refusal, Waiter};

/// Shortest and longest time between two questions.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
/// Longest that one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// What a server that a reader has got is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It shows what the reader must see.
    Go,
    /// It is not known to have replayed so far.
    Wait(u64),
}

/// Whether `server` shows all that was written up to the position that its reader has set to `text`.
#[must_use]
pub fn check(server: &Server, text: &str) -> Verdict {
    if text.is_empty() || server.led {
        return Verdict::Go;
    }
    match parse(text) {
        Some(lsn) if server.replayed >= lsn => Verdict::Go,
        Some(lsn) => Verdict::Wait(lsn),
        // Checked where it was set: as good as nothing.
        None => Verdict::Go,
    }
}

/// Waits until a server has replayed so far; `control` is told when that, or another one, is there.
pub fn begin(reactor: &Rc<Reactor>, server: Box<Server>, lsn: u64, control: &Rc<Control>) -> Rc<Waiter> {
    let waiter = Waiter::new(control);
    let (reactor, later) = (reactor.clone(), waiter.clone());
    tokio::task::spawn_local(async move {
        let got = wait(&reactor, server, lsn, &later).await;
        if !later.gone.get() {
            later.give(got);
        } else if let Ok(server) = got {
            Rc::clone(&server.place.pool).give_back(server);
        }
    });
    waiter
}

/// Waits until a server has replayed so far, or one that leads is there instead.
async fn wait(
    reactor: &Rc<Reactor>,
    mut server: Box<Server>,
    lsn: u64,
    waiter: &Waiter,
) -> Result<Box<Server>, Refusal> {
    let limit = reactor.config.pool.read_after_timeout;
    let (end, mut pause) = (Instant::now() + limit, ASK_AGAIN.0);
    let pool = server.place.pool.clone();
    while Instant::now() < end && !waiter.gone.get() {
        match timeout(ANSWER_LIMIT, replayed(&mut server)).await {
            Ok(Ok(now)) => server.replayed = now,
            // It is gone, or leads now and can't tell: any other will do as well.
            Ok(Err(_)) | Err(_) => {
                drop(server);
                server = pool.get().await?;
                if server.led {
                    return Ok(server);
                }
                continue;
            }
        }
        if server.replayed >= lsn {
            return Ok(server);
        }
        sleep(pause).await;
        pause = (pause * 2).min(ASK_AGAIN.1);
    }
    if waiter.gone.get() {
        return Ok(server);
    }
    let so_far = server.replayed;
    match reactor.config.pool.read_after_late {
        Late::Leader => {
            pool.give_back(server);
            pool.sibling(reactor, Target::Primary).get().await
        }
        Late::Fail => {
            pool.give_back(server);
            let message = format!(
                "no replica has replayed {} within {} ms (it has {}): {READ_AFTER}",
                shown(lsn),
                limit.as_millis(),
                shown(so_far)
            );
            Err(Refusal::for_now("57014", message))
        }
    }
}

impl Pool {
    /// The pool of the same user and database for another kind of work.
    #[must_use]
    pub fn sibling(self: &Rc<Pool>, reactor: &Rc<Reactor>, target: Target) -> Rc<Pool> {
        if self.key.target == target {
            return self.clone();
        }
        let other = reactor.pool(&Key { target, ..self.key.clone() });
        other.credential.borrow_mut().clone_from(&self.credential.borrow());
        other
    }
}

fn shown(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)
}

/// Asked of a standby: how far it is, and how its WAL is cut into pages and segments, in bytes.
const QUESTION: &str = "SELECT pg_catalog.pg_last_wal_replay_lsn(), \
    pg_catalog.current_setting('wal_block_size'), \
    pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))";

async fn replayed(server: &mut Server) -> io::Result<u64> {
    let row: Vec<_> = server.ask(QUESTION).await?.into_iter().flatten().collect();
    let [Some(lsn), Some(page), Some(segment)] = row.as_slice() else {
        return Err(io::Error::other("it is no standby"));
    };
    let known = (parse(lsn), page.parse().ok(), segment.parse().ok());
    let (Some(lsn), Some(page), Some(segment)) = known else { return Err(io::Error::other("no position")) };
    Ok(reached(lsn, page, segment))
}

/// What a replay up to the end of a record has reached. Say a record ends with its page: the next one begins behind
/// the header of the next page, and that is what the leader calls its own position, though nothing is between.
fn reached(lsn: u64, page: u64, segment: u64) -> u64 {
    // SizeOfXLogLongPHD and SizeOfXLogShortPHD (xlog_internal.h).
    match (lsn.checked_rem(segment), lsn.checked_rem(page)) {
        (Some(0), _) => lsn.saturating_add(40),
        (_, Some(0)) => lsn.saturating_add(24),
        (_, _) => lsn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_written_as_postgresql_does() {
        assert_eq!(shown(0x1A << 32 | 0xB), "1A/B");
    }

    #[test]
    fn the_end_of_a_page_is_the_beginning_of_the_next() {
        for (lsn, is) in [(0x2000, 0x2018), (0x2008, 0x2008), (0x0100_0000, 0x0100_0028), (0x1FFF, 0x1FFF)] {
            assert_eq!(reached(lsn, 8192, 16 << 20), is);
        }
        assert_eq!(reached(8192, 0, 0), 8192);
    }
}
