//! Finds out what became of a COMMIT whose answer was lost (`proxy::settle`, call for call).

use route::routes::{self, RanIn};
use route::session::{BARRIER, Fate};
use wire::back;
use wire::frame::{HEADER_BYTES, Header};

use crate::clock::{Us, ms};
use crate::mutation::Env;
use crate::world::{What, World};

use super::Due;
use super::conn::Up;
use super::pool::{HOLD_LIMIT, Who};

/// Between two looks, while the transaction is still under way (`settle::LOOK_AGAIN`).
const LOOK_AGAIN: Us = ms(20);

/// What is being found out.
#[derive(Clone, Debug)]
pub struct Settling {
    ran_in: RanIn,
    xid: u64,
    end: Us,
    /// The barrier is proven; now its status is asked for.
    proven: bool,
    failed: bool,
    said: Option<String>,
}

impl Settling {
    pub(super) fn new(ran_in: RanIn, xid: u64, now: Us) -> Settling {
        Settling { ran_in, xid, end: now + HOLD_LIMIT, proven: false, failed: false, said: None }
    }
}

impl World {
    /// Begins to ask, or asks again.
    pub(super) fn ask_fate(&mut self, app: usize) {
        let Some(settling) = &self.front.apps[app].settling else { return };
        if self.is(Env::AgainUnproven) {
            return self.settled(app, Fate::NotCommitted);
        }
        if self.now >= settling.end {
            return self.fate_unknown(app, "it took too long");
        }
        let proxy = self.front.apps[app].proxy;
        match self.try_get(proxy) {
            Some(id) => self.fate_server(app, id),
            None => self.wait_in_queue(proxy, Who::Fate(app)),
        }
    }

    pub(super) fn fate_unknown(&mut self, app: usize, why: &'static str) {
        self.front.apps[app].loss.unsettled = Some(why);
        self.settled(app, Fate::Unknown);
    }

    /// It has got a connection to the leader.
    pub(super) fn fate_server(&mut self, app: usize, id: u64) {
        let proxy = self.front.apps[app].proxy;
        let Some(settling) = self.front.apps[app].settling.as_mut() else { return self.give_back(id) };
        (settling.proven, settling.failed, settling.said) = (false, false, None);
        let (ran_in, xid) = (settling.ran_in, settling.xid);
        let openings = &self.front.proxies[proxy].merged.openings;
        let asks = self.front.conns.get(&id).map_or(0, |c| c.known.timeline);
        let Some(mut fate) = routes::fate_of(openings, ran_in, xid, asks) else {
            self.give_back(id);
            return self.after(LOOK_AGAIN, What::Front(Box::new(Due::LookAgain(app))));
        };
        if self.is(Env::XidCompared) && fate == routes::Fate::NotCommitted {
            fate = routes::Fate::AskXactStatus;
        }
        match fate {
            routes::Fate::NotCommitted => {
                self.give_back(id);
                self.settled(app, Fate::NotCommitted);
            }
            routes::Fate::Unknown => {
                self.give_back(id);
                self.fate_unknown(app, "no opening tells");
            }
            routes::Fate::AskXactStatus => {
                if let Some(conn) = self.front.conns.get_mut(&id) {
                    conn.user = Some(Who::Fate(app));
                }
                let text = if self.is(Env::StatusUnproven) { "BEGIN; COMMIT" } else { BARRIER };
                self.ask_server(id, text);
            }
        }
    }

    fn ask_server(&mut self, id: u64, text: &str) {
        let mut bytes = Vec::new();
        wire::front::query(&mut bytes, text.as_bytes());
        self.send_up(id, Up::Bytes(bytes));
    }

    /// The leader has answered, or a part of it.
    pub(super) fn fate_hears(&mut self, app: usize, id: u64) {
        loop {
            let super::Front { apps, conns, .. } = &mut self.front;
            let (Some(settling), Some(conn)) = (apps[app].settling.as_mut(), conns.get_mut(&id)) else {
                return;
            };
            let Ok(Some(header)) = Header::read(&conn.came_in) else { return };
            let Some(body) = header.body(&conn.came_in).map(<[u8]>::to_vec) else { return };
            conn.came_in.drain(..HEADER_BYTES + body.len());
            match header.tag {
                back::ERROR => settling.failed = true,
                back::NOTICE if back::field(&body, b'R') == Some(b"SyncRepWaitForLSN") => {
                    settling.failed = true
                }
                back::DATA_ROW => {
                    let value = back::values(&body).next().flatten();
                    settling.said = value.map(|v| String::from_utf8_lossy(v).into_owned());
                }
                back::READY => return self.fate_answered(app, id),
                _ => {}
            }
        }
    }

    fn fate_answered(&mut self, app: usize, id: u64) {
        let Some(settling) = self.front.apps[app].settling.as_mut() else { return };
        if settling.failed {
            self.close_conn(id);
            return self.fate_lost(app);
        }
        if !std::mem::replace(&mut settling.proven, true) {
            let question = format!("SELECT pg_catalog.txid_status({})", settling.xid);
            settling.said = None;
            return self.ask_server(id, &question);
        }
        let said = settling.said.take();
        self.give_back(id);
        match said.as_deref() {
            Some("committed") => self.settled(app, Fate::Committed),
            Some("aborted") => self.settled(app, Fate::NotCommitted),
            Some(_) => self.after(LOOK_AGAIN, What::Front(Box::new(Due::LookAgain(app)))),
            None => self.fate_unknown(app, "too old"),
        }
    }

    /// The server that was asked went as well.
    pub(super) fn fate_lost(&mut self, app: usize) {
        self.after(LOOK_AGAIN, What::Front(Box::new(Due::LookAgain(app))));
    }
}
