//! The form of a release note, so that the changelog can be put together from them.

use crate::finding::Finding;
use crate::tree::{File, Tree};

const FOLDER: &str = "notes/unreleased/";
const HEADINGS: [&str; 3] = ["## What changed", "## Why it matters", "## What to do"];

/// Title and headings of every note.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let notes = tree.files.iter().filter(|f| f.path.starts_with(FOLDER) && !f.path.ends_with("/README.md"));
    notes
        .filter(|f| !is_note(f))
        .map(|f| {
            let text = format!("a note is `# title`, then {}", HEADINGS.map(|h| format!("`{h}`")).join(", "));
            Finding::new(&f.path, 1, text)
        })
        .collect()
}

fn is_note(file: &File) -> bool {
    let headings: Vec<&str> = file.text.lines().filter(|l| l.starts_with("## ")).map(str::trim_end).collect();
    file.path.ends_with(".md") && file.text.starts_with("# ") && headings == HEADINGS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::expect;

    #[test]
    fn notes_answer_three_questions() {
        let good = "# T\n\n## What changed\na\n## Why it matters\nb\n## What to do\nNothing.\n";
        expect(check, &[("notes/unreleased/a.md", good), ("notes/unreleased/README.md", "how")], "");
        expect(
            check,
            &[("notes/unreleased/a.md", "# T\n## What changed\n")],
            "notes/unreleased/a.md:1: a note is",
        );
        expect(check, &[("notes/unreleased/a.txt", good)], "a.txt:1: a note is");
    }
}
