//! What is known of one connection to a server, whoever uses it.
//!
//! Stays with the connection in its pool. Whoever gets it sees what it has
//! prepared, how it is set up, and in which term it was opened.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::routes::RanIn;
use crate::settings::Settings;

/// Statements that a server keeps prepared unless its pool says otherwise.
pub const PREPARED_MAX: usize = 200;

/// One connection to a server.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The term in which it was opened; 0 for a server that no cluster manages.
    pub term: u64,
    /// The timeline that its server writes on, as it said itself; 0 where it was not asked. A term that a proxy
    /// believes in may be over: only this tells in which a transaction ran.
    pub timeline: u32,
    /// What it reports of itself (ParameterStatus).
    pub reported: Arc<BTreeMap<String, String>>,
    on_standby: bool,
    /// What its present or last client has set.
    pub settings: Arc<Settings>,
    /// What was set in it before its first client came, and what RESET goes back to; `None`: nothing.
    pub base: Option<Arc<Settings>>,
    /// Whether it can be given to somebody else: false once something was left behind in it.
    pub clean: bool,
    /// The unnamed statement that it holds: the address of the client's, as no two live ones share it.
    pub(crate) unnamed: usize,
    prepared: BTreeMap<u64, u64>,
    prepared_max: usize,
    /// Prepared there and unknown here: to be closed before the next is prepared.
    stale: Vec<u64>,
    clock: u64,
}

impl Backend {
    /// One that was just opened.
    #[must_use]
    pub fn new(term: u64, reported: BTreeMap<String, String>, prepared_max: usize) -> Backend {
        Backend {
            term,
            timeline: 0,
            on_standby: says_standby(&reported),
            reported: Arc::new(reported),
            settings: Arc::default(),
            base: None,
            clean: true,
            unnamed: 0,
            prepared: BTreeMap::new(),
            prepared_max: prepared_max.max(1),
            stale: Vec::new(),
            clock: 0,
        }
    }

    /// Where what it runs now is run.
    #[must_use]
    pub fn ran_in(&self) -> RanIn {
        RanIn { term: self.term, timeline: self.timeline }
    }

    /// Whether statement `id` is prepared; marks it as just used.
    pub fn has(&mut self, id: u64) -> bool {
        self.clock += 1;
        let used = self.prepared.get_mut(&id);
        used.map(|used| *used = self.clock).is_some()
    }

    /// Statement `id` is about to be prepared. Gives those that must be closed before:
    /// what is there and can't be used any more, and, when it is full, the longest unused.
    pub fn make_room(&mut self, id: u64) -> Vec<u64> {
        self.clock += 1;
        let mut close = core::mem::take(&mut self.stale);
        let full = self.prepared.len() >= self.prepared_max;
        let oldest = || self.prepared.iter().min_by_key(|(_, used)| **used).map(|(id, _)| *id);
        if let Some(oldest) = if full { oldest() } else { None } {
            self.prepared.remove(&oldest);
            close.push(oldest);
        }
        self.prepared.insert(id, self.clock);
        close
    }

    /// Statement `id` is there, and can't be used any more.
    pub fn spoil(&mut self, id: u64) {
        self.prepared.remove(&id);
        if id != 0 && !self.stale.contains(&id) {
            self.stale.push(id);
        }
    }

    /// Statement `id` is not prepared any more, or never was.
    pub fn remove(&mut self, id: u64) {
        self.prepared.remove(&id);
    }

    /// Nothing is prepared any more.
    pub fn forget_prepared(&mut self) {
        self.prepared.clear();
        self.stale.clear();
        self.unnamed = 0;
    }

    /// How many statements are prepared.
    #[must_use]
    pub fn prepared(&self) -> usize {
        self.prepared.len()
    }

    /// It goes to another thread, where the address of an unnamed statement may be another's.
    pub fn moved(&mut self) {
        self.unnamed = 0;
    }

    /// It says what one of its settings is now.
    pub fn report(&mut self, name: &[u8], value: &[u8]) {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let name = text(name);
        let value = text(value);
        if self.reported.get(&name) != Some(&value) {
            let reported = Arc::make_mut(&mut self.reported);
            reported.insert(name, value);
            self.on_standby = says_standby(reported);
        }
    }

    /// Whether its server says that it is a standby (from PostgreSQL 14 on).
    #[must_use]
    pub fn on_standby(&self) -> bool {
        self.on_standby
    }
}

fn says_standby(reported: &BTreeMap<String, String>) -> bool {
    reported.get("in_hot_standby").is_some_and(|value| value == "on")
}
