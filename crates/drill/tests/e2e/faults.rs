//! A few short cells of the fault matrix, by the runner that `make faults` runs
//! the whole of: one of each kind of fault, and those that have failed before.

use std::path::PathBuf;

use drill::matrix::ledger::{Verdict, read};
use drill::matrix::{Asked, run};

use crate::story::{binary, may_be_root, told, turn};

/// On one cluster in each mode.
const CELLS: [&str; 10] = [
    "quorum/leader/walsender/kill",
    "quorum/leader/guard/kill",
    "quorum/leader/node/stop-2",
    "quorum/standby/walreceiver/stop-2",
    "quorum/leader/link/one-way-out",
    "quorum/leader/disk/hung",
    "quorum/leader/disk/hung-unheard",
    "quorum/all/power",
    "async/leader/node/kill",
    "async/leader/link/partial",
];

#[test]
fn a_part_of_the_fault_matrix_loses_nothing_and_heals() {
    if !may_be_root("the fault matrix") {
        return;
    }
    told(async {
        let _turn = turn().await;
        let dir = PathBuf::from(format!("/var/tmp/tanist-e2e-{}-faults", std::process::id()));
        let asked = Asked {
            dir: dir.clone(),
            binary: Some(binary()),
            pg_bin: None,
            state: dir.join("state.jsonl"),
            table: Some(dir.join("table.md")),
            commit: "under test".into(),
            only: CELLS.map(String::from).to_vec(),
            again: false,
            time: None,
        };
        let lines = run(&asked, |line| println!("{line}")).await.unwrap();
        let failed: Vec<_> = lines.iter().filter(|l| l.verdict != Verdict::Pass).collect();
        assert!(failed.is_empty(), "logs are in {}/failed: {failed:#?}", dir.display());
        assert_eq!(lines.len(), CELLS.len());
        let table = std::fs::read_to_string(dir.join("table.md")).unwrap();
        assert!(table.contains("10 passed, 0 failed"), "{table}");
        // Whoever runs it again has nothing left to do.
        assert_eq!(read(&asked.state).unwrap().len(), CELLS.len());
        assert!(run(&asked, |_| ()).await.unwrap().is_empty());
        std::fs::remove_dir_all(&dir).unwrap();
    });
}
