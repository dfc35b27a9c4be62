//! Looks after a witness that keeps WAL: tells the loop how it is, and what of its
//! WAL nobody needs any more.
//!
//! It keeps what the data node that is farthest behind may still have to get from
//! it. A node that has not come as far as what is kept can't be helped by it, and
//! holds nothing up. Over its limit it wants out of the commit rule, and only once
//! it is out it drops what somebody may have needed.

use std::sync::Arc;
use std::time::Duration;

use cluster::Lsn;
use cluster::command::{Kind, MemberState};
use cluster::state::Phase;
use failover::Event;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use crate::shared::{Picture, Shared};
use crate::source::Source;
use crate::wal_witness::WalHands;
use crate::watchers::{KEEP, PROBE, WAL_FRESH_MS};

/// Looks now and then, or when asked.
pub async fn probe(
    hands: Arc<WalHands>,
    source: Source,
    shared: Arc<Shared>,
    events: mpsc::UnboundedSender<Event>,
    again: Arc<Notify>,
) {
    let mut kept = Instant::now();
    loop {
        let look = hands.look().await;
        let picture = shared.picture();
        let settled = look.server.streaming == Some(picture.state.ctl.term);
        let calm = settled && picture.state.ctl.phase == Phase::Open && picture.state.rules.len() == 1;
        if look.wal_silent.is_some_and(|d| d < Duration::from_millis(WAL_FRESH_MS)) {
            let _ = events.send(Event::LeaderAlive);
        }
        let full = look.server.trouble.is_some() && settled;
        let flushed = look.server.end;
        if events.send(Event::Probed(Box::new(look.server), None)).is_err() {
            return;
        }
        if kept.elapsed() >= KEEP {
            kept = Instant::now();
            let out =
                source.state().member_id(&source.me()).is_some_and(|id| !source.state().is_in_rules(&id));
            let begin = hands.begin().await.unwrap_or(Lsn::ZERO);
            let keep = if full && out { Some(flushed) } else { needed_from(&picture, begin) };
            if let Some(keep) = keep {
                hands.may_drop(keep).await;
            }
        }
        let _ = timeout(if calm { PROBE.0 } else { PROBE.1 }, again.notified()).await;
    }
}

/// How far each data node that follows or leads is known to have come; `None`: it
/// was never heard.
#[must_use]
pub fn positions(picture: &Picture) -> Vec<Option<Lsn>> {
    let follows = |s: &MemberState| matches!(s, MemberState::Voter | MemberState::Catchup);
    let data = picture.state.members.iter().filter(|(_, m)| m.kind == Kind::Data && follows(&m.state));
    let end = |n| Some(picture.reports.get(n)?.0.server.as_ref()?.end);
    data.map(|(n, _)| end(n)).collect()
}

/// From where WAL is needed that begins at `begin`; `None` while that can't be told.
fn needed_from(picture: &Picture, begin: Lsn) -> Option<Lsn> {
    let all: Option<Vec<Lsn>> = positions(picture).into_iter().collect();
    all?.into_iter().filter(|lsn| *lsn >= begin).min()
}
