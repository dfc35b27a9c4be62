//! Looks after a witness that keeps WAL: tells the loop how it is, and what of its
//! WAL nobody needs any more.
//!
//! It keeps what the data node that is farthest behind may still have to get from
//! it. A node that has not come as far as what is kept can't be helped by it, and
//! holds nothing up. Over its limit it wants out of the commit rule, and only once
//! it is out it drops what somebody may have needed.

use std::sync::Arc;

use cluster::Lsn;
use cluster::command::{Kind, MemberState};
use cluster::state::Phase;
use failover::Event;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use crate::shared::{Picture, Shared};
use crate::source::Source;
use crate::wal_witness::WalHands;
use crate::watchers::{KEEP, PROBE};

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
        if let Some(ago) = look.wal_silent {
            let _ = events.send(Event::LeaderAlive(ago));
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

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::command::{Addresses, Member, Tags};
    use cluster::report::{Report, ServerReport};
    use cluster::{ClusterState, MemberId, NodeId};

    fn picture(all: &[(&str, Kind, MemberState, Option<u64>)]) -> Picture {
        let mut picture = Picture::default();
        let mut state = ClusterState::default();
        for (name, kind, standing, end) in all {
            let node = NodeId::new(name).unwrap();
            let member = Member {
                incarnation: 1,
                raft_id: 1,
                nonce: 0,
                kind: *kind,
                addresses: Addresses::default(),
                tags: Tags::default(),
                state: standing.clone(),
                leaving: false,
                reinit: false,
            };
            state.members.insert(node.clone(), member);
            let Some(end) = end else { continue };
            let report = Report {
                server: Some(ServerReport { end: Lsn(*end), ..ServerReport::default() }),
                ..Report::first(MemberId::new(node.clone(), 1))
            };
            // Also of one that has been away for long.
            picture.reports.insert(node, (report, 1_000_000));
        }
        picture.state = Arc::new(state);
        picture
    }

    #[test]
    fn wal_is_kept_for_the_data_node_that_is_farthest_behind_and_that_it_can_help() {
        use MemberState::{Clone, Registered, Voter};
        let data = |name, end| (name, Kind::Data, Voter, end);
        let at = |all: &[_], begin| needed_from(&picture(all), Lsn(begin)).map(|l| l.0);
        let two = [data("n1", Some(900)), data("n2", Some(300))];
        assert_eq!(at(&two, 100), Some(300));
        assert_eq!(at(&two, 400), Some(900), "what n2 needs is not here");
        assert_eq!(at(&[data("n1", Some(900)), data("n2", None)], 100), None, "n2 may be anywhere");
        let others = [
            data("n1", Some(900)),
            ("n2", Kind::Data, Registered, None),
            ("n3", Kind::Data, Clone, Some(0)),
            ("w", Kind::WalWitness, Voter, Some(100)),
        ];
        assert_eq!(at(&others, 100), Some(900), "nor for who is made anew, or is no database");
    }
}
