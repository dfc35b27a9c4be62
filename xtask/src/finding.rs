//! One broken rule, in one line: where, what, and what to do about it.

use std::fmt;

/// A broken rule at a place. Printed as `file:line: what: do what`, the form that editors jump to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Path from the root of the checkout.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong, a colon, what to do.
    pub text: String,
}

impl Finding {
    /// A finding at `line` (from 1) of `path`.
    pub fn new(path: &str, line: usize, text: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}
