//! A connection from a proxy to a server: bytes in order, late, or stuck on a link that is cut.
//!
//! A server's process that ends with everything read sends a FIN behind all that it had
//! said; with something unread, a reset. A host that loses its power sends nothing.

use std::collections::VecDeque;

use crate::clock::{Us, ms};
use crate::network::At;
use crate::world::{What, World};
use route::session::Loss;
use wire::frame::Header;

use super::Due;
use super::backend::Backend;
use super::pool::Who;

/// Between two tries to get something over a link that is cut: TCP sends it again.
const HELD: Us = ms(100);
/// A proxy gives a connection up that has been dark for so long (`login::USER_TIMEOUT`).
const USER_TIMEOUT: Us = ms(3000);
/// A server does (its `tcp_keepalives_*`, and what is unacknowledged sooner).
const SERVER_PATIENCE: Us = ms(12_000);

/// What goes from a proxy to a server.
#[derive(Clone, Debug)]
pub(super) enum Up {
    Bytes(Vec<u8>),
    /// The proxy has closed it.
    Fin,
}

/// What goes back.
#[derive(Clone, Debug)]
pub(super) enum Down {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// One connection, with both its ends.
#[derive(Debug)]
pub struct Conn {
    /// Whose.
    pub proxy: usize,
    /// To which server.
    pub at: At,
    /// What the proxy knows of it.
    pub known: route::Backend,
    /// The process at the other end.
    pub backend: Backend,
    /// Who has it.
    pub(super) user: Option<Who>,
    /// It can be used.
    pub(super) open: bool,
    up: VecDeque<(Us, Up)>,
    down: VecDeque<(Us, Down)>,
    /// Come in at the proxy, and not used yet.
    pub(super) came_in: Vec<u8>,
    /// The server's end is gone.
    pub ended: bool,
    /// The proxy's is.
    pub closed: bool,
    dark_since: Option<Us>,
    /// Questions for a transaction's number that were sent, and answers that came.
    pub(super) numbers: (u32, u32),
    /// Cancels under way.
    pub(super) cancels: u32,
}

impl Conn {
    /// One that is being opened.
    pub(super) fn new(proxy: usize, at: At) -> Conn {
        Conn {
            proxy,
            at,
            known: route::Backend::new(0, std::collections::BTreeMap::new(), PREPARED_MAX),
            backend: Backend::default(),
            user: None,
            open: false,
            up: VecDeque::new(),
            down: VecDeque::new(),
            came_in: Vec::new(),
            ended: false,
            closed: false,
            dark_since: None,
            numbers: (0, 0),
            cancels: 0,
        }
    }

    pub(super) fn describe(&self, id: u64) -> String {
        let word = |yes, word| if yes { word } else { "" };
        format!(
            "{id} to host {} of {:?}{}{}{}{}",
            self.at,
            self.user,
            word(self.open, " open"),
            word(self.ended, " ended"),
            word(self.closed, " closed"),
            word(self.backend.waits(), " committing"),
        )
    }

    /// The proxy's end is gone without a word.
    pub(super) fn vanish(&mut self) {
        self.closed = true;
        self.up.clear();
        self.user = None;
    }

    fn is_ending(&self) -> bool {
        self.down.iter().any(|(_, down)| matches!(down, Down::Fin | Down::Reset))
    }
}

/// Few, so that some are put away.
pub(super) const PREPARED_MAX: usize = 2;

impl World {
    /// Whether bytes get through between a proxy and a server.
    pub(super) fn is_lit(&self, proxy: usize, at: At) -> bool {
        let p = &self.front.proxies[proxy];
        let reaches = p.home.is_none_or(|home| self.network.connects(home, at));
        let powered = p.home.is_none_or(|home| self.hosts[home].up);
        self.hosts[at].up && powered && reaches && p.cut.get(&at).is_none_or(|cuts| *cuts == 0)
    }

    /// The proxy sends.
    pub(super) fn send_up(&mut self, id: u64, up: Up) {
        let delay = self.front_delay();
        let Some(conn) = self.front.conns.get_mut(&id) else { return };
        if let Up::Bytes(bytes) = &up {
            if bytes.is_empty() {
                return;
            }
            conn.numbers.0 += count(bytes, wire::front::FUNCTION_CALL);
        }
        let due = conn.up.back().map_or(0, |(at, _)| *at).max(self.now + delay);
        conn.up.push_back((due, up));
        self.at(due, What::Front(Box::new(Due::Up(id))));
    }

    /// The server's host sends.
    pub(super) fn send_down(&mut self, id: u64, down: Down) {
        let delay = self.front_delay();
        let Some(conn) = self.front.conns.get_mut(&id) else { return };
        if matches!(&down, Down::Bytes(bytes) if bytes.is_empty()) {
            return;
        }
        let due = conn.down.back().map_or(0, |(at, _)| *at).max(self.now + delay);
        conn.down.push_back((due, down));
        self.at(due, What::Front(Box::new(Due::Down(id))));
    }

    /// What is due at the server's host.
    pub(super) fn arrive_up(&mut self, id: u64) {
        while let Some(conn) = self.front.conns.get(&id) {
            if conn.up.front().is_none_or(|(due, _)| *due > self.now) {
                return;
            }
            if !self.is_lit(conn.proxy, conn.at) {
                return self.again_at_link(id, Due::Up(id));
            }
            let ending = conn.is_ending();
            let Some(conn) = self.front.conns.get_mut(&id) else { return };
            let Some((_, up)) = conn.up.pop_front() else { return };
            match up {
                // Nobody is there any more who could take it.
                Up::Bytes(_) if conn.ended && !ending => self.send_down(id, Down::Reset),
                Up::Bytes(_) if conn.ended => {}
                Up::Bytes(bytes) => {
                    conn.backend.input.extend(bytes);
                    self.work(id);
                }
                Up::Fin => {
                    conn.backend.hung_up = true;
                    self.work(id);
                }
            }
            self.forget_conn(id);
        }
    }

    /// What is due at the proxy.
    pub(super) fn arrive_down(&mut self, id: u64) {
        while let Some(conn) = self.front.conns.get(&id) {
            if conn.down.front().is_none_or(|(due, _)| *due > self.now) {
                return;
            }
            if !self.is_lit(conn.proxy, conn.at) {
                return self.again_at_link(id, Due::Down(id));
            }
            let Some(conn) = self.front.conns.get_mut(&id) else { return };
            let Some((_, down)) = conn.down.pop_front() else { return };
            match down {
                _ if conn.closed => {}
                Down::Bytes(bytes) => {
                    conn.numbers.1 += count(&bytes, wire::back::FUNCTION_RESULT);
                    conn.came_in.extend(bytes);
                    self.proxy_hears(id);
                }
                Down::Fin => self.conn_lost(id, Loss::Ended),
                Down::Reset => self.conn_lost(id, Loss::Silent),
            }
            self.forget_conn(id);
        }
    }

    /// Of a proxy that was paused or off nothing is taken, but kept: its host's kernel does that.
    fn again_at_link(&mut self, id: u64, due: Due) {
        let gone = self.front.conns.get(&id).is_none_or(|c| c.ended && c.closed);
        if !gone {
            self.after(HELD, What::Front(Box::new(due)));
        }
    }

    /// The proxy closes it.
    pub(super) fn close_conn(&mut self, id: u64) {
        let Some(conn) = self.front.conns.get_mut(&id) else { return };
        if std::mem::replace(&mut conn.closed, true) {
            return;
        }
        let proxy = conn.proxy;
        self.front.proxies[proxy].idle.retain(|idle| *idle != id);
        self.send_up(id, Up::Fin);
        self.forget_conn(id);
    }

    pub(super) fn forget_conn(&mut self, id: u64) {
        if self.front.conns.get(&id).is_some_and(|c| c.open && c.ended && c.closed && c.cancels == 0) {
            self.front.conns.remove(&id);
        }
    }

    /// What each end makes of a connection over which nothing comes.
    pub(super) fn look_for_dark(&mut self, proxy: usize) {
        let ids: Vec<u64> =
            self.front.conns.iter().filter(|(_, c)| c.proxy == proxy && c.open).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(conn) = self.front.conns.get(&id) else { continue };
            // A kernel that knows nothing of it answers a keep-alive with a reset.
            let unknown = conn.ended && !conn.is_ending() && !conn.closed;
            let unknown = unknown || conn.closed && conn.up.is_empty() && !conn.backend.hung_up;
            let lit = self.is_lit(proxy, conn.at);
            let Some(conn) = self.front.conns.get_mut(&id) else { continue };
            if lit && !unknown {
                conn.dark_since = None;
                continue;
            }
            let dark = self.now - *conn.dark_since.get_or_insert(self.now);
            let (closed, ended, waits) = (conn.closed, conn.ended, conn.backend.waits());
            if dark >= USER_TIMEOUT && !closed {
                self.mark("front: a connection went dark");
                self.conn_lost(id, Loss::Silent);
            }
            if dark >= SERVER_PATIENCE && !ended && !waits {
                self.end_backend(id, false);
            }
            self.forget_conn(id);
        }
    }
}

fn count(bytes: &[u8], tag: u8) -> u32 {
    let (mut rest, mut n) = (bytes, 0);
    while let Ok(Some(header)) = Header::read(rest) {
        n += u32::from(header.tag == tag);
        let end = usize::try_from(header.bytes()).unwrap_or(usize::MAX).min(rest.len());
        rest = &rest[end..];
    }
    n
}
