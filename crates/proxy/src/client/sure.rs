//! Whether what a client has said may go to the leader: strictly, only while it surely leads.

use std::task::Context;

use route::session::Loss;
use wire::back::Words;

use super::{Client, End};
use crate::routing::Target;

impl Client {
    /// Whether what it has said may go on now; else it waits for a lease.
    pub(super) fn is_sure(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.must_wait() {
            return self.wait_until_sure(cx).map(|()| false);
        }
        self.unsure = None;
        Ok(true)
    }

    /// Whether it needs a lease that there is not: at the leader's, and before it is given a server to write.
    fn must_wait(&self) -> bool {
        if !self.pool.strict.get() {
            return false;
        }
        let term = match &self.server {
            Some(server) if server.led => server.backend.term,
            Some(_) => return false,
            None if self.pool.key.target != Target::Primary => return false,
            None => {
                let routing = self.reactor.routing.borrow();
                // Where nobody leads it stands in the queue, like everybody.
                if routing.holds(self.pool.wants.get()) {
                    return false;
                }
                routing.term
            }
        };
        !self.reactor.strict.covers(term)
    }

    /// What it has said stays where it is until there is a lease, for as long as anything may be held.
    #[cold]
    fn wait_until_sure(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let (limit, most) = (self.reactor.config.hold.timeout, self.reactor.config.hold.clients_max);
        if self.unsure.is_none() && self.server.is_none() && self.reactor.strict.count() >= most {
            self.refuse("53300", "too many clients wait until somebody confirms that the leader leads");
            return Ok(());
        }
        let since = self.reactor.strict.wait(self.facts.id, &self.control, self.unsure);
        self.unread = true;
        self.unsure = Some(since);
        // What it has sent before is answered first: that is not given up for what follows.
        if since.elapsed() < limit || self.session.is_busy() {
            return Ok(());
        }
        self.unsure = None;
        if !self.session.is_between() {
            return self.lose(cx, Loss::Silent, None);
        }
        // Others may have its server, unless something of its own is there.
        self.fresh = false;
        self.release();
        let seconds = limit.as_secs_f64();
        let why = format!("for {seconds} s nobody could confirm that the leader still leads");
        if self.server.is_some() {
            self.last_words(cx, &Words::fatal("57P03", &why));
            return Err(End);
        }
        self.refuse("57P03", &why);
        Ok(())
    }
}
