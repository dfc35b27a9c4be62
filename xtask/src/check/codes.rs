//! Error codes and their pages: what an operator reads at night.
//!
//! Every `TANnnnn` that the program may say has a page under `errors/` with
//! three headings, every page belongs to a code, and the index lists them all
//! (`cargo xtask fix` writes it).

use std::collections::BTreeMap;

use crate::finding::Finding;
use crate::source::{line_of, words};
use crate::tree::{File, Tree};

/// The list of all pages.
pub const INDEX: &str = "errors/README.md";
const HEADINGS: [&str; 3] = ["What happened", "Why", "What to do"];
/// Where each hundred of codes comes from.
const RANGES: [(&str, &str); 8] = [
    ("TAN00", "Usage, configuration, command line"),
    ("TAN01", "Refusals of the cluster state"),
    ("TAN02", "Store and consensus"),
    ("TAN03", "Peers"),
    ("TAN04", "PostgreSQL"),
    ("TAN05", "Guard"),
    ("TAN06", "Agent and API"),
    ("TAN07", "Stage, drill, demo"),
];

/// Codes without a page, pages without a code, pages without their headings, and a stale index.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let said = said(tree);
    let mut findings = Vec::new();
    for (code, (path, line)) in &said {
        if tree.get(&page_path(code)).is_none() {
            let text = format!("{code} has no page: write {}", page_path(code));
            findings.push(Finding::new(path, *line, text));
        }
    }
    for (file, code) in pages(tree) {
        findings.extend(page(file, code));
        if !said.contains_key(code) {
            findings.push(Finding::new(
                &file.path,
                1,
                format!("no code says {code}: remove the page, or use the code"),
            ));
        }
    }
    if tree.get(INDEX).map_or("", |f| &f.text) != index(tree) {
        findings.push(Finding::new(INDEX, 1, "the index is not that of the pages: run `cargo xtask fix`"));
    }
    findings
}

/// The index of all pages, as it should be.
pub fn index(tree: &Tree) -> String {
    let pages = pages(tree);
    let mut text = String::from(
        "# Error codes\n\nWhat happened, why, and what to do. Written by `cargo xtask fix` from the pages.\n",
    );
    for (prefix, title) in RANGES {
        let mut rows = pages.iter().filter(|(_, code)| code.starts_with(prefix)).peekable();
        if rows.peek().is_some() {
            text += &format!("\n## {title}\n\n");
        }
        for (file, code) in rows {
            text += &format!("- [{code}]({code}.md): {}\n", title_of(file, code));
        }
    }
    text
}

/// Every code in the program's own words, with one place where it is said.
fn said(tree: &Tree) -> BTreeMap<String, (String, usize)> {
    let mut said = BTreeMap::new();
    for (file, rust) in tree.rust().filter(|(f, _)| f.path.starts_with("crates/")) {
        for (at, _) in rust.spoken.match_indices("TAN") {
            if let Some(code) = rust.spoken.get(at..at + 7).filter(|c| is_code(c)) {
                let place = (file.path.clone(), line_of(&rust.spoken, at));
                said.entry(code.to_owned()).or_insert(place);
            }
        }
    }
    said
}

fn is_code(text: &str) -> bool {
    text.strip_prefix("TAN").is_some_and(|n| n.len() == 4 && n.bytes().all(|b| b.is_ascii_digit()))
}

fn page_path(code: &str) -> String {
    format!("errors/{code}.md")
}

fn pages(tree: &Tree) -> Vec<(&File, &str)> {
    let code_of = |f: &'_ File| is_code(f.path.strip_prefix("errors/")?.strip_suffix(".md")?).then_some(());
    tree.files.iter().filter(|f| code_of(f).is_some()).map(|f| (f, &f.path[7..14])).collect()
}

fn page(file: &File, code: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let first = file.text.lines().next().unwrap_or_default();
    if !first.starts_with("# ") || words(first, code).next().is_none() || title_of(file, code).is_empty() {
        findings.push(Finding::new(
            &file.path,
            1,
            format!("no title: open with `# {code}: what happened, in few words`"),
        ));
    }
    let headings: Vec<&str> = file
        .text
        .lines()
        .filter(|l| l.starts_with("## "))
        .map(|l| l.trim_start_matches('#').trim())
        .collect();
    if headings != HEADINGS {
        let text = format!(
            "the headings of an error page are: {}",
            HEADINGS.map(|h| format!("`## {h}`")).join(", ")
        );
        findings.push(Finding::new(&file.path, 1, text));
    }
    findings
}

fn title_of<'a>(file: &'a File, code: &str) -> &'a str {
    let first = file.text.lines().next().unwrap_or_default();
    first.trim_start_matches("# ").trim_start_matches(code).trim_start_matches([':', ' ', '—', '-']).trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::expect;

    const CODE: (&str, &str) =
        ("crates/a/src/error.rs", "//! TAN0999 is no code.\n#[error(\"TAN0201: no\")]\n");
    const PAGE: &str = "# TAN0201: the disk is full\n\n## What happened\n\n## Why\n\n## What to do\n";

    #[track_caller]
    fn page(text: &str, expected: &str) {
        let index = index(&crate::tree::tree(&[("errors/TAN0201.md", text)]));
        expect(check, &[CODE, ("errors/TAN0201.md", text), (INDEX, &index)], expected);
    }

    #[test]
    fn every_code_has_a_page() {
        page(PAGE, "");
        expect(check, &[CODE], "crates/a/src/error.rs:2: TAN0201 has no page: write errors/TAN0201.md");
    }

    #[test]
    fn every_page_has_a_code() {
        let index = index(&crate::tree::tree(&[("errors/TAN0201.md", PAGE)]));
        expect(check, &[("errors/TAN0201.md", PAGE), (INDEX, &index)], "TAN0201.md:1: no code says TAN0201");
    }

    #[test]
    fn a_page_answers_three_questions() {
        page("# TAN0201: x\n## Why\n## What to do\n", "the headings of an error page are");
        page("# TAN0201\n\n## What happened\n## Why\n## What to do\n", "no title: open with `# TAN0201");
        page("# TAN0202: x\n\n## What happened\n## Why\n## What to do\n", "no title");
    }

    #[test]
    fn the_index_follows_the_pages() {
        let index = index(&crate::tree::tree(&[("errors/TAN0201.md", PAGE)]));
        assert!(
            index.contains("## Store and consensus\n\n- [TAN0201](TAN0201.md): the disk is full\n"),
            "{index}"
        );
        expect(check, &[CODE, ("errors/TAN0201.md", PAGE)], "errors/README.md:1: the index");
    }
}
