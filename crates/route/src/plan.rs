//! What is to be sent, without copying it: stretches of what came in, and bytes of our own between them.

use alloc::vec::Vec;
use core::ops::Range;

/// One stretch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Of the buffer that came in.
    Pass(Range<usize>),
    /// Of our own bytes.
    Made(Range<usize>),
}

/// What goes one way, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pieces: Vec<Piece>,
    own: Vec<u8>,
}

impl Plan {
    /// Whether nothing is to be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.own.clear();
    }

    /// Lets a stretch of what came in pass.
    #[inline]
    pub fn pass(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        match self.pieces.last_mut() {
            Some(Piece::Pass(last)) if last.end == range.start => last.end = range.end,
            _ => self.pieces.push(Piece::Pass(range)),
        }
    }

    /// Adds bytes of our own.
    pub fn make(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.own.len();
        write(&mut self.own);
        let range = start..self.own.len();
        match self.pieces.last_mut() {
            _ if range.is_empty() => {}
            Some(Piece::Made(last)) if last.end == range.start => last.end = range.end,
            _ => self.pieces.push(Piece::Made(range)),
        }
    }

    /// The stretches as bytes, given the buffer that the plan was made from.
    pub fn slices<'a>(&'a self, came_in: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.pieces.iter().map(move |piece| match piece {
            Piece::Pass(range) => &came_in[range.clone()],
            Piece::Made(range) => &self.own[range.clone()],
        })
    }

    /// The one stretch, if there is no more than one: the usual case, which needs no gathering.
    #[must_use]
    pub fn single<'a>(&'a self, came_in: &'a [u8]) -> Option<&'a [u8]> {
        match self.pieces.as_slice() {
            [Piece::Pass(range)] => Some(&came_in[range.clone()]),
            [Piece::Made(range)] => Some(&self.own[range.clone()]),
            _ => None,
        }
    }
}

/// What goes to either side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Out {
    /// To the client.
    pub to_client: Plan,
    /// To the server.
    pub to_server: Plan,
}

impl Out {
    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.to_client.clear();
        self.to_server.clear();
    }
}
