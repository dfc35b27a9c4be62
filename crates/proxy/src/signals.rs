//! What the proxy does on signals, as people know it of PgBouncer.
//!
//! | signal | then |
//! |---|---|
//! | SIGTERM | nobody new comes in; each client is sent away between two transactions; whoever is not done in time is cut |
//! | SIGINT | everybody is cut |
//! | SIGHUP | passwords and certificates are read anew |
//!
//! The doors are closed first, so the next proxy can listen while this one still serves.

use std::rc::Rc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout_at};

use crate::admin::change::{reload, shutdown};
use crate::control::Order;
use crate::reactor::{Reactor, TICK};

/// Longest that transactions which were open at SIGTERM may take.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// Obeys until the proxy ends.
///
/// # Errors
/// When the system gives no signals.
pub async fn obey(reactor: Rc<Reactor>) -> std::io::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = term.recv() => return drain(&reactor, &mut int).await,
            _ = int.recv() => break,
            // What is wrong with the files is logged, and nothing has changed then.
            _ = hup.recv() => drop(reload(&reactor)),
        }
    }
    end(&reactor);
    Ok(())
}

async fn drain(reactor: &Rc<Reactor>, int: &mut Signal) -> std::io::Result<()> {
    let threads = &reactor.threads;
    tracing::info!(clients = threads.clients(), "told to end: clients leave between transactions");
    std::mem::take(&mut *reactor.doors.borrow_mut()).iter().for_each(tokio::task::AbortHandle::abort);
    let limit = Instant::now() + DRAIN_LIMIT;
    let mut told = None;
    while threads.clients() > 0 {
        let changed = threads.emptied.notified();
        // Again for those who were about to come in.
        if told.is_none_or(|told: Instant| told.elapsed() >= TICK) {
            told = Some(Instant::now());
            threads.post_all(|reactor| {
                let controls: Vec<_> = reactor.clients.borrow().values().map(|c| c.control.clone()).collect();
                controls.iter().for_each(|control| control.give(Order::Leave));
            });
        }
        tokio::select! {
            changed = timeout_at(limit, changed) => if changed.is_err() { break },
            _ = int.recv() => break,
        }
    }
    end(reactor);
    Ok(())
}

fn end(reactor: &Reactor) {
    shutdown(reactor, false);
    reactor.threads.stops.notify_one();
}
