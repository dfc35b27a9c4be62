//! Words that may not reach the tree: unfinished work, sleeping tests, and
//! paths or servers that exist on one machine only.
//!
//! The words are put together from halves here, or this file would find itself.

use crate::finding::Finding;
use crate::functions::functions;
use crate::source::{Rust, line_of, words};
use crate::tree::{File, Tree};

/// Code that was meant to be replaced, and what to do instead.
const UNFINISHED: [(&str, &str); 4] = [
    ("todo!", "unfinished: finish it, or refuse with an error that says so"),
    ("unimplemented!", "unfinished: finish it, or refuse with an error that says so"),
    ("dbg!", "a debugging aid: remove it, or log at debug level"),
    ("#[ignore", "a test that never runs: repair it, or remove it and say why"),
];
const FIX_ME: &str = concat!("FIX", "ME");
/// Text that only means something on one machine or in one house.
const LOCAL: [(&str, &str); 7] = [
    (concat!("/wo", "rk/"), "a path of one machine: name it from the root of the checkout"),
    (concat!("/ro", "ot/"), "a path of one machine: name it from the root of the checkout"),
    (concat!("/ho", "me/"), "a path of one machine: name it from the root of the checkout"),
    (concat!("artif", "actory"), "a private package server: nobody else can reach it"),
    (concat!("index", "-url"), "a private package server: nobody else can reach it"),
    (concat!("replace", "-with"), "a private package server: nobody else can reach it"),
    (concat!("[regis", "tries"), "a private package server: nobody else can reach it"),
];
/// A test waits for a condition, and only in functions of this name.
const WAITS: &str = "wait_until";

/// Banned words in code, banned paths in everything.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings: Vec<Finding> = tree.files.iter().flat_map(local).collect();
    for (file, rust) in tree.rust() {
        findings.extend(unfinished(file, rust));
        findings.extend(sleeps(file, rust));
    }
    findings
}

fn unfinished(file: &File, rust: &Rust) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (word, text) in UNFINISHED {
        for (at, _) in rust.code.match_indices(word).filter(|(at, _)| starts_a_word(&rust.code, *at)) {
            findings.push(Finding::new(&file.path, rust.line_of(at), text));
        }
    }
    let marks = words(&file.text, FIX_ME);
    findings.extend(marks.map(|at| {
        Finding::new(&file.path, line_of(&file.text, at), "a known fault: repair it, or open an issue")
    }));
    findings
}

fn starts_a_word(code: &str, at: usize) -> bool {
    !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn local(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (word, text) in LOCAL {
        findings.extend(
            file.text
                .match_indices(word)
                .map(|(at, _)| Finding::new(&file.path, line_of(&file.text, at), text)),
        );
    }
    findings
}

/// Calls of `sleep` in tests. A test that sleeps is slow when all is well and wrong when the machine is busy.
fn sleeps(file: &File, rust: &Rust) -> Vec<Finding> {
    let modules = rust.test_modules();
    let whole = file.path.contains("/tests/");
    let waits: Vec<(usize, usize)> =
        functions(rust).into_iter().filter(|f| f.name.starts_with(WAITS)).map(|f| f.extent).collect();
    let within =
        |places: &[(usize, usize)], at: usize| places.iter().any(|(from, to)| (*from..*to).contains(&at));
    let calls = rust.words("sleep").filter(|at| rust.code[at + "sleep".len()..].starts_with('('));
    calls
        .filter(|at| (whole || within(&modules, *at)) && !within(&waits, *at))
        .map(|at| {
            let text = format!("a test that sleeps: wait for the condition, in a function `{WAITS}…`");
            Finding::new(&file.path, rust.line_of(at), text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::expect;

    #[test]
    fn unfinished_work_stays_out() {
        expect(check, &[("a.rs", "fn f() { \"todo!\"; my_todo!(); } // todo!()\n")], "");
        for (word, _) in UNFINISHED {
            expect(check, &[("a.rs", &format!("\n{word}()"))], "a.rs:2: ");
        }
        expect(check, &[("a.rs", &format!("// {FIX_ME}: later"))], "a.rs:1: a known fault");
    }

    #[test]
    fn no_file_knows_the_machine_it_was_written_on() {
        for (word, _) in LOCAL {
            expect(check, &[("a.md", &format!("see\n{word}x"))], "a.md:2: a p");
        }
        expect(check, &[("a.md", "see docs/style.md")], "");
    }

    #[test]
    fn tests_wait_for_conditions() {
        let path = "crates/a/tests/e2e.rs";
        expect(check, &[(path, "fn t() {\n std::thread::sleep(d); }")], "e2e.rs:2: a test that sleeps");
        expect(check, &[(path, "async fn t() { tokio::time::sleep(d).await }")], "a test that sleeps");
        expect(check, &[(path, "fn wait_until_open() { loop { sleep(d); } }")], "");
        expect(check, &[(path, "fn t() { sql(\"select pg_sleep(1)\"); }")], "");
        expect(check, &[("crates/a/src/b.rs", "fn t() { sleep(d); }")], "");
        expect(
            check,
            &[("crates/a/src/b.rs", "#[cfg(test)] mod tests { fn t() { sleep(d); } }")],
            "a test that sleeps",
        );
    }
}
