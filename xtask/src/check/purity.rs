//! What thinks never touches; and where memory safety may be given up.
//!
//! `no_std` lets the compiler refuse clocks, sockets and threads. `consensus`
//! can't have it, since the Raft library below it uses std, so there the words
//! themselves are refused. `unsafe` has one home, where the guard calls the
//! kernel; everything else can be read without that worry.

use crate::edges::THINKING;
use crate::finding::Finding;
use crate::source::Rust;
use crate::tree::{File, Tree};

/// The one file that may hold `unsafe`.
const UNSAFE_HOME: &str = "crates/postgres/src/guard/sys.rs";
const WORLDLY: [&str; 4] = ["net", "fs", "time", "thread"];

/// Attributes of the thinking crates, the world in `consensus`, `unsafe` anywhere.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, rust) in tree.rust() {
        let crate_name = file.crate_name().unwrap_or_default();
        if THINKING.contains(&crate_name) {
            findings.extend(attributes(file, rust));
            findings.extend(std_brought_back(file, rust));
        }
        if crate_name == "consensus" {
            findings.extend(world(file, rust));
        }
        if file.path != UNSAFE_HOME {
            let text = format!("unsafe outside {UNSAFE_HOME}: use a safe wrapper, or put it there");
            findings.extend(
                rust.words("unsafe").map(|at| Finding::new(&file.path, rust.line_of(at), text.clone())),
            );
        }
    }
    findings
}

fn attributes(file: &File, rust: &Rust) -> Vec<Finding> {
    if !file.path.ends_with("/src/lib.rs") {
        return Vec::new();
    }
    let required = ["#![no_std]", "#![forbid(unsafe_code)]"];
    let missing = required.iter().filter(|a| !rust.code.lines().any(|line| line.trim() == **a));
    missing.map(|a| Finding::new(&file.path, 1, format!("a crate that thinks: declare `{a}`"))).collect()
}

/// `extern crate std` would undo `no_std`; a test may have it.
fn std_brought_back(file: &File, rust: &Rust) -> Vec<Finding> {
    let tests = rust.test_modules();
    let in_test = |at: usize| {
        let cfg_before = rust.code[..at].trim_end().ends_with("#[cfg(test)]");
        cfg_before
            || tests.iter().any(|(from, to)| (*from..*to).contains(&at))
            || !file.path.contains("/src/")
    };
    let found = rust.code.match_indices("extern crate std").filter(|(at, _)| !in_test(*at));
    found
        .map(|(at, _)| {
            Finding::new(&file.path, rust.line_of(at), "std in a crate that thinks: use core and alloc")
        })
        .collect()
}

fn world(file: &File, rust: &Rust) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, path) in rust.code.match_indices("std::") {
        let names = names_after(&rust.code[at + path.len()..]);
        for name in names.into_iter().filter(|n| WORLDLY.contains(&n.as_str())) {
            let text = format!("std::{name} in consensus: hand the effect out, or the moment in");
            findings.push(Finding::new(&file.path, rust.line_of(at), text));
        }
    }
    findings
}

/// The names right after `std::`: one, or those at the top of a `{…}` group.
fn names_after(rest: &str) -> Vec<String> {
    if !rest.starts_with('{') {
        return vec![first_name(rest)];
    }
    let mut names = Vec::new();
    let mut depth = 0;
    for (i, c) in rest.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            break;
        }
        if depth == 1 && matches!(c, '{' | ',') {
            names.push(first_name(rest[i + 1..].trim_start()));
        }
    }
    names
}

fn first_name(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::expect;

    const PURE: &str = "#![no_std]\n#![forbid(unsafe_code)]\n";

    #[test]
    fn thinking_crates_say_so() {
        expect(check, &[("crates/failover/src/lib.rs", PURE)], "");
        expect(check, &[("crates/failover/src/lib.rs", "#![no_std]\n")], "declare `#![forbid(unsafe_code)]`");
        expect(
            check,
            &[("crates/failover/src/lib.rs", "// #![no_std]\n#![forbid(unsafe_code)]")],
            "declare `#![no_std]`",
        );
        expect(check, &[("crates/agent/src/lib.rs", ""), ("crates/failover/src/lease.rs", "")], "");
    }

    #[test]
    fn std_does_not_come_back_by_another_door() {
        let path = "crates/failover/src/lease.rs";
        expect(check, &[(path, "extern crate std;")], "lease.rs:1: std in a crate that thinks");
        expect(check, &[(path, "#[cfg(test)]\nextern crate std;")], "");
        expect(check, &[(path, "#[cfg(test)]\nmod tests { extern crate std; }")], "");
    }

    #[test]
    fn consensus_has_no_world() {
        let path = "crates/consensus/src/lib.rs";
        expect(check, &[(path, "use std::collections::HashMap;\nuse core::time::Duration;")], "");
        expect(check, &[(path, "\nlet t = std::time::Instant::now();")], "lib.rs:2: std::time in consensus");
        expect(check, &[(path, "use std::{fmt, net::{IpAddr}};")], "std::net in consensus");
        expect(check, &[(path, "use std::{collections::{fs, time}, fmt};")], "");
        expect(check, &[("crates/store/src/lib.rs", "use std::fs;")], "");
    }

    #[test]
    fn unsafe_has_one_home() {
        expect(check, &[(UNSAFE_HOME, "unsafe { }")], "");
        expect(check, &[("crates/postgres/src/guard/mod.rs", "\nunsafe { }")], "mod.rs:2: unsafe outside");
        expect(check, &[("crates/agent/src/lib.rs", "#![forbid(unsafe_code)] // no unsafe")], "");
    }
}
