//! One client, its session, and a server that is lost while it works.

use route::session::{Fate, Heard, Loss, Outcome, Step};
use route::{Backend, Out, Rules, Session, Shelf};
use wire::back::{self, Words};

use crate::pool::{new_backend, new_session};
use crate::server::{Server, Shared};

const READY_BYTES: usize = 6;

/// One request, and the rows whose fate its answer tells.
pub struct Step1 {
    pub bytes: Vec<u8>,
    pub rows: Vec<u64>,
    /// It is inside of a block, or ends it.
    pub block: bool,
}

/// How the first server goes.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// Messages that it works on before.
    pub worked: usize,
    /// It works on one more and says nothing of it.
    pub silently: bool,
    /// So much of what it sent arrives.
    pub arrives: usize,
    pub loss: Loss,
    /// It says that it gives up.
    pub words: bool,
    /// All requests are sent at once.
    pub pipelined: bool,
    /// Nobody can say what became of anything.
    pub amnesia: bool,
    /// Every commit's wait for the standbys is cut short.
    pub taints: bool,
    /// It says that it is a standby, and was promoted.
    pub promoted: bool,
}

impl Death {
    /// It ends its connection before it has worked on anything, and all that it has said arrives.
    pub fn ended() -> Death {
        Death {
            worked: 0,
            silently: false,
            arrives: usize::MAX,
            loss: Loss::Ended,
            words: false,
            pipelined: false,
            amnesia: false,
            taints: false,
            promoted: false,
        }
    }
}

pub struct World {
    session: Session,
    shelf: Shelf,
    pub shared: Shared,
    backend: Option<Backend>,
    server: Server,
    /// For the server, not worked on.
    to_server: Vec<u8>,
    from_server: Vec<u8>,
    pub heard: Vec<u8>,
    worked: usize,
    arrived: usize,
    pub death: Option<Death>,
    taints: bool,
    /// It has not said yet that it is no standby any more.
    promoted: bool,
    waiting: Vec<u8>,
    pub over: bool,
    asked: bool,
}

impl World {
    fn hand_on(&mut self, out: &mut Out, came_in: &[u8]) {
        out.to_client.slices(came_in).for_each(|bytes| self.heard.extend_from_slice(bytes));
        out.to_server.slices(came_in).for_each(|bytes| self.to_server.extend_from_slice(bytes));
        out.clear();
    }

    fn front(&mut self) {
        loop {
            let mut out = Out::default();
            let came_in = self.waiting.clone();
            let taken = self.session.front(&mut self.shelf, self.backend.as_mut(), &came_in, &mut out);
            self.waiting.drain(..taken.bytes);
            self.hand_on(&mut out, &came_in);
            match taken.step {
                Step::Link => {
                    assert!(self.backend.is_none());
                    let mut backend = new_backend();
                    if self.death.is_some_and(|death| death.promoted) {
                        backend.report(b"in_hot_standby", b"on");
                        self.promoted = true;
                    }
                    self.session.attach(&mut backend, &mut out);
                    self.hand_on(&mut out, &[]);
                    self.backend = Some(backend);
                }
                Step::More | Step::Whole(_) | Step::Wait => return,
                Step::End => panic!("ended"),
            }
        }
    }

    /// The client says this, and all that can be done is.
    pub fn goes_on(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
        for _ in 0..500 {
            self.front();
            if !self.works() || self.over {
                return;
            }
        }
    }

    /// One message to the server and all that it sends back; false if there is none.
    fn works(&mut self) -> bool {
        let death = self.death.filter(|death| self.worked == death.worked);
        if let Some(death) = death.filter(|d| !self.to_server.is_empty() || d.words) {
            self.dies(death);
            return true;
        }
        let bytes = std::mem::take(&mut self.to_server);
        let Some((n, _)) = first_of(&bytes) else { return false };
        self.to_server = bytes[n..].to_vec();
        self.server.taints = self.taints;
        self.server.take(&bytes[..n]);
        self.worked += 1;
        let mut sent = self.server.sent();
        if sent.len() >= READY_BYTES && sent[sent.len() - READY_BYTES] == back::READY && self.promoted {
            // It says so behind the first answer.
            self.promoted = false;
            let ready = sent.split_off(sent.len() - READY_BYTES);
            back::parameter_status(&mut sent, b"in_hot_standby", b"off");
            sent.extend(ready);
        }
        self.arrives(&sent);
        true
    }

    fn arrives(&mut self, sent: &[u8]) {
        let limit = self.death.map_or(usize::MAX, |death| death.arrives.saturating_sub(self.arrived));
        let n = sent.len().min(limit);
        self.arrived += n;
        self.from_server.extend_from_slice(&sent[..n]);
        let came_in = std::mem::take(&mut self.from_server);
        let mut out = Out::default();
        let Some(backend) = self.backend.as_mut() else { return };
        let (used, heard) = self.session.back(backend, &came_in, &mut out);
        self.from_server = came_in[used..].to_vec();
        self.hand_on(&mut out, &came_in);
        assert!(matches!(heard, Heard::More | Heard::Whole(_)), "{heard:?} {:?}", self.session);
    }

    fn dies(&mut self, death: Death) {
        if death.words {
            self.server.flush();
            let sent = self.server.sent();
            self.arrives(&sent);
        }
        self.death = None;
        if death.silently {
            let bytes = std::mem::take(&mut self.to_server);
            if let Some((n, _)) = first_of(&bytes) {
                self.server.take(&bytes[..n]);
                self.to_server = bytes[n..].to_vec();
            }
        }
        if death.loss == Loss::Silent && death.silently {
            // It may have gone on for long.
            let rest = std::mem::take(&mut self.to_server);
            self.server.take(&rest);
        }
        let mut words = Vec::new();
        Words::fatal("57P01", "terminating").put(&mut words);
        let last_words = death.words.then(|| &words[wire::frame::HEADER_BYTES..]);
        self.server = Server::new(&self.shared);
        self.to_server.clear();
        self.from_server.clear();
        self.backend = None;
        let mut out = Out::default();
        let mut outcome = self.session.lost(death.loss, last_words, &mut out);
        self.hand_on(&mut out, &[]);
        if let Outcome::Settle(xid) = outcome {
            self.asked = true;
            let fate = match self.shared.borrow().fates.get(&xid) {
                _ if death.amnesia => Fate::Unknown,
                Some(true) => Fate::Committed,
                Some(false) | None => Fate::NotCommitted,
            };
            outcome = self.session.settled(fate, &mut out);
            self.hand_on(&mut out, &[]);
        }
        match outcome {
            Outcome::Goes => {}
            Outcome::Again => {
                let again = self.session.take_again();
                assert!(!again.is_empty());
                self.waiting = [again, std::mem::take(&mut self.waiting)].concat();
            }
            Outcome::Settle(_) => panic!("settled twice"),
            Outcome::End => self.over = true,
        }
    }
}

fn first_of(bytes: &[u8]) -> Option<(usize, u8)> {
    let header = wire::frame::Header::read(bytes).expect("valid")?;
    let n = usize::try_from(header.bytes()).expect("small");
    (n <= bytes.len()).then_some((n, header.tag))
}

/// Runs a script in which the server dies.
pub fn lives(steps: &[Step1], rules: Rules, death: Death) -> World {
    let shared = Shared::default();
    let mut world = World {
        session: new_session(rules),
        shelf: Shelf::new(0, 1),
        server: Server::new(&shared),
        shared: shared.clone(),
        backend: None,
        to_server: Vec::new(),
        from_server: Vec::new(),
        heard: Vec::new(),
        worked: 0,
        arrived: 0,
        death: Some(death),
        taints: death.taints,
        promoted: false,
        waiting: Vec::new(),
        over: false,
        asked: false,
    };
    for (i, step) in steps.iter().enumerate() {
        if death.pipelined && i + 1 < steps.len() {
            world.waiting.extend_from_slice(&step.bytes);
            continue;
        }
        world.goes_on(&step.bytes);
        if world.over {
            break;
        }
    }
    if let Some(death) = world.death.filter(|death| death.arrives < usize::MAX && !world.over) {
        // It has done everything, and nothing more arrives.
        world.dies(death);
        world.goes_on(&[]);
    }
    world
}
