//! Documents name only files that exist.
//!
//! Documents drift unless something holds them. Links are followed from the
//! file that makes them; a path in backquotes that begins with one of our
//! folders is taken from the root. The changelog may name what is gone.

use crate::finding::Finding;
use crate::source::line_of;
use crate::tree::{File, Tree};

const HISTORY: &str = "CHANGELOG.md";
const FOLDERS: [&str; 10] = [
    "crates/",
    "docs/",
    "errors/",
    "xtask/",
    "tools/",
    "scenarios/",
    "bench/",
    "notes/",
    "packaging/",
    ".ci/",
];

/// Links and paths in every document.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let documents = tree.ending(".md").filter(|f| f.path != HISTORY);
    documents.flat_map(|file| document(tree, file)).collect()
}

fn document(tree: &Tree, file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, target) in links(&file.text) {
        let path = resolve(&file.path, target);
        if !path.as_deref().is_some_and(|p| tree.exists(p)) {
            let text = format!("a link to {target}, which is not there: repair or remove it");
            findings.push(Finding::new(&file.path, line_of(&file.text, at), text));
        }
    }
    for (at, path) in quoted(&file.text).filter(|(_, p)| is_path(p)) {
        if !tree.exists(path) {
            let text = format!("{path} is named here but is not there: name what exists");
            findings.push(Finding::new(&file.path, line_of(&file.text, at), text));
        }
    }
    findings
}

/// Targets of `[text](target)` inside the checkout, without their anchors.
fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices("](").filter_map(|(at, _)| {
        let rest = &text[at + 2..];
        let target = &rest[..rest.find([')', '\n', ' '])?];
        let outside = target.contains("://") || target.starts_with("mailto:") || target.starts_with('#');
        let target = target.split('#').next().unwrap_or_default();
        (!outside && !target.is_empty()).then_some((at, target))
    })
}

/// What stands in backquotes on one line, outside of fenced blocks.
fn quoted(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    let mut start = 0;
    let lines = text.split_inclusive('\n').map(move |line| {
        let at = start;
        start += line.len();
        (at, line)
    });
    let prose = lines.filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fence && !fenced
    });
    prose.flat_map(|(at, line)| line.split('`').skip(1).step_by(2).map(move |quote| (at, quote)))
}

/// Whether a quote is one path of ours: no blank, no pattern, no placeholder.
fn is_path(quote: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    FOLDERS.iter().any(|f| quote.starts_with(f)) && quote.chars().all(plain) && !quote.contains("nnnn")
}

/// `target` as seen from the folder of `from`; `None` when it leaves the checkout.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::expect;

    #[track_caller]
    fn doc(text: &str, expected: &str) {
        expect(
            check,
            &[("docs/a.md", text), ("docs/b.md", ""), ("crates/x/src/lib.rs", ""), ("README.md", "")],
            expected,
        );
    }

    #[test]
    fn links_lead_somewhere() {
        doc("[b](b.md) [r](../README.md#top) [x](../crates/x/) [w](https://a.b/c) [t](#t)", "");
        doc("\n[b](c.md)", "docs/a.md:2: a link to c.md, which is not there");
        doc("[b](../../b.md)", "which is not there");
    }

    #[test]
    fn paths_in_quotes_are_there() {
        doc("`crates/x/src/lib.rs`, `crates/x/`, `docs/b.md`", "");
        doc(
            "`errors/TANnnnn.md`, `notes/unreleased/*.md`, `crates/{a,b}`, `bench/<name>`, `cargo run x/y`",
            "",
        );
        doc("a\n\n`crates/y/src/lib.rs`", "docs/a.md:3: crates/y/src/lib.rs is named here but is not there");
        doc("```text\n`crates/y`\n```\n", "");
    }
}
