//! Blanks at the ends of lines and files: noise in every diff.

use crate::finding::Finding;
use crate::tree::{File, Tree};

const KINDS: [&str; 5] = [".rs", ".md", ".toml", ".sh", ".py"];

/// Trailing blanks, and a last line without an end.
pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.files.iter().filter(|f| is_text(f)).flat_map(blanks).collect()
}

/// The text of `file` without trailing blanks; `None` when it has none, or is not ours to clean.
pub fn cleaned(file: &File) -> Option<String> {
    let mut text: String = file.text.lines().flat_map(|line| [line.trim_end(), "\n"]).collect();
    text.truncate(text.trim_end().len());
    text.push('\n');
    (is_text(file) && text != file.text).then_some(text)
}

fn is_text(file: &File) -> bool {
    !file.text.is_empty() && (KINDS.iter().any(|k| file.path.ends_with(k)) || file.text.starts_with("#!"))
}

fn blanks(file: &File) -> Vec<Finding> {
    let trailing = file.text.lines().enumerate().filter(|(_, line)| line.trim_end() != *line);
    let mut findings: Vec<Finding> = trailing
        .map(|(i, _)| Finding::new(&file.path, i + 1, "trailing blanks: run `cargo xtask fix`"))
        .collect();
    if findings.is_empty() && cleaned(file).is_some() {
        let last = file.text.lines().count();
        findings.push(Finding::new(
            &file.path,
            last,
            "not exactly one line end at the end: run `cargo xtask fix`",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::expect;

    #[test]
    fn blanks_are_found_and_removed() {
        for (text, found) in [
            ("a\n", ""),
            ("a \nb\n", "a.md:1: trailing"),
            ("a", "a.md:1: not exactly"),
            ("a\n\n\n", "a.md:3"),
        ] {
            expect(check, &[("a.md", text)], found);
            let cleaned = cleaned(&File::new("a.md", text)).unwrap_or_else(|| text.to_owned());
            expect(check, &[("a.md", &cleaned)], "");
        }
        expect(check, &[("a.bin", "a ")], "");
    }
}
