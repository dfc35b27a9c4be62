//! Whether what a client has said may go to the leader: strictly, only while it surely leads.

use std::task::Context;

use route::session::Loss;

use super::{Client, End};

impl Client {
    /// Whether what it has said may go on now; else it waits for a lease.
    pub(super) fn is_sure(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.must_wait() {
            return self.wait_until_sure(cx).map(|()| false);
        }
        self.unsure = None;
        Ok(true)
    }

    /// Whether it needs a lease that there is not: before it is given a server, and at the leader's.
    fn must_wait(&self) -> bool {
        if !self.pool.strict.get() {
            return false;
        }
        let term = match &self.server {
            Some(server) if server.led => server.backend.term,
            Some(_) => return false,
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
    fn wait_until_sure(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let since = self.reactor.strict.wait(self.facts.id, &self.control, self.unsure);
        self.unread = true;
        self.unsure = Some(since);
        let limit = self.reactor.config.hold.timeout;
        if since.elapsed() < limit {
            return Ok(());
        }
        self.unsure = None;
        if !self.session.is_between() {
            return self.lose(cx, Loss::Silent, None);
        }
        // Nothing of it is there: others may be served with it once there is a lease.
        self.fresh = false;
        self.release();
        self.lose(cx, Loss::Silent, None)?;
        let seconds = limit.as_secs_f64();
        self.refuse("57P03", &format!("for {seconds} s nobody could confirm that the leader still leads"));
        Ok(())
    }
}
