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
    everybody().find(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        fields.nth(1).and_then(|p| p.parse::<i32>().ok()) == Some(parent) && has(*pid, &[word])
    })
}

/// A process with both among its arguments; `ip netns exec` becomes what it runs.
pub(crate) fn running(verb: &str, config: &str) -> Option<i32> {
    everybody().find(|pid| has(*pid, &[verb, config]))
}

fn everybody() -> impl Iterator<Item = i32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|e| e.file_name().to_str()?.parse().ok())
}

fn has(pid: i32, words: &[&str]) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.iter().all(|word| line.split(|b| *b == 0).any(|arg| arg == word.as_bytes()))
}
