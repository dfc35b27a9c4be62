//! Whether the server that a client has got, or has had, will do for it.

use std::task::Context;

use wire::back::Words;

use super::{Client, End};
use crate::after::{self, Verdict};
use crate::facts::Count;
use crate::routing::Target;
use crate::server::Server;
use crate::waiter::Refusal;

impl Client {
    /// What came of waiting for a server.
    pub(super) fn linked(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let Some(got) = self.waiting.as_ref().and_then(|w| w.got.borrow_mut().take()) else {
            return Ok(false);
        };
        let waited = self.waiting.take().map(|w| w.since.elapsed()).unwrap_or_default();
        self.pool.totals.add_time(Count::WaitUs, waited);
        self.unread = true;
        match got {
            Ok(server) => self.link(cx, server)?,
            Err(refusal) => self.turned_down(cx, &refusal)?,
        }
        Ok(true)
    }

    fn turned_down(&mut self, cx: &mut Context<'_>, refusal: &Refusal) -> Result<(), End> {
        if refusal.ends {
            self.last_words(cx, &Words::fatal(&refusal.code, &refusal.message));
            return Err(End);
        }
        self.session.refuse(Words::error(&refusal.code, &refusal.message));
        Ok(())
    }

    /// Takes a server, as soon as it shows what this client must see.
    pub(super) fn link(&mut self, cx: &mut Context<'_>, server: Box<Server>) -> Result<(), End> {
        let after = match self.pool.key.target {
            Target::Primary => None,
            Target::Replica | Target::Any => self.session.settings().get(after::READ_AFTER),
        };
        let verdict = after.map_or(Verdict::Go, |text| after::check(&server, text));
        match verdict {
            Verdict::Go => self.attach(cx, server),
            Verdict::Wait(lsn) => {
                self.waiting = Some(after::begin(&self.reactor, server, lsn, &self.control));
                Ok(())
            }
        }
    }

    /// Whether its server led a term that is over: nothing more may reach it.
    pub(super) fn is_outlived(&self) -> bool {
        let term = || self.reactor.routing.borrow().term;
        self.server.as_ref().is_some_and(|s| s.led && s.backend.term != term())
    }
}
