//! The tracked files, read once, so that every check is a pure function of them.
//!
//! Checks take a `Tree` and return findings; tests hand in a tree of three
//! lines. Untracked files are not looked at: half-written work is nobody's
//! business until it is added.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::source::Rust;

/// One tracked file.
pub struct File {
    /// Path from the root, with `/`.
    pub path: String,
    /// Its text; empty when it is not UTF-8.
    pub text: String,
    /// The same with literals and comments blanked, for `.rs` files.
    pub rust: Option<Rust>,
}

impl File {
    /// Reads `text` as the content of `path`.
    pub fn new(path: &str, text: &str) -> File {
        let rust = path.ends_with(".rs").then(|| Rust::read(text));
        File { path: path.to_owned(), text: text.to_owned(), rust }
    }

    /// The crate under `crates/` to which this file belongs.
    pub fn crate_name(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split_once('/').map(|(name, _)| name)
    }
}

/// All tracked files, sorted by path.
pub struct Tree {
    /// The files.
    pub files: Vec<File>,
    directories: BTreeSet<String>,
}

impl Tree {
    /// Reads every file that git tracks below `root`.
    ///
    /// # Errors
    /// When git cannot list them, or a file cannot be read.
    pub fn load(root: &Path) -> anyhow::Result<Tree> {
        let listed = git(root, &["ls-files", "-z"])?;
        let mut files = Vec::new();
        for path in listed.split('\0').filter(|p| !p.is_empty()) {
            let full = root.join(path);
            // Removed but not yet committed, or a link to a folder: nothing to read.
            if full.is_file() {
                let bytes = std::fs::read(&full).with_context(|| format!("reading {path}"))?;
                files.push(File::new(path, &String::from_utf8(bytes).unwrap_or_default()));
            }
        }
        Ok(Tree::of(files))
    }

    /// A tree of the given files.
    pub fn of(mut files: Vec<File>) -> Tree {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut directories = BTreeSet::from([String::new()]);
        for file in &files {
            let parents = file.path.match_indices('/').map(|(at, _)| file.path[..at].to_owned());
            directories.extend(parents);
        }
        Tree { files, directories }
    }

    /// The file at `path`.
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.binary_search_by(|f| f.path.as_str().cmp(path)).ok().map(|i| &self.files[i])
    }

    /// Whether `path` names a tracked file, or a folder that holds one.
    pub fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.get(path).is_some() || self.directories.contains(path)
    }

    /// The Rust files with their blanked texts.
    pub fn rust(&self) -> impl Iterator<Item = (&File, &Rust)> {
        self.files.iter().filter_map(|f| f.rust.as_ref().map(|r| (f, r)))
    }

    /// The files whose name ends with `ending`.
    pub fn ending<'a>(&'a self, ending: &'a str) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(move |f| f.path.ends_with(ending))
    }
}

/// The root of the checkout in which the command was given.
///
/// # Errors
/// When this is no checkout.
pub fn root() -> anyhow::Result<PathBuf> {
    Ok(PathBuf::from(git(Path::new("."), &["rev-parse", "--show-toplevel"])?.trim_end()))
}

fn git(directory: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    // A checkout may belong to somebody else, as in CI or under sudo; we only read its index.
    let mut command = Command::new("git");
    command.current_dir(directory).args(["-c", "safe.directory=*"]).args(arguments);
    let output = command.output().context("starting git")?;
    ensure!(
        output.status.success(),
        "git {} failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8(output.stdout).context("git printed a path that is not UTF-8")
}

/// A tree for tests: pairs of path and text.
#[cfg(test)]
pub fn tree(files: &[(&str, &str)]) -> Tree {
    Tree::of(files.iter().map(|(path, text)| File::new(path, text)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_knows_files_and_their_folders() {
        let t = tree(&[("b/c/d.md", ""), ("a.rs", "fn f() {}")]);
        assert!(t.exists("b/c/d.md") && t.exists("b/c") && t.exists("b/") && t.exists(""));
        assert!(!t.exists("b/c/d") && !t.exists("c"));
        assert_eq!(t.rust().count(), 1);
    }

    #[test]
    fn a_file_knows_its_crate() {
        assert_eq!(File::new("crates/store/src/lib.rs", "").crate_name(), Some("store"));
        assert_eq!(File::new("xtask/src/main.rs", "").crate_name(), None);
    }
}
