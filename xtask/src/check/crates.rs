//! What a Cargo.toml may say: known arrows, and versions in one place only.
//!
//! The root Cargo.toml gives every dependency a version and half a line of
//! reason; a crate only names what it uses. `anyhow` belongs to the edges of
//! the program, where an error is shown and no longer matched on. A dependency
//! that no file of the crate names is a cost without a use.

use toml::{Table, Value};

use crate::edges::allowed;
use crate::finding::Finding;
use crate::source::words;
use crate::tree::{File, Tree};

const ROOT: &str = "Cargo.toml";
const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
/// Crates that show errors to people, and so may drop their types.
const ANYHOW: [&str; 2] = ["cli", "xtask"];
const LOCK_SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Edges, versions, reasons, unused dependencies, and where the lock file fetches from.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ours = |name: &str| name == "xtask" || tree.exists(&format!("crates/{name}/Cargo.toml"));
    for file in tree.ending(ROOT) {
        match file.text.parse::<Table>() {
            Err(error) => findings.push(Finding::new(&file.path, 1, format!("no TOML: {}", error.message()))),
            Ok(_) if file.path == ROOT => findings.extend(reasons(file)),
            // A package by itself, such as other people's drivers that are tried: nothing of ours depends on it.
            Ok(table) if table.contains_key("workspace") => {}
            Ok(table) => findings.extend(manifest(tree, file, &table, &ours)),
        }
    }
    findings.extend(tree.ending("Cargo.lock").flat_map(lock));
    findings
}

fn manifest(tree: &Tree, file: &File, table: &Table, ours: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let name = file.path.rsplit('/').nth(1).unwrap_or_default();
    let Some(edges) = allowed(name) else {
        let text = format!("crate {name} is not in xtask/src/edges.rs: decide there what it may use");
        return vec![Finding::new(&file.path, 1, text)];
    };
    let mut findings = Vec::new();
    let sections = SECTIONS.iter().filter_map(|s| table.get(*s)?.as_table());
    for (dependency, value) in sections.flatten() {
        let line = line_naming(file, dependency);
        let complaints = [
            (!inherits(value)).then(|| {
                "its own version of a dependency: write `workspace = true`, the version goes to the root"
                    .to_owned()
            }),
            (ours(dependency) && !edges.contains(&dependency.as_str()))
                .then(|| format!("{name} may not use {dependency}: the arrows are in xtask/src/edges.rs")),
            (dependency == "anyhow" && !ANYHOW.contains(&name))
                .then(|| "anyhow below the edge of the program: use a `thiserror` enum".to_owned()),
            (!is_used(tree, name, dependency)).then(|| format!("{dependency} is not used: remove it")),
        ];
        findings.extend(complaints.into_iter().flatten().map(|text| Finding::new(&file.path, line, text)));
    }
    findings
}

fn inherits(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

/// Whether any Rust file of the crate names `dependency`.
fn is_used(tree: &Tree, name: &str, dependency: &str) -> bool {
    let folder = if name == "xtask" { "xtask/".to_owned() } else { format!("crates/{name}/") };
    let word = dependency.replace('-', "_");
    tree.rust().any(|(f, rust)| f.path.starts_with(&folder) && words(&rust.code, &word).next().is_some())
}

/// Each line under `[workspace.dependencies]` that fetches something says why.
fn reasons(file: &File) -> Vec<Finding> {
    let mut inside = false;
    let mut findings = Vec::new();
    for (i, line) in file.text.lines().enumerate() {
        if line.starts_with('[') {
            inside = line.trim_end() == "[workspace.dependencies]";
        }
        let entry = inside && line.contains('=') && !line.starts_with('#') && !line.contains("path =");
        let reason = line.rsplit_once(" # ").is_some_and(|(_, why)| !why.trim().is_empty());
        if entry && !reason {
            findings.push(Finding::new(
                &file.path,
                i + 1,
                "a dependency without a reason: add `# why` to its line",
            ));
        }
    }
    findings
}

fn lock(file: &File) -> Vec<Finding> {
    let strange = |line: &str| line.starts_with("source = ") && !line.contains(LOCK_SOURCE);
    let lines = file.text.lines().enumerate().filter(|(_, line)| strange(line));
    lines
        .map(|(i, _)| {
            Finding::new(
                &file.path,
                i + 1,
                "fetched from somewhere else than crates.io: nobody else can build that",
            )
        })
        .collect()
}

fn line_naming(file: &File, dependency: &str) -> usize {
    let names =
        |line: &str| line.strip_prefix(dependency).is_some_and(|rest| rest.starts_with(['.', ' ', '=']));
    file.text.lines().position(names).map_or(1, |i| i + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::expect;

    /// Checks a Cargo.toml of `name` with the dependency lines `lines`, in a tree with the crates it may meet.
    #[track_caller]
    fn manifest(name: &str, lines: &str, expected: &str) {
        let text = format!("[package]\nname = \"{name}\"\n\n[dependencies]\n{lines}\n");
        let path = format!("crates/{name}/Cargo.toml");
        let code = format!("crates/{name}/src/lib.rs");
        let used = "use {cluster::A, store::B, serde::C, anyhow::D, tokio_postgres::E};";
        let neighbours =
            ["cluster", "store"].iter().filter(|n| **n != name).map(|n| format!("crates/{n}/Cargo.toml"));
        let neighbours: Vec<String> = neighbours.collect();
        let mut files = vec![(path.as_str(), text.as_str()), (code.as_str(), used)];
        files.extend(neighbours.iter().map(|n| (n.as_str(), "")));
        expect(check, &files, expected);
    }

    #[test]
    fn arrows_are_those_of_the_table() {
        manifest("failover", "cluster.workspace = true", "");
        manifest("agent", "store = { workspace = true }", "");
        let alone = "[package]\nname = \"drv\"\n[workspace]\n[dependencies]\nserde = \"1\"\n";
        expect(check, &[("tests/drivers/drv/Cargo.toml", alone)], "");
        manifest("failover", "store.workspace = true", "Cargo.toml:5: failover may not use store");
        manifest("checker", "[dev-dependencies]\nstore.workspace = true", "checker may not use store");
        manifest("nobody", "", "crate nobody is not in xtask/src/edges.rs");
    }

    #[test]
    fn versions_live_in_the_root() {
        manifest("failover", "serde = { workspace = true, features = [\"std\"] }", "");
        manifest("failover", "serde = \"1\"", "crates/failover/Cargo.toml:5: its own version");
        manifest("failover", "serde = { version = \"1\" }", "its own version");
        manifest("failover", "serde = { path = \"x\" }", "its own version");
    }

    #[test]
    fn anyhow_stays_at_the_edge() {
        manifest("cli", "anyhow.workspace = true", "");
        manifest("agent", "anyhow.workspace = true", "anyhow below the edge");
    }

    #[test]
    fn what_is_named_is_used() {
        manifest("postgres", "tokio-postgres.workspace = true", "");
        manifest("postgres", "nix.workspace = true", "Cargo.toml:5: nix is not used: remove it");
    }

    #[test]
    fn every_dependency_has_a_reason() {
        let root = |line: &str| {
            format!(
                "[workspace.dependencies]\ncluster = {{ path = \"crates/cluster\" }}\n# all\n{line}\n[lints]\na = 1\n"
            )
        };
        expect(check, &[(ROOT, &root("serde = \"1\" # one derive"))], "");
        expect(check, &[(ROOT, &root("serde = \"1\""))], "Cargo.toml:4: a dependency without a reason");
        expect(check, &[(ROOT, "a = ")], "Cargo.toml:1: no TOML");
    }

    #[test]
    fn the_lock_file_fetches_from_crates_io() {
        expect(check, &[("Cargo.lock", &format!("source = \"{LOCK_SOURCE}\"\n"))], "");
        expect(
            check,
            &[("Cargo.lock", "\nsource = \"registry+https://mirror.example/\"\n")],
            "Cargo.lock:2: fetched",
        );
    }
}
