//! A client's task, from its login to its last words.
//!
//! Written out, and not as an `async` block: those keep what they were given twice,
//! once as given and once as used, and an idle client is not much more than that.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Sleep, sleep};

use super::{Client, LAST_WORDS_LIMIT};
use crate::accept::Seat;

/// Serves a client until it leaves.
pub(crate) struct Serving {
    client: Client,
    /// Until when its last words must be sent, once it is over.
    ends: Option<Pin<Box<Sleep>>>,
    /// Free again when all the rest is gone.
    _seat: Seat,
}

impl Serving {
    /// One that has a seat.
    #[must_use]
    pub(crate) fn new(client: Client, seat: Seat) -> Serving {
        Serving { client, ends: None, _seat: seat }
    }
}

impl Future for Serving {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.ends.is_none() {
            ready!(this.client.poll(cx));
            this.client.leave();
        }
        // Whoever does not take its last words in time has them not.
        let ends = this.ends.get_or_insert_with(|| Box::pin(sleep(LAST_WORDS_LIMIT)));
        match this.client.line.poll_close(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => ends.as_mut().poll(cx),
        }
    }
}
