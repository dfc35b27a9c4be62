//! One client after its login: bytes in, bytes out, a server when one is needed.
//!
//! Everything happens in one function that is called when something is ready, so
//! an idle client is a few hundred bytes and a waker. What goes where is `route`'s
//! to say; here it is only carried.

mod link;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use route::session::{Fate, Heard, Loss, Step};
use route::{Mode, Session};
use wire::back::Words;
use wire::frame::HEADER_BYTES;

use crate::cancel;
use crate::control::{Control, Order};
use crate::facts::{ClientFacts, Count};
use crate::line::Line;
use crate::pool::Pool;
use crate::reactor::Reactor;
use crate::server::Server;
use crate::waiter::{Held, Waiter};

mod lost;
mod orders;
pub(crate) mod serving;
mod sure;

/// Longest that last words may take to be sent.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(5);
/// PostgreSQL's own words (`ProcessInterrupts` in tcop/postgres.c).
const TOLD_TO_END: &str = "terminating connection due to administrator command";

/// One client.
pub struct Client {
    reactor: Rc<Reactor>,
    pool: Rc<Pool>,
    line: Line,
    session: Session,
    server: Option<Box<Server>>,
    waiting: Option<Rc<Waiter>>,
    settling: Option<Rc<RefCell<Option<Fate>>>>,
    control: Rc<Control>,
    facts: Rc<ClientFacts>,
    /// What has come in was not looked at since something changed.
    unread: bool,
    /// Its server has not been sent anything of its yet.
    fresh: bool,
    /// It goes as soon as it is between two transactions.
    leaving: bool,
    /// It is counted among those that have a transaction on the leader.
    busy: bool,
    /// Since when what it has said waits for a lease.
    unsure: Option<Instant>,
    /// It ends in order: whatever it asked for before is to be done.
    goodbye: bool,
    /// Its task is woken when it says something.
    listening: bool,
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(waiter) = &self.waiting {
            waiter.gone.set(true);
        }
        if self.busy {
            self.reactor.account(-1);
        }
    }
}

/// It is over.
struct End;

impl Client {
    /// One that has logged in; it may have sent more already.
    #[must_use]
    pub fn new(
        reactor: Rc<Reactor>,
        pool: Rc<Pool>,
        line: Line,
        session: Session,
        (control, facts): (Rc<Control>, Rc<ClientFacts>),
    ) -> Client {
        Client {
            reactor,
            pool,
            line,
            session,
            server: None,
            waiting: None,
            settling: None,
            control,
            facts,
            unread: true,
            fresh: false,
            leaving: false,
            busy: false,
            unsure: None,
            goodbye: false,
            listening: false,
        }
    }

    /// Gives the server back if nothing of this client's is in it; else it is closed. What runs there is stopped,
    /// unless the client has said good-bye behind it: then PostgreSQL would finish it as well.
    fn leave(&mut self) {
        let Some(server) = self.server.take() else { return };
        if self.session.is_between() && self.session.pins().is_empty() && server.cancels.get() == 0 {
            let pool = Rc::clone(&server.place.pool);
            if self.session.mode() == Mode::Session {
                tokio::task::spawn_local(pool.wash(server));
            } else {
                pool.give_back(server);
            }
        } else if self.session.is_busy() && (self.goodbye || !self.session.may_stop()) {
            tokio::task::spawn_local(server.finish());
        } else if self.session.is_busy() {
            cancel::send(server);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.control.wakes(cx.waker());
        let polled = loop {
            match self.turn(cx) {
                Ok(true) => {}
                Ok(false) => break Poll::Pending,
                Err(End) => break Poll::Ready(()),
            }
        };
        self.account();
        polled
    }

    /// Does what can be done now; whether anything was.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = !self.control.is_quiet() && self.obey(cx)?;
        if let Poll::Ready(Err(_)) = self.line.poll_drain(cx) {
            return Err(End);
        }
        moved |= self.settled(cx)?;
        moved |= self.linked(cx)?;
        moved |= self.hear_server(cx)?;
        let heard = self.hear_client(cx)?;
        if !heard && self.only_listens() {
            return Ok(false);
        }
        moved |= heard;
        if self.leaving && !moved && self.rests() {
            self.last_words(cx, &Words::fatal("57P01", TOLD_TO_END));
            return Err(End);
        }
        Ok(moved)
    }

    /// Whether it has nothing but a client that has just been listened to in vain: another turn would show the same.
    fn only_listens(&self) -> bool {
        let asks = self.waiting.is_some() || self.settling.is_some() || self.unread || self.leaving;
        self.server.is_none() && !asks && self.line.is_drained() && self.control.is_quiet()
    }

    /// Whether nothing of it is under way or waits.
    fn rests(&self) -> bool {
        let asks = self.waiting.is_some() || self.settling.is_some() || !self.line.input.filled().is_empty();
        self.session.is_between() && !asks
    }

    fn account(&mut self) {
        self.facts.note(self.reactor.now.get(), &self.pool, &self.session, self.server.as_deref());
        self.facts.waits.set(self.waiting.as_ref().map(|w| w.since).or(self.unsure));
        self.facts.prepared.set(self.session.prepared());
        let busy = self.server.as_ref().is_some_and(|s| s.led) && !self.session.is_between();
        if busy != self.busy {
            self.busy = busy;
            self.reactor.account(if busy { 1 } else { -1 });
        }
    }

    /// Says something of ours, mostly the last.
    #[cold]
    fn last_words(&mut self, cx: &mut Context<'_>, words: &Words<'_>) {
        let mut bytes = Vec::new();
        words.put(&mut bytes);
        let _ = self.line.say(cx, &bytes);
    }

    fn attach(&mut self, cx: &mut Context<'_>, mut server: Box<Server>) -> Result<(), End> {
        let reactor = self.reactor.clone();
        let mut out = reactor.out.borrow_mut();
        out.clear();
        self.session.attach(&mut server.backend, &mut out);
        self.line.send(cx, &out.to_client, &[]).map_err(|_| End)?;
        let sent = server.line.send(cx, &out.to_server, &[]);
        drop(out);
        self.pool.totals.add(Count::Assignments, 1);
        self.server = Some(server);
        self.fresh = true;
        if sent.is_err() {
            self.lose(cx, Loss::Silent, None)?;
        }
        Ok(())
    }

    fn hear_server(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let Some(server) = self.server.as_mut() else { return Ok(false) };
        if let Poll::Ready(Err(_)) = server.line.poll_drain(cx) {
            // It may have said why before it went.
            let heard = self.read_server(cx)?;
            return if heard { Ok(true) } else { self.lose(cx, Loss::Silent, None).map(|()| true) };
        }
        if !self.line.is_drained() {
            return Ok(false);
        }
        self.read_server(cx)
    }

    fn read_server(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let Some(server) = self.server.as_mut() else { return Ok(false) };
        match server.line.poll_fill(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => self.lose(cx, Loss::Ended, None).map(|()| true),
            Poll::Ready(Err(why)) => {
                // On the same host nothing is lost on the way: what came before a reset was read.
                let all_read = server.is_local && why.kind() == io::ErrorKind::ConnectionReset;
                let loss = if all_read { Loss::Ended } else { Loss::Silent };
                self.lose(cx, loss, None).map(|()| true)
            }
            Poll::Ready(Ok(_)) => self.take_from_server(cx).map(|()| true),
        }
    }

    fn take_from_server(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let reactor = self.reactor.clone();
        let Some(server) = self.server.as_mut() else { return Ok(()) };
        let mut out = reactor.out.borrow_mut();
        out.clear();
        let came_in = server.line.input.filled();
        let (bytes, heard) = self.session.back(&mut server.backend, came_in, &mut out);
        let to_client = self.line.send(cx, &out.to_client, came_in);
        let last_words = match heard {
            Heard::Fatal(n) => Some(came_in[bytes + HEADER_BYTES..bytes + n].to_vec()),
            Heard::More | Heard::Whole(_) | Heard::Broken | Heard::Unfit | Heard::End => None,
        };
        server.line.input.consume(bytes);
        self.pool.totals.add(Count::Sent, bytes as u64);
        let to_server = server.line.send(cx, &out.to_server, &[]);
        drop(out);
        to_client.map_err(|_| End)?;
        server.line.whole = if let Heard::Whole(n) = heard { n } else { 0 };
        // A client that waited for the server's word may go on.
        self.unread |= !self.line.input.filled().is_empty();
        match heard {
            Heard::Fatal(_) => self.lose(cx, Loss::Ended, last_words.as_deref()),
            Heard::Broken => {
                self.server = None;
                self.last_words(
                    cx,
                    &Words::fatal("08P01", "the server says what it can't: the connection was closed"),
                );
                Err(End)
            }
            Heard::End => {
                self.server = None;
                Err(End)
            }
            Heard::Unfit => {
                self.server = None;
                self.unread = true;
                Ok(())
            }
            Heard::More | Heard::Whole(_) if to_server.is_err() => self.lose(cx, Loss::Silent, None),
            Heard::More | Heard::Whole(_) => {
                self.release();
                Ok(())
            }
        }
    }

    /// Gives the server back if it is not needed any more.
    fn release(&mut self) {
        let idle =
            |s: &Server| s.line.is_drained() && s.line.input.filled().is_empty() && s.cancels.get() == 0;
        if !self.fresh
            && self.server.as_deref().is_some_and(idle)
            && self.session.is_free()
            && let Some(server) = self.server.take()
        {
            // Of its own pool, or of those who write: a reader may have been sent to the leader.
            Rc::clone(&server.place.pool).give_back(server);
        }
    }

    /// Whether the client must be kept waiting before its next transaction: the leader is about to change.
    fn is_held(&self) -> bool {
        let routing = self.reactor.routing.borrow();
        self.server.is_some()
            && self.session.is_between()
            && (routing.holds(self.pool.wants.get()) || self.pool.paused.get())
    }

    fn hear_client(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.settling.is_some() || self.waiting.is_some() || !self.line.is_drained() {
            return Ok(false);
        }
        if self.is_held() {
            // Whoever has not sent anything yet need not keep it.
            self.fresh = false;
            self.release();
            self.unread |= self.server.is_none();
            return Ok(self.server.is_none());
        }
        if self.is_outlived() {
            // What is under way may still be answered; nothing else is.
            return if self.session.is_busy() {
                Ok(false)
            } else {
                self.lose(cx, Loss::Silent, None).map(|()| true)
            };
        }
        // A cancel that comes too late must not meet its next request either.
        let late = |s: &Server| s.cancels.get() > 0 && !self.session.is_busy();
        if self.server.as_ref().is_some_and(|s| !s.line.is_drained() || late(s)) {
            return Ok(false);
        }
        self.release();
        let mut moved = std::mem::take(&mut self.unread) && !self.line.input.filled().is_empty();
        if !moved {
            match self.line.poll_news(cx, &mut self.listening) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(0) | Err(_)) => return Err(End),
                Poll::Ready(Ok(_)) => moved = true,
            }
        }
        // After it came in, and before any of it goes on.
        if self.server.is_some() && !self.is_sure(cx)? {
            return Ok(false);
        }
        self.take_from_client(cx)?;
        Ok(moved && self.unsure.is_none())
    }

    fn take_from_client(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        // Whoever comes with a whole statement gets a server at once.
        let asks = self.server.is_none() && self.session.asks_for_server(self.line.input.filled());
        if asks && !self.is_linked(cx)? {
            return Ok(());
        }
        loop {
            let (step, sent) = self.feed(cx)?;
            if sent.is_err() {
                // What it has said before it went is read on the next turn.
                if !self.read_server(cx)? && self.server.is_some() {
                    self.lose(cx, Loss::Silent, None)?;
                }
                return Ok(());
            }
            self.line.whole = 0;
            if step != Step::Link {
                self.unsure = None;
            }
            match step {
                Step::More => return Ok(()),
                Step::Whole(n) => {
                    self.line.whole = n;
                    return Ok(());
                }
                // Looked at again when the server has spoken.
                Step::Wait => return Ok(()),
                Step::End => {
                    self.goodbye = true;
                    return Err(End);
                }
                Step::Link => {}
            }
            if !self.is_linked(cx)? {
                return Ok(());
            }
        }
    }

    /// Gives it a server, if there is one for it now.
    fn is_linked(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if !self.is_sure(cx)? {
            return Ok(false);
        }
        match self.pool.try_get() {
            Some(server) => self.link(cx, server)?,
            None => return self.wait().map(|()| false),
        }
        if self.waiting.is_some() {
            self.line.input.park();
        }
        Ok(self.waiting.is_none())
    }

    fn wait(&mut self) -> Result<(), End> {
        let hold = &self.reactor.config.hold;
        if self.pool.counts().2 >= hold.clients_max {
            self.refuse("53300", "too many clients wait for a connection to a server");
            return Ok(());
        }
        let said = self.line.input.filled().len();
        let Some(held) = Held::take(&self.reactor.threads, said, hold.bytes_max) else {
            self.refuse(
                "53200",
                "the statements that wait for a connection to a server take too much memory",
            );
            return Ok(());
        };
        self.line.input.park();
        let waiter = self.pool.wait(&self.control);
        waiter.held.replace(Some(held));
        self.waiting = Some(waiter);
        Ok(())
    }

    #[cold]
    fn refuse(&mut self, code: &str, message: &str) {
        self.session.refuse(Words::error(code, message));
        self.unread = true;
        self.control.give(Order::Look);
    }

    fn feed(&mut self, cx: &mut Context<'_>) -> Result<(Step, io::Result<()>), End> {
        let reactor = self.reactor.clone();
        let mut out = reactor.out.borrow_mut();
        out.clear();
        let mut shelf = reactor.shelf.borrow_mut();
        let came_in = self.line.input.filled();
        let backend = self.server.as_mut().map(|s| &mut s.backend);
        let taken = self.session.front(&mut shelf, backend, came_in, &mut out);
        let sent = match self.server.as_mut() {
            Some(server) => {
                self.fresh &= out.to_server.is_empty() && out.to_client.is_empty();
                server.line.send(cx, &out.to_server, came_in)
            }
            None => Ok(()),
        };
        self.line.input.consume(taken.bytes);
        self.pool.totals.add(Count::Received, taken.bytes as u64);
        self.line.send(cx, &out.to_client, &[]).map_err(|_| End)?;
        Ok((taken.step, sent))
    }
}
