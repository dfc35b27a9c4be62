//! The tasks beside the loop: they look, and tell it what they see.

use std::sync::Arc;
use std::time::Duration;

use cluster::command::MemberState;
use cluster::state::Phase;
use cluster::{Lsn, NodeId, Time};
use failover::Event;
use postgres::guard::log::wait_until_written;
use postgres::guard::protocol::Event as GuardEvent;
use postgres::guard::tree;
use postgres::perform::Hands;
use store::Store;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::block_in_place;
use tokio::time::{Instant, timeout};

use crate::clock;
use crate::shared::Shared;
use crate::source::Source;

/// Between two probes while nothing moves, and while something does.
pub const PROBE: (Duration, Duration) = (Duration::from_millis(750), Duration::from_millis(100));
/// Housekeeping is done this often.
pub const KEEP: Duration = Duration::from_secs(2);
/// The guard hears of an agent that is starting at least this often.
pub const SIGN_OF_LIFE: Duration = Duration::from_millis(300);
/// Between two looks at a leader whose heartbeat is late.
pub const LOOK: Duration = Duration::from_millis(50);
/// Between two reads of the store by a leader that needs them.
pub const READ: Duration = Duration::from_millis(400);
/// The guard's deadline, which is seconds ahead, is moved on this often.
pub const ARM: Duration = Duration::from_millis(250);
/// How long the leader's PostgreSQL may take to answer such a look.
pub const LOOK_LIMIT: Duration = Duration::from_millis(400);

/// libpq's request for TLS (protocol 3.0, "SSL Session Encryption"): any server
/// answers it with one byte, however busy it is with queries.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

type Events = mpsc::UnboundedSender<Event>;

/// Probes the own server, now and then or when asked.
pub async fn probe(hands: Arc<Hands>, shared: Arc<Shared>, events: Events, again: Arc<Notify>) {
    loop {
        let probe = hands.probe().await;
        let moving = {
            let picture = shared.picture();
            let term = picture.state.ctl.term;
            let settled = probe.leading.is_some() || probe.server.streaming == Some(term);
            let voters = picture
                .state
                .members
                .values()
                .all(|m| matches!(m.state, MemberState::Voter | MemberState::Removed));
            !settled || !voters || picture.state.ctl.phase != Phase::Open || picture.state.rules.len() > 1
        };
        if let Some(ms) = probe.wal_silent_ms {
            let _ = events.send(Event::LeaderAlive(Duration::from_millis(ms)));
        }
        let _ = events.send(Event::Hung(probe.hung));
        if events.send(Event::Probed(Box::new(probe.server), probe.leading.map(Box::new))).is_err() {
            return;
        }
        let pause = if moving { PROBE.1 } else { PROBE.0 };
        let _ = timeout(pause, again.notified()).await;
    }
}

/// Looks at the leader's PostgreSQL while its agent is silent (C-23), or it itself.
pub async fn look_at_leader(source: Source, asked: Arc<Notify>, events: Events) {
    loop {
        asked.notified().await;
        let state = source.state();
        let Some(leader) = state.ctl.leader.clone().filter(|l| l.node != source.me()) else { continue };
        let address = state.member(&leader).map(|m| m.addresses.postgres.clone()).unwrap_or_default();
        if answers(&address).await {
            let _ = events.send(Event::LeaderAlive(Duration::ZERO));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether a PostgreSQL answers there.
async fn answers(address: &str) -> bool {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(&SSL_REQUEST).await.ok()?;
        let mut byte = [0u8; 1];
        stream.read_exact(&mut byte).await.ok()?;
        Some(())
    };
    timeout(LOOK_LIMIT, asking).await.ok().flatten().is_some()
}

/// Hands the deadline to the guard each time the loop turned, which is also the
/// sign of life by which the guard knows the agent. Before the loop turns for
/// the first time, which may take days while there is no seat, being here is one.
pub async fn arm(hands: Arc<Hands>, mut deadline: watch::Receiver<Option<Time>>) {
    let (mut turns, mut armed) = (false, None::<Instant>);
    loop {
        match timeout(SIGN_OF_LIFE, deadline.changed()).await {
            Ok(Ok(())) => turns = true,
            Ok(Err(_)) => return,
            Err(_) if turns => continue,
            Err(_) => {}
        }
        if armed.is_some_and(|at| at.elapsed() < ARM) {
            continue;
        }
        armed = Some(Instant::now());
        let until = *deadline.borrow_and_update();
        let guard = &hands.site().guard;
        let asking = async {
            match until {
                Some(t) => guard.arm(Some(clock::boot_ms(t))).await,
                None => guard.status().await.map(|_| ()),
            }
        };
        tokio::pin!(asking);
        let said = loop {
            tokio::select! {
                said = &mut asking => break said,
                // While it does not answer, the deadline is ours to keep (`second_hand`).
                Ok(()) = deadline.changed() => {
                    if let Some(t) = *deadline.borrow_and_update() {
                        guard.intend(clock::boot_ms(t));
                    }
                }
            }
        };
        if let Err(why) = said {
            tracing::error!(%why, "the guard is gone; this agent ends with it, and the server before");
            // One that only stands still would kill nobody at the deadline, nor would we once we are gone.
            let pgdata = hands.site().dir.pgdata();
            let gone = block_in_place(|| tree::kill_all(&pgdata));
            tracing::info!(gone, "the server was killed");
            wait_until_written();
            std::process::exit(1);
        }
    }
}

/// News from the guard: look at once.
pub async fn hear_guard(mut news: mpsc::UnboundedReceiver<GuardEvent>, again: Arc<Notify>) {
    while let Some(event) = news.recv().await {
        tracing::warn!(?event, "from the guard");
        again.notify_one();
    }
}

/// As leader, proves now and then by a linearizable read that our term stands.
pub async fn read_store(store: Store, asked: Arc<Notify>, events: Events) {
    loop {
        asked.notified().await;
        let started = clock::now();
        if let Ok(state) = store.read().await {
            let _ = events.send(Event::StoreRead(started, state.ctl.term));
        }
        tokio::time::sleep(READ).await;
    }
}

/// Slots on every member.
pub async fn keep_house(hands: Arc<Hands>, source: Source, shared: Arc<Shared>) {
    loop {
        // Whoever is being cloned waits for its slot.
        let clones = |m: &cluster::command::Member| m.state == MemberState::Clone;
        let waits = shared.picture().state.members.values().any(clones);
        tokio::time::sleep(if waits { PROBE.1 } else { KEEP }).await;
        let picture = shared.picture();
        let running = picture.reports.get(&source.me()).and_then(|(r, _)| r.server.as_ref());
        if !running.is_some_and(|s| {
            matches!(s.state, cluster::report::ServerState::Standby | cluster::report::ServerState::Primary)
        }) {
            continue;
        }
        let flushed = |n: &NodeId| Some(picture.reports.get(n)?.0.server.as_ref()?.end);
        let mut wanted = source.slots();
        for (member, lsn) in &mut wanted {
            *lsn = flushed(&member.node).unwrap_or(Lsn::ZERO);
        }
        if let Err(why) = hands.keep_slots(&wanted).await {
            tracing::debug!(%why, "slots stay as they are for now");
        }
    }
}
