//! Writes what a machine may write. A human reads the diff.
//!
//! Never touches meaning: format, trailing blanks, and the index of the error
//! pages, which is only a list of what is there.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::check;
use crate::tree::Tree;

/// Formats, cleans and re-lists below `root`, and says what it wrote.
///
/// # Errors
/// When a file cannot be read or written, or rustfmt refuses a file.
pub fn fix(root: &Path) -> anyhow::Result<()> {
    let format = Command::new("cargo")
        .current_dir(root)
        .args(["fmt", "--all"])
        .status()
        .context("starting cargo fmt")?;
    ensure!(format.success(), "cargo fmt failed: repair what it printed, then run this again");
    let tree = Tree::load(root)?;
    for file in &tree.files {
        if let Some(text) = check::cleaned(file) {
            write(root, &file.path, &text)?;
        }
    }
    let index = check::index(&tree);
    if tree.get(check::INDEX).map(|f| f.text.as_str()) != Some(index.as_str()) {
        write(root, check::INDEX, &index)?;
    }
    Ok(())
}

fn write(root: &Path, path: &str, text: &str) -> anyhow::Result<()> {
    std::fs::write(root.join(path), text).with_context(|| format!("writing {path}"))?;
    println!("fix: rewrote {path}");
    Ok(())
}
