//! What others ask of a client: to stop what it does, to let go of its server, to end.

use std::task::Context;

use route::session::Loss;
use wire::back::Words;

use super::{Client, End, TOLD_TO_END};
use crate::cancel;
use crate::control::Order;
use crate::patience;
use crate::server::Server;

impl Client {
    #[cold]
    pub(super) fn obey(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let _ = self.control.take(Order::Look);
        self.unread = true;
        if self.control.take(Order::End) {
            self.last_words(cx, &Words::fatal("57P01", TOLD_TO_END));
            return Err(End);
        }
        self.leaving |= self.control.take(Order::Leave);
        if self.control.take(Order::Cut) {
            let kept =
                |s: &Server| self.reactor.routing.borrow().keeps(s.place.pool.wants.get(), &s.address, s.led);
            if self.server.as_ref().is_some_and(|s| !kept(s)) {
                // What it has said before it went counts.
                let heard = self.hear_server(cx)?;
                if self.server.is_some() && !heard {
                    self.lose(cx, Loss::Silent, None)?;
                } else {
                    self.control.give(Order::Cut);
                }
            }
        }
        if self.control.take(Order::Cancel) {
            self.cancel();
        }
        if self.control.take(Order::Late) {
            self.end_if_late(cx)?;
        }
        if self.control.take(Order::Wait) && self.waiting.is_some() {
            self.last_words(cx, &patience::words(&self.reactor, &self.pool));
        }
        Ok(true)
    }

    /// Ends it if it has really taken too long: what it waited for may have come since it was looked at.
    fn end_if_late(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let _ = self.hear_server(cx)?;
        self.account();
        let late = self.pool.timeouts.get().overdue(self.reactor.now.get(), &self.facts);
        let Some(late) = late else { return Ok(()) };
        self.last_words(cx, &late.words(self.facts.id, &self.pool.key));
        Err(End)
    }

    fn cancel(&mut self) {
        if let Some(waiter) = self.waiting.take() {
            waiter.gone.set(true);
            self.session.refuse(Words::error("57014", "canceling statement due to user request"));
            self.unread = true;
        } else if self.unsure.is_some() && !self.session.is_busy() {
            // With something of its own at its server it waits for its limit.
            self.fresh = false;
            self.release();
            if self.server.is_none() {
                self.unsure = None;
                self.refuse("57014", "canceling statement due to user request");
            }
        } else if let Some(server) = self.server.as_ref().filter(|_| self.session.may_cancel()) {
            cancel::forward(server, &self.control);
            self.session.cancelled();
        }
    }
}
