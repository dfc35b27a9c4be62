//! Chores: what a reviewer would otherwise have to remember.
//!
//! `tidy` reads every tracked file and reports what breaks the house rules of
//! `docs/style.md`; it never writes. `fix` writes what a machine may write:
//! formatting, trailing blanks, the index of the error pages.
//!
//! Never builds or tests the product: that is the Makefile's business.
#![forbid(unsafe_code)]

mod check;
mod edges;
mod finding;
mod fix;
mod functions;
mod source;
mod tree;

use std::process::ExitCode;

use anyhow::Context as _;

const USAGE: &str = "usage: cargo xtask tidy | fix
  tidy   check the house rules over all tracked files; writes nothing
  fix    rewrite what can be rewritten: format, trailing blanks, index of the error pages";

fn main() -> ExitCode {
    let verb = std::env::args().nth(1).unwrap_or_default();
    let done = match verb.as_str() {
        "tidy" => tidy(),
        "fix" => tree::root().and_then(|root| fix::fix(&root)).map(|()| ExitCode::SUCCESS),
        _ => {
            eprintln!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

/// Prints one line for each broken rule; fails if there was any.
fn tidy() -> anyhow::Result<ExitCode> {
    let tree = tree::Tree::load(&tree::root()?).context("reading the tracked files")?;
    let findings = check::all(&tree);
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: {} files, nothing to say", tree.files.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("tidy: {} findings; the rules and their reasons: docs/style.md", findings.len());
    Ok(ExitCode::FAILURE)
}
