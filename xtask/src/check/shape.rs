//! The shape of a file: it opens with its purpose, and it fits a reader's head.
//!
//! The project's two places where a monster usually grows, the crate of words
//! and the controller, have tighter limits of their own.

use crate::finding::Finding;
use crate::functions::functions;
use crate::source::{Rust, line_of};
use crate::tree::{File, Tree};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
/// Lines of the crate of words, tests not counted; a good third of them are the docstrings that every public
/// word has, which the first figure of 2,000 had not foreseen.
const CLUSTER_LINES_MAX: usize = 3_650;
/// Lines of the machine around `decide`, tests not counted.
const CONTROLLER: &str = "crates/failover/src/controller.rs";
const CONTROLLER_LINES_MAX: usize = 300;

/// Headers, sizes and budgets.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|f| is_program(f)) {
        findings.extend(size(file));
        findings.extend(shell(file));
    }
    for (file, rust) in tree.rust() {
        findings.extend(header(file));
        findings.extend(function_sizes(file, rust));
    }
    findings.extend(budget(tree, "crates/cluster/src/", CLUSTER_LINES_MAX));
    findings.extend(budget(tree, CONTROLLER, CONTROLLER_LINES_MAX));
    findings
}

fn is_program(file: &File) -> bool {
    [".rs", ".sh", ".py"].iter().any(|e| file.path.ends_with(e)) || file.text.starts_with("#!")
}

fn header(file: &File) -> Option<Finding> {
    let first = file.text.lines().next().unwrap_or_default();
    let says = first.strip_prefix("//!").unwrap_or_default().trim();
    (says.is_empty() || says.starts_with("Placeholder")).then(|| {
        Finding::new(
            &file.path,
            1,
            "no header: open with `//!`: what it is, why it is so, what it never does",
        )
    })
}

fn size(file: &File) -> Option<Finding> {
    let lines = file.text.lines().count();
    (lines > FILE_LINES_MAX).then(|| {
        let text = format!("{lines} lines, at most {FILE_LINES_MAX}: split it by the questions it answers");
        Finding::new(&file.path, FILE_LINES_MAX + 1, text)
    })
}

fn shell(file: &File) -> Option<Finding> {
    let first = file.text.lines().next().unwrap_or_default();
    let careful = file.text.lines().any(|line| line == "set -euo pipefail");
    (first.starts_with("#!") && first.contains("sh") && !careful).then(|| {
        Finding::new(&file.path, 1, "a script that runs on after a failure: add `set -euo pipefail`")
    })
}

fn function_sizes(file: &File, rust: &Rust) -> Vec<Finding> {
    let long = functions(rust).into_iter().filter(|f| f.length > FUNCTION_LINES_MAX);
    long.map(|f| {
        let text = format!(
            "function {} has {} lines, at most {FUNCTION_LINES_MAX}: parents branch, children compute",
            f.name, f.length
        );
        Finding::new(&file.path, f.line, text)
    })
    .collect()
}

/// A limit on the lines under `prefix`, test modules not counted.
fn budget(tree: &Tree, prefix: &str, lines_max: usize) -> Option<Finding> {
    let lines: usize =
        tree.rust().filter(|(f, _)| f.path.starts_with(prefix)).map(|(f, r)| code_lines(f, r)).sum();
    (lines > lines_max).then(|| {
        let text =
            format!("{lines} lines without tests, a budget of {lines_max}: move out what has a better home");
        Finding::new(prefix, 1, text)
    })
}

fn code_lines(file: &File, rust: &Rust) -> usize {
    let tests = rust.test_modules().into_iter();
    let test_lines: usize =
        tests.map(|(from, to)| line_of(&rust.code, to) - line_of(&rust.code, from) + 1).sum();
    file.text.lines().count() - test_lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::expect;

    #[test]
    fn every_file_opens_with_its_purpose() {
        expect(check, &[("a.rs", "//! Does this.\nfn f() {}\n")], "");
        expect(check, &[("a.rs", "fn f() {}\n")], "a.rs:1: no header");
        expect(check, &[("a.rs", "")], "a.rs:1: no header");
        expect(check, &[("a.rs", "//!\n")], "a.rs:1: no header");
        expect(check, &[("a.rs", "//! Placeholder.\n")], "a.rs:1: no header");
    }

    #[test]
    fn files_fit_a_head() {
        let text = |lines: usize| format!("//! A.\n{}", "\n".repeat(lines - 1));
        expect(check, &[("a.rs", &text(500))], "");
        expect(check, &[("a.rs", &text(501))], "a.rs:501: 501 lines, at most 500");
        expect(check, &[("a.py", &text(501))], "a.py:501");
        expect(check, &[("a.md", &text(501))], "");
    }

    #[test]
    fn functions_fit_a_screen() {
        let text = |lines: usize| format!("//! A.\n\nfn long() {{{}}}\n", "\n".repeat(lines - 1));
        expect(check, &[("a.rs", &text(70))], "");
        expect(check, &[("a.rs", &text(71))], "a.rs:3: function long has 71 lines, at most 70");
    }

    #[test]
    fn budgets_leave_tests_out() {
        let lines = |n: usize| "//! A.\n".repeat(n);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(50));
        expect(check, &[(CONTROLLER, &(lines(300) + &tests))], "");
        expect(check, &[(CONTROLLER, &(lines(301) + &tests))], "301 lines without tests, a budget of 300");
        let four: Vec<String> = (0..5).map(|i| format!("crates/cluster/src/{i}.rs")).collect();
        let text = lines(731);
        let files: Vec<(&str, &str)> = four.iter().map(|p| (p.as_str(), text.as_str())).collect();
        expect(check, &files, "crates/cluster/src/:1: 3655 lines");
    }

    #[test]
    fn scripts_stop_at_the_first_failure() {
        expect(check, &[("a", "#!/usr/bin/env bash\nset -euo pipefail\n")], "");
        expect(check, &[("a", "#!/usr/bin/env bash\nls\n")], "a:1: a script that runs on");
        expect(check, &[("a", "#!/usr/bin/env python3\n")], "");
    }
}
