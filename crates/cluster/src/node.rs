//! Names: a node, and one life of that node's disk.
//!
//! A node that comes back with an empty disk has forgotten its promises, so it
//! must not be mistaken for the one that made them. It gets a new incarnation,
//! and rules name incarnations (protocol C-10), never bare nodes.

use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest node name. Leaves room for `_<incarnation>` and `tanist_` in
/// PostgreSQL's 63 bytes for `application_name` and slot names.
pub const NODE_NAME_LENGTH_MAX: usize = 40;

/// A node's name: lower-case letters, digits and inner dashes, starting with a
/// letter. No underscore, so `MemberId` and slot names stay unambiguous.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(String);

impl NodeId {
    /// Checks `name` and wraps it.
    ///
    /// # Errors
    /// `BadName` when it is empty, too long or holds another character.
    pub fn new(name: &str) -> Result<NodeId, BadName> {
        let first_ok = name.starts_with(|c: char| c.is_ascii_lowercase());
        let rest_ok = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if first_ok && rest_ok && !name.ends_with('-') && name.len() <= NODE_NAME_LENGTH_MAX {
            Ok(NodeId(name.to_string()))
        } else {
            Err(BadName(name.to_string()))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name that is no node name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no node name: use up to 40 lower-case letters, digits and inner dashes, a letter first")]
pub struct BadName(pub String);

impl FromStr for NodeId {
    type Err = BadName;
    fn from_str(s: &str) -> Result<NodeId, BadName> {
        NodeId::new(s)
    }
}

impl TryFrom<String> for NodeId {
    type Error = BadName;
    fn try_from(s: String) -> Result<NodeId, BadName> {
        NodeId::new(&s)
    }
}

impl From<NodeId> for String {
    fn from(n: NodeId) -> String {
        n.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One life of a node's disk: the node and how often its disk began anew
/// (1 is the first). Its text form `n2_1` is the `application_name` under which
/// a standby acknowledges, so PostgreSQL counts incarnations too (C-8).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberId {
    /// Which node.
    pub node: NodeId,
    /// Which life of its disk, from 1.
    pub incarnation: u32,
}

impl MemberId {
    /// Names the `incarnation`-th life of `node`.
    #[must_use]
    pub fn new(node: NodeId, incarnation: u32) -> MemberId {
        MemberId { node, incarnation }
    }

    /// The physical slot through which this member streams, on every server.
    /// Slot names admit no dash, node names no underscore, so this is one-to-one.
    #[must_use]
    pub fn slot_name(&self) -> String {
        let mut s = String::from("tanist_");
        s.extend(self.node.as_str().chars().map(|c| if c == '-' { '_' } else { c }));
        s.push('_');
        s.push_str(&self.incarnation.to_string());
        s
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.node, self.incarnation)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MemberId {
    type Err = BadName;
    fn from_str(s: &str) -> Result<MemberId, BadName> {
        let bad = || BadName(s.to_string());
        let (node, number) = s.rsplit_once('_').ok_or_else(bad)?;
        let incarnation = number.parse().map_err(|_| bad())?;
        Ok(MemberId { node: NodeId::new(node)?, incarnation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn c8_each_life_of_a_node_acknowledges_under_its_own_name_and_slot() {
        let lives: [MemberId; 2] = ["n2_1".parse().unwrap(), "n2_2".parse().unwrap()];
        assert_ne!(lives[0].to_string(), lives[1].to_string());
        assert_ne!(lives[0].slot_name(), lives[1].slot_name());
        let all: [MemberId; 2] = ["a-1_1".parse().unwrap(), "a_11".parse().unwrap()];
        assert_ne!(all[0].slot_name(), all[1].slot_name());
    }

    #[test]
    fn names_are_checked_and_members_read_back() {
        for bad in ["", "N1", "1n", "n_1", "n-", "n 1", "ä", &"n".repeat(41)] {
            assert!(NodeId::new(bad).is_err(), "{bad}");
        }
        let m: MemberId = "node-a_12".parse().unwrap();
        assert_eq!((m.node.as_str(), m.incarnation), ("node-a", 12));
        assert_eq!(format!("{m}"), "node-a_12");
        assert_eq!(m.slot_name(), "tanist_node_a_12");
        assert!("node-a".parse::<MemberId>().is_err());
    }
}
