//! All checks, and the order in which they report.
//!
//! Each check is a function from the tree to findings: no file is opened
//! here, nothing is written, and one check never looks at another's findings.

mod blanks;
mod codes;
mod crates;
mod links;
mod notes;
mod purity;
mod shape;
mod words;

pub use blanks::cleaned;
pub use codes::{INDEX, index};

use crate::finding::Finding;
use crate::tree::Tree;

/// Every finding of every check, by file and line.
pub fn all(tree: &Tree) -> Vec<Finding> {
    let checks: [fn(&Tree) -> Vec<Finding>; 8] = [
        shape::check,
        crates::check,
        purity::check,
        words::check,
        codes::check,
        links::check,
        notes::check,
        blanks::check,
    ];
    let mut findings: Vec<Finding> = checks.iter().flat_map(|check| check(tree)).collect();
    findings.sort();
    findings
}

/// The lines of the findings of `check` over `files`, for tests.
#[cfg(test)]
fn report(check: fn(&Tree) -> Vec<Finding>, files: &[(&str, &str)]) -> String {
    let mut findings = check(&crate::tree::tree(files));
    findings.sort();
    findings.iter().map(|f| format!("{f}\n")).collect()
}

/// Asserts that `check` says something that contains `expected` about `files`, or nothing if that is empty.
#[cfg(test)]
#[track_caller]
fn expect(check: fn(&Tree) -> Vec<Finding>, files: &[(&str, &str)], expected: &str) {
    let found = report(check, files);
    assert_eq!(found.is_empty(), expected.is_empty(), "found: {found}");
    assert!(found.contains(expected), "found: {found}");
}
