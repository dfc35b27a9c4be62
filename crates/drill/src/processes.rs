//! The processes of a node, as anybody can see them in /proc.

use std::fs;

/// The processes of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pids {
    /// The guard.
    pub guard: Option<i32>,
    /// The agent.
    pub agent: Option<i32>,
    /// The postmaster.
    pub postmaster: Option<i32>,
}

/// A child with `word` among its arguments. By everybody's own parent: the
/// kernel's list of children may leave some out while others come and go.
pub(crate) fn child_of(parent: i32, word: &str) -> Option<i32> {
    let all = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = all.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.find(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let ours = fields.nth(1).and_then(|p| p.parse::<i32>().ok()) == Some(parent);
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        ours && line.split(|b| *b == 0).any(|arg| arg == word.as_bytes())
    })
}
