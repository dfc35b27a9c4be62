//! Statements that clients have prepared, by what they say and not by who prepared them.
//!
//! Two clients that prepare the same text with the same types share one
//! statement, and a server prepares it once, under a name of ours. So clients
//! may change servers between transactions, and a server that has replaced
//! another is given what it lacks when it is needed.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::sql::{self, Traits};

/// Longest Parse that is kept to be said again, in bytes; a client with a longer one keeps its server.
pub const PARSE_BYTES_MAX: usize = 1 << 20;
/// Statements that one client may have prepared at a time.
pub const NAMES_MAX: usize = 10_000;
/// Statements on the shelf above which those that nobody has any more are put away.
const SHELF_MIN: usize = 1_000;
/// What names of ours begin with.
pub const NAME_PREFIX: &[u8] = b"tanist_";

/// One statement.
#[derive(Debug)]
pub struct Statement {
    /// Its number; 0 for one that only has the unnamed place.
    pub id: u64,
    /// Text, zero byte and types, as Parse carries them.
    pub tail: Box<[u8]>,
    /// What is known of the text.
    pub traits: Traits,
}

impl Statement {
    /// One that has no name on any server.
    #[must_use]
    pub fn unnamed(tail: &[u8], text: &[u8]) -> Arc<Statement> {
        Arc::new(Statement { id: 0, tail: tail.into(), traits: sql::look(text) })
    }

    /// Its name on servers.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        name_of(self.id)
    }

    /// What it is called where it is bound: its name on servers, or none.
    #[must_use]
    pub fn server_name(&self) -> Vec<u8> {
        if self.id == 0 { Vec::new() } else { self.name() }
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        wire::frame::cstr(&self.tail).map_or(b"", |(text, _)| text)
    }
}

/// The name of statement `id` on servers.
#[must_use]
pub fn name_of(id: u64) -> Vec<u8> {
    let mut name = NAME_PREFIX.to_vec();
    // 20 digits at most.
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut left = id;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
        if left == 0 {
            break;
        }
    }
    name.extend_from_slice(&digits[at..]);
    name
}

/// All statements with a number. One for all clients that share servers.
#[derive(Debug)]
pub struct Shelf {
    statements: BTreeMap<Box<[u8]>, Arc<Statement>>,
    next: u64,
    /// Between the numbers given out here: several shelves that share servers begin at different ones.
    step: u64,
    tidy_at: usize,
}

impl Shelf {
    /// An empty one, number `index` (from 0) of `of` that share servers.
    #[must_use]
    pub fn new(index: u64, of: u64) -> Shelf {
        Shelf { statements: BTreeMap::new(), next: index + 1, step: of.max(1), tidy_at: SHELF_MIN }
    }

    /// The statement whose text and types are `tail`.
    pub fn get(&mut self, tail: &[u8], text: &[u8]) -> Arc<Statement> {
        if let Some(found) = self.statements.get(tail) {
            return found.clone();
        }
        self.tidy();
        let statement = Arc::new(Statement { id: self.next, tail: tail.into(), traits: sql::look(text) });
        self.next += self.step;
        self.statements.insert(tail.into(), statement.clone());
        statement
    }

    /// All that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Statement>> {
        self.statements.values()
    }

    /// Statements that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.statements.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// Puts away what no client has any more, each time that twice as many are there.
    fn tidy(&mut self) {
        if self.statements.len() < self.tidy_at {
            return;
        }
        self.statements.retain(|_, s| Arc::strong_count(s) > 1);
        self.tidy_at = (2 * self.statements.len()).max(SHELF_MIN);
    }
}
