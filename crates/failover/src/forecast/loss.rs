//! What a forced failover could lose: WAL that only those declared dead have.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;

use cluster::command::Evidence;
use cluster::recruited::recruited;
use cluster::{ClusterState, NodeId};

use super::Scene;

/// What could be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing that was acknowledged: those who are heard have it all.
    Nothing,
    /// What only these have; never empty.
    Of(Vec<Unknown>),
}

/// What one node that is declared dead had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Which.
    pub node: NodeId,
    /// Bytes of WAL beyond the next leader's position that it was known to
    /// have; `None` where that can't be told.
    pub known_bytes: Option<u64>,
    /// When it was last heard; what it wrote since is not known either.
    pub heard_ms: Option<u64>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = &self.node;
        match (self.known_bytes, self.heard_ms) {
            (Some(bytes), Some(ms)) => write!(
                f,
                "{node}: at least {bytes} bytes of WAL, and what it wrote since it was last heard {}.{} s ago",
                ms / 1000,
                ms % 1000 / 100
            ),
            (None, Some(_)) => write!(f, "{node}: unknown, its last word can't be compared"),
            (_, None) => write!(f, "{node}: unknown, this agent never heard it"),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Loss::Of(all) = self else { return f.write_str("nothing acknowledged is lost") };
        f.write_str("acknowledged commits that only a dead node has are lost (")?;
        for (i, one) in all.iter().enumerate() {
            let comma = if i == 0 { "" } else { "; " };
            write!(f, "{comma}{one}")?;
        }
        f.write_str(
            "), and a leader and a standby that are only cut off may still acknowledge to each other (C-18)",
        )
    }
}

/// Nothing, if C-3 holds without anybody's being declared dead.
pub(super) fn of(
    scene: Scene<'_>,
    after: &ClusterState,
    evidence: &[Evidence],
    best: &Evidence,
    dead: &BTreeSet<NodeId>,
) -> Loss {
    let mut careful = after.clone();
    careful.ctl.written_off.clear();
    let base = best.position.unwrap_or_default();
    if recruited(&careful, after.ctl.term, evidence).is_ok_and(|needed| base >= needed) {
        return Loss::Nothing;
    }
    let data = |n: &&NodeId| scene.state.members.get(*n).is_some_and(|m| m.kind.keeps_wal());
    let had = |node: &NodeId| {
        let said = scene.reports.get(node);
        let known_bytes = said.and_then(|(r, _)| {
            let p = scene.answer(r, after.ctl.term).position?;
            (p.term <= base.term).then(|| if p < base { 0 } else { p.lsn.bytes_past(base.lsn) })
        });
        Unknown { node: node.clone(), known_bytes, heard_ms: scene.age(node) }
    };
    Loss::Of(dead.iter().filter(data).map(had).collect())
}
