//! What each cell came to: a line of JSON for each run of one, of which the last
//! counts, and the table that is made of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use cluster::Durability;
use serde::{Deserialize, Serialize};

use super::cell::{Cell, all};
use super::scene::HEAL_LIMIT;
use crate::stage::{StageError, folder};

/// How a cell ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing that must never happen happened, and it healed.
    Pass,
    /// Something did, or it did not.
    Fail,
    /// It could not be run here and now.
    NotRun,
}

/// One run of one cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Its name.
    pub cell: String,
    /// How it ended.
    pub verdict: Verdict,
    /// What was wrong.
    pub wrong: Vec<String>,
    /// Longest time without an acknowledged row, from the fault on, milliseconds.
    pub away_ms: u64,
    /// From the end of the fault until the cluster was whole, and had been for half a second, milliseconds.
    pub healed_ms: u64,
    /// Terms that began.
    pub terms: u64,
    /// Rows that were acknowledged.
    pub acknowledged: usize,
    /// Rows whose fate nobody knows.
    pub unknown: usize,
    /// Deeds on registers and lists that were acknowledged.
    pub deeds: usize,
    /// Acknowledged writes that are gone.
    pub lost: usize,
    /// Of the program.
    pub commit: String,
    /// Its version.
    pub postgres: String,
    /// What the cluster itself says happened.
    pub history: Vec<String>,
}

/// The last line of each cell.
///
/// # Errors
/// `Folder`, when the file can't be read or is none of ours.
pub fn read(path: &Path) -> Result<BTreeMap<String, Line>, StageError> {
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let text = fs::read_to_string(path).map_err(folder(path))?;
    let lines = text.lines().filter(|l| !l.trim().is_empty());
    let parsed = lines.map(|l| serde_json::from_str::<Line>(l).map(|line| (line.cell.clone(), line)));
    parsed.collect::<Result<_, _>>().map_err(|e| folder(path)(e.into()))
}

/// Adds a line.
///
/// # Errors
/// `Folder`.
pub fn add(path: &Path, line: &Line) -> Result<(), StageError> {
    let text = serde_json::to_string(line).map_err(|e| folder(path)(e.into()))?;
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(folder(path))?;
    file.write_all((text + "\n").as_bytes()).map_err(folder(path))
}

/// Writes the table.
///
/// # Errors
/// `Folder`.
pub fn write_table(path: &Path, lines: &BTreeMap<String, Line>) -> Result<(), StageError> {
    fs::write(path, table(lines)).map_err(folder(path))
}

fn table(lines: &BTreeMap<String, Line>) -> String {
    let cells: Vec<Cell> = all().into_iter().collect();
    let count = |v| cells.iter().filter_map(|c| lines.get(&c.id())).filter(|l| l.verdict == v).count();
    let never = cells.iter().filter(|c| c.impossible().is_some()).count();
    let (pass, fail) = (count(Verdict::Pass), count(Verdict::Fail));
    let mut out = String::from("# The fault matrix\n\n");
    let _ = writeln!(
        out,
        "Written by `make faults`; do not edit. {} cells: {pass} passed, {fail} failed, {never} impossible, {} not run yet.\n",
        cells.len(),
        cells.len() - pass - fail - never
    );
    out += &format!(
        "Each cell breaks one thing on a running cluster of three real servers, each in a network namespace and on a \
         disk of its own, while clients insert rows, keep registers and append to lists. It passes if no acknowledged \
         write is lost (in async: none beyond the bound that the history tells), no server acknowledges after it was \
         replaced, no read is older than an acknowledgement before it, every member ends with the same rows, and the \
         cluster is whole within {} s of the fault's end.\n\n\
         **Away** is the longest time without an acknowledged row, from the fault on; a client goes back to the server that \
         served it last, and tries all at once where that does not do. \
         **Whole** is the time from the fault's end until every member was back in its place, and had been for half a \
         second. Both are what this one \
         run saw on a machine of two cores that did other work too: shapes, not figures. **Terms** is how many began.\n\n",
        HEAL_LIMIT.as_secs()
    );
    for mode in [Durability::Quorum, Durability::Async] {
        let _ = writeln!(out, "## {mode}\n");
        out += "| fault | on | verdict | away, ms | whole, ms | terms | acknowledged | lost | PostgreSQL | commit |\n";
        out += "|---|---|---|---:|---:|---:|---:|---:|---|---|\n";
        let mut mine: Vec<&Cell> = cells.iter().filter(|c| c.mode == mode).collect();
        mine.sort_by_key(|c| (c.fault, c.role));
        for cell in mine {
            out += &row(cell, lines.get(&cell.id()));
        }
        out.push('\n');
    }
    out += &failures(&cells, lines);
    out
}

fn row(cell: &Cell, line: Option<&Line>) -> String {
    let id = cell.id();
    let mut words = id.splitn(3, '/').skip(1);
    let (role, fault) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let empty = |verdict: &str| format!("| {fault} | {role} | {verdict} | | | | | | | |\n");
    if let Some(why) = cell.impossible() {
        return empty(&format!("impossible: {why}"));
    }
    let Some(l) = line else { return empty("not run") };
    let verdict = match l.verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "**FAIL**",
        Verdict::NotRun => return empty(&format!("not run: {}", l.wrong.join("; "))),
    };
    format!(
        "| {fault} | {role} | {verdict} | {} | {} | {} | {} | {} | {} | {} |\n",
        l.away_ms,
        l.healed_ms,
        l.terms,
        l.acknowledged + l.deeds,
        l.lost,
        l.postgres,
        l.commit
    )
}

/// What was wrong, cell by cell.
fn failures(cells: &[Cell], lines: &BTreeMap<String, Line>) -> String {
    let failed = cells.iter().filter_map(|c| lines.get(&c.id())).filter(|l| l.verdict == Verdict::Fail);
    let told: Vec<String> = failed.map(|l| format!("- {}: {}\n", l.cell, l.wrong.join("; "))).collect();
    if told.is_empty() { String::new() } else { format!("## What failed\n\n{}", told.concat()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_was_run_again_counts_once_and_one_that_was_not_says_so() {
        let line = |verdict, commit: &str| Line {
            cell: "quorum/leader/postmaster/kill".into(),
            verdict,
            wrong: ["2 acknowledged rows lost".into()].into(),
            away_ms: 1234,
            healed_ms: 0,
            terms: 1,
            acknowledged: 10,
            unknown: 0,
            deeds: 5,
            lost: 2,
            commit: commit.into(),
            postgres: "15".into(),
            history: Vec::new(),
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert!(read(&path).unwrap().is_empty());
        add(&path, &line(Verdict::Fail, "a")).unwrap();
        let failed = table(&read(&path).unwrap());
        assert!(failed.contains("1 failed") && failed.contains("**FAIL** | 1234 |"), "{failed}");
        assert!(failed.contains("kill: 2 acknowledged rows lost"));
        add(&path, &line(Verdict::Pass, "b")).unwrap();
        let passed = table(&read(&path).unwrap());
        assert!(passed.contains("1 passed, 0 failed, 26 impossible, 159 not run yet"), "{passed}");
        assert!(passed.contains("| walsender/kill | standby | impossible: nobody streams"));
        assert!(passed.contains("| power | all | not run |"));
    }
}
