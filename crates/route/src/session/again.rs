//! What is kept of the requests that are owed, so that they can be run again.
//!
//! Clients send the next request before they have read the end of the one
//! before, or many at once. So all of them are kept, in order, for as long as
//! all are short and whole; one that is over goes from the front.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::prepared::Statement;

/// Longest that is kept to be run again, in bytes.
pub const AGAIN_BYTES_MAX: usize = 16 << 10;

/// What a name of the client's stood for.
type Renamed = (Box<[u8]>, Option<Arc<Statement>>);

/// Where in what is kept a request ends, counted from the first byte that ever was kept.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    bytes: usize,
    renamed: usize,
}

/// The requests that are owed.
#[derive(Debug, Default)]
pub(super) struct Again {
    /// All of them are kept.
    keeps: bool,
    bytes: Vec<u8>,
    /// What names of the client's stood for before them, the newest change last.
    renamed: Vec<Renamed>,
    /// Ends of all but the last.
    ends: VecDeque<End>,
    /// What has gone from the front.
    gone: End,
}

impl Again {
    /// Nothing is owed; whether the requests that come now may be kept.
    pub fn begin(&mut self, keeps: bool) {
        self.rest();
        self.keeps = keeps;
        self.bytes.clear();
    }

    /// A request begins while others are owed.
    pub fn next(&mut self) {
        let bytes = self.gone.bytes + self.bytes.len();
        self.ends.push_back(End { bytes, renamed: self.gone.renamed + self.renamed.len() });
    }

    /// A message of the last request: `None` if it can't be said a second time.
    pub fn keep(&mut self, message: Option<&[u8]>) {
        let message = message.filter(|m| self.keeps && self.bytes.len() + m.len() <= AGAIN_BYTES_MAX);
        match message {
            Some(message) => self.bytes.extend_from_slice(message),
            None => {
                self.keeps = false;
                self.bytes.clear();
            }
        }
    }

    /// A name of the client's stood for `old` before the message that is kept.
    pub fn renames(&mut self, name: &[u8], old: Option<Arc<Statement>>) {
        if self.keeps {
            self.renamed.push((name.into(), old));
        }
    }

    /// The first request is over.
    pub fn over(&mut self) {
        // Mostly there is one at a time.
        if self.ends.is_empty() {
            self.bytes.clear();
            self.renamed.clear();
            return;
        }
        self.drop_first();
        self.keep_first_names();
        self.gone = self.ends.pop_front().unwrap_or_default();
    }

    /// Where the first request ends in what there is.
    fn first_end(&self) -> End {
        let all = End { bytes: self.bytes.len(), renamed: self.renamed.len() };
        // Where nothing is kept any more the ends say nothing.
        self.ends.front().map_or(all, |end| End {
            bytes: end.bytes.saturating_sub(self.gone.bytes).min(all.bytes),
            renamed: end.renamed.saturating_sub(self.gone.renamed).min(all.renamed),
        })
    }

    /// The first request has failed: those behind it have found the name as it was before.
    pub fn found(&mut self, name: &[u8], old: Option<&Arc<Statement>>) {
        let behind = self.first_end().renamed;
        let next = self.renamed.iter_mut().skip(behind).find(|(changed, _)| **changed == *name);
        if let Some((_, found)) = next {
            *found = old.cloned();
        }
    }

    /// What the first request has made of names stays.
    pub fn keep_first_names(&mut self) {
        self.renamed.drain(..self.first_end().renamed);
    }

    /// All but the first is run again.
    pub fn drop_first(&mut self) {
        self.bytes.drain(..self.first_end().bytes);
    }

    /// Nothing is owed any more; the bytes may still be taken.
    pub fn rest(&mut self) {
        self.renamed.clear();
        self.ends.clear();
        self.gone = End::default();
    }

    /// All that is kept.
    pub fn all(&self) -> &[u8] {
        &self.bytes
    }

    /// What is kept of the first request.
    pub fn first(&self) -> &[u8] {
        &self.bytes[..self.first_end().bytes]
    }

    /// What a name stood for before all of them, if one of them has changed that.
    pub fn before(&self, name: &[u8]) -> Option<Option<&Arc<Statement>>> {
        self.renamed.iter().find(|(changed, _)| **changed == *name).map(|(_, old)| old.as_ref())
    }

    /// The newest change of a name, which is forgotten.
    pub fn last_renamed(&mut self) -> Option<Renamed> {
        self.renamed.pop()
    }

    pub fn take(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_may_be() {
        let mut again = Again::default();
        again.begin(true);
        again.keep(Some(&[1; AGAIN_BYTES_MAX]));
        assert_eq!(again.all().len(), AGAIN_BYTES_MAX);
        again.keep(Some(&[2]));
        again.keep(Some(&[3]));
        assert!(again.all().is_empty(), "a part of what was said would be run again");
    }

    #[test]
    fn what_was_said_before_is_not_run_again() {
        let mut again = Again::default();
        again.begin(true);
        again.keep(Some(b"before"));
        again.renames(b"a", None);
        again.begin(true);
        again.keep(Some(b"now"));
        assert_eq!(again.all(), b"now");
        assert!(again.last_renamed().is_none());
    }
}
