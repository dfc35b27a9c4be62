//! What a client's server left undone when it went, and what is done about it.

use std::task::Context;

use route::routes::RanIn;
use route::session::{Loss, Outcome};

use super::{Client, End};
use crate::settle;

impl Client {
    /// What came of asking for the fate of a commit.
    pub(super) fn settled(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let Some(fate) = self.settling.as_ref().and_then(|s| s.borrow_mut().take()) else { return Ok(false) };
        self.settling = None;
        let reactor = self.reactor.clone();
        let mut out = reactor.out.borrow_mut();
        out.clear();
        let outcome = self.session.settled(fate, &mut out);
        self.line.send(cx, &out.to_client, &[]).map_err(|_| End)?;
        drop(out);
        self.after_loss(outcome, RanIn::default(), cx)?;
        Ok(true)
    }

    /// Its server is gone.
    #[cold]
    pub(super) fn lose(
        &mut self,
        cx: &mut Context<'_>,
        loss: Loss,
        last_words: Option<&[u8]>,
    ) -> Result<(), End> {
        let Some(server) = self.server.take() else { return Ok(()) };
        // Whatever waited for a lease at that server is answered otherwise.
        self.unsure = None;
        let ran_in = server.backend.ran_in();
        drop(server);
        let reactor = self.reactor.clone();
        let mut out = reactor.out.borrow_mut();
        out.clear();
        let outcome = self.session.lost(loss, last_words, &mut out);
        self.line.send(cx, &out.to_client, &[]).map_err(|_| End)?;
        drop(out);
        self.after_loss(outcome, ran_in, cx)
    }

    fn after_loss(&mut self, outcome: Outcome, ran_in: RanIn, cx: &mut Context<'_>) -> Result<(), End> {
        self.unread = true;
        match outcome {
            Outcome::Goes => Ok(()),
            Outcome::End => {
                let _ = self.line.poll_drain(cx);
                Err(End)
            }
            Outcome::Again => {
                let again = self.session.take_again();
                self.line.input.prepend(&again);
                Ok(())
            }
            Outcome::Settle(xid) => {
                self.settling = Some(settle::begin(&self.pool, ran_in, xid, &self.control));
                Ok(())
            }
        }
    }
}
