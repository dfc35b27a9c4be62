//! Cancels: to the server that runs this client's statement, and to no other.
//!
//! The server stays out of its pool until it has closed the connection that
//! carried the cancel, so that a late one never meets the next client.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;

use crate::control::{Control, Order};
use crate::server::Server;
use crate::stream;

/// Cancels that may be under way for one server.
const CANCELS_MAX: u32 = 3;

/// Carries a cancel to the server that this client has.
pub fn forward(server: &Server, control: &Rc<Control>) {
    if server.cancels.get() >= CANCELS_MAX {
        return;
    }
    let (cancels, control) = (server.cancels.clone(), control.clone());
    let (address, key, limit) = (server.address.clone(), server.key.clone(), limit(server));
    cancels.set(cancels.get() + 1);
    tokio::task::spawn_local(async move {
        if let Ok(Err(why)) = timeout(limit, say(&address, &key)).await {
            tracing::debug!(%address, %why, "a cancel did not arrive");
        }
        cancels.set(cancels.get() - 1);
        control.give(Order::Look);
    });
}

/// Stops what runs on a server whose client has left, and closes it.
pub fn send(server: Box<Server>) {
    tokio::task::spawn_local(async move {
        let _ = timeout(limit(&server), say(&server.address, &server.key)).await;
        drop(server);
    });
}

/// Longest that it may take.
fn limit(server: &Server) -> Duration {
    server.place.pool.owner().map_or(Duration::ZERO, |reactor| reactor.config.timeouts.cancel)
}

async fn say(address: &str, (pid, secret): &(u32, Vec<u8>)) -> io::Result<()> {
    if secret.len() < wire::start::CANCEL_KEY_BYTES_MIN {
        return Ok(());
    }
    stream::say_cancel(address, *pid, secret).await
}
