//! Finds out what became of a COMMIT whose answer was lost (C-17).
//!
//! Which term leads now, and with which numbers it began, says most; what is left
//! the leader knows by `txid_status`, in every version from 10 on.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use api::routes::{self, RanIn};
use route::session::Fate;
use tokio::time::{Instant, sleep};

use crate::control::{Control, Order};
use crate::pool::Pool;
use crate::routing::Target;
use crate::server::Server;

/// Between two looks, while the transaction is still under way.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Begins to ask; the answer is put where it is looked for, and `control` is told.
pub fn begin(pool: &Rc<Pool>, ran_in: RanIn, xid: u64, control: &Rc<Control>) -> Rc<RefCell<Option<Fate>>> {
    let place = Rc::new(RefCell::new(None));
    let (pool, control, found) = (pool.clone(), control.clone(), place.clone());
    tokio::task::spawn_local(async move {
        let fate = ask(&pool, ran_in, xid).await;
        tracing::info!(
            term = ran_in.term,
            timeline = ran_in.timeline,
            xid,
            ?fate,
            "settled a commit whose answer was lost"
        );
        if let Some(reactor) = pool.owner() {
            let [committed, not_committed, unknown] = &reactor.counters.settled;
            crate::facts::count(match fate {
                Fate::Committed => committed,
                Fate::NotCommitted => not_committed,
                Fate::Unknown => unknown,
            });
        }
        *found.borrow_mut() = Some(fate);
        control.give(Order::Look);
    });
    place
}

async fn ask(pool: &Rc<Pool>, ran_in: RanIn, xid: u64) -> Fate {
    let Some(reactor) = pool.owner() else { return Fate::Unknown };
    // Only the leader knows; a reader may have written there while no replica would do.
    let pool = &pool.sibling(&reactor, Target::Primary);
    let end = Instant::now() + reactor.config.hold.timeout;
    while Instant::now() < end {
        let Ok(mut server) = pool.get().await else { return Fate::Unknown };
        let openings = reactor.routing.borrow().openings.clone();
        // Nobody's while no term is open, or while this is not the server that leads it.
        if let Some(fate) = routes::fate_of(&openings, ran_in, xid, server.backend.timeline) {
            match fate {
                routes::Fate::NotCommitted => {
                    pool.give_back(server);
                    return Fate::NotCommitted;
                }
                routes::Fate::Unknown => {
                    pool.give_back(server);
                    return Fate::Unknown;
                }
                routes::Fate::AskXactStatus => {}
            }
            match status(&mut server, xid).await {
                Ok(Some(fate)) => {
                    pool.give_back(server);
                    return fate;
                }
                // Still under way, or the server went as well.
                Ok(None) => pool.give_back(server),
                Err(why) => tracing::debug!(%why, "could not ask for the fate of a commit"),
            }
        } else {
            pool.give_back(server);
        }
        sleep(LOOK_AGAIN).await;
    }
    Fate::Unknown
}

async fn status(server: &mut Server, xid: u64) -> io::Result<Option<Fate>> {
    server.ask(route::session::BARRIER).await?;
    let rows = server.ask(&format!("SELECT pg_catalog.txid_status({xid})")).await?;
    let said = rows.into_iter().flatten().flatten().next();
    Ok(match said.as_deref() {
        Some("committed") => Some(Fate::Committed),
        Some("aborted") => Some(Fate::NotCommitted),
        Some(_) => None,
        // Too old for the server to know.
        None => Some(Fate::Unknown),
    })
}
