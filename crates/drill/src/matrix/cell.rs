//! What is broken, on whom, for how long, in which mode.

use std::time::Duration;

use cluster::Durability;

use crate::fault::link::Way;
use crate::fault::process::Target;

/// How long a link is cut, a disk full or hung, and a clock wrong.
const CUT: Duration = Duration::from_secs(8);
const FULL: Duration = Duration::from_secs(8);
const HUNG: Duration = Duration::from_secs(10);
const WRONG: Duration = Duration::from_secs(5);
/// Up to here a cell is a short one, or a middling one.
const SHORT: Duration = Duration::from_secs(3);
const MIDDLING: Duration = Duration::from_secs(12);
/// How long processes stand still, in seconds.
const STOPS: [u64; 3] = [2, 10, 60];
/// How far a clock jumps, in seconds.
const JUMP: i64 = 3600;

/// Who is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The one that leads.
    Leader,
    /// One that follows.
    Standby,
    /// Everybody at once.
    All,
}

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blow {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT after so many seconds.
    Stop(u64),
}

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process.
    Process(Target, Blow),
    /// All links of a node, also with clients.
    CutOff,
    /// The link to one other node.
    CutFromOne,
    /// The links to all other nodes, one way.
    CutOneWay(Way),
    /// The port of its PostgreSQL, for all other nodes; agents reach each other.
    PortClosed,
    /// No room on a disk.
    DiskFull,
    /// A disk that does not answer.
    DiskHung,
    /// The same, on a node that no other node's packets reach meanwhile: a leader
    /// that was replaced has answers left to give when its disk goes on.
    DiskHungUnheard,
    /// A wall clock that jumps by so many seconds, and back.
    Clock(i64),
    /// Power is lost everywhere.
    Power,
}

/// One cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What.
    pub fault: Fault,
    /// On whom.
    pub role: Role,
    /// In which mode.
    pub mode: Durability,
}

const TARGETS: [Target; 9] = [
    Target::Postmaster,
    Target::Backend,
    Target::Walsender,
    Target::Walreceiver,
    Target::Startup,
    Target::Checkpointer,
    Target::Agent,
    Target::Guard,
    Target::Node,
];

/// Every cell, the short ones first, and all of one mode in a row: changing it
/// takes another cluster.
#[must_use]
pub fn all() -> Vec<Cell> {
    let mut faults = vec![Fault::CutOff, Fault::CutFromOne];
    faults.extend([Fault::CutOneWay(Way::In), Fault::CutOneWay(Way::Out), Fault::PortClosed]);
    faults.extend([Fault::DiskFull, Fault::DiskHung, Fault::DiskHungUnheard]);
    faults.extend([Fault::Clock(JUMP), Fault::Clock(-JUMP)]);
    for target in TARGETS {
        faults.push(Fault::Process(target, Blow::Kill));
        faults.extend(STOPS.map(|s| Fault::Process(target, Blow::Stop(s))));
    }
    let mut cells = Vec::new();
    for mode in [Durability::Quorum, Durability::Async] {
        cells.push(Cell { fault: Fault::Power, role: Role::All, mode });
        for fault in &faults {
            cells.extend([Role::Leader, Role::Standby].map(|role| Cell { fault: *fault, role, mode }));
        }
    }
    cells.sort_by_key(|c| (c.length(), c.mode == Durability::Async, c.fault, c.role));
    cells
}

impl Cell {
    /// `quorum/leader/walsender/stop-10`.
    #[must_use]
    pub fn id(&self) -> String {
        let role = match self.role {
            Role::Leader => "leader",
            Role::Standby => "standby",
            Role::All => "all",
        };
        format!("{}/{role}/{}", self.mode, self.fault.word())
    }

    /// Why there can be no such cell, if so.
    #[must_use]
    pub fn impossible(&self) -> Option<&'static str> {
        match (self.fault, self.role) {
            (Fault::Process(Target::Walsender, _), Role::Standby) => {
                Some("nobody streams from a standby: there is no cascading")
            }
            (Fault::Process(Target::Walreceiver, _), Role::Leader) => Some("a leader receives no WAL"),
            (Fault::Process(Target::Startup, _), Role::Leader) => {
                Some("the startup process ends when a server is promoted")
            }
            (Fault::PortClosed, Role::Standby) => {
                Some("no other node connects to a standby: there is no cascading")
            }
            _ => None,
        }
    }

    /// 0 short, 1 middling, 2 long.
    fn length(&self) -> u8 {
        u8::from(self.fault.lasts() > SHORT) + u8::from(self.fault.lasts() > MIDDLING)
    }
}

impl Fault {
    /// `walsender/stop-10`, `link/one-way-in`, `disk/full`, `clock/ahead`, `power`.
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Fault::Process(target, Blow::Kill) => format!("{}/kill", target.word()),
            Fault::Process(target, Blow::Stop(seconds)) => format!("{}/stop-{seconds}", target.word()),
            Fault::CutOff => "link/full".into(),
            Fault::CutFromOne => "link/partial".into(),
            Fault::CutOneWay(Way::In) => "link/one-way-in".into(),
            Fault::CutOneWay(Way::Out) => "link/one-way-out".into(),
            Fault::CutOneWay(Way::Both) => "link/both-ways".into(),
            Fault::PortClosed => "link/port".into(),
            Fault::DiskFull => "disk/full".into(),
            Fault::DiskHung => "disk/hung".into(),
            Fault::DiskHungUnheard => "disk/hung-unheard".into(),
            Fault::Clock(seconds) if *seconds > 0 => "clock/ahead".into(),
            Fault::Clock(_) => "clock/behind".into(),
            Fault::Power => "power".into(),
        }
    }

    /// How long it lasts; nothing for what happens in an instant.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        match self {
            Fault::Process(_, Blow::Kill) | Fault::Power => Duration::ZERO,
            Fault::Process(_, Blow::Stop(seconds)) => Duration::from_secs(*seconds),
            Fault::CutOff | Fault::CutFromOne | Fault::CutOneWay(_) | Fault::PortClosed => CUT,
            Fault::DiskFull => FULL,
            Fault::DiskHung | Fault::DiskHungUnheard => HUNG,
            Fault::Clock(_) => WRONG,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_matrix_is_complete_and_its_short_cells_come_first() {
        let cells = all();
        let ids: BTreeSet<String> = cells.iter().map(Cell::id).collect();
        assert_eq!(ids.len(), cells.len(), "two cells of one name");
        // 9 processes x 4 blows x 2 roles, 5 cuts, 3 disks and 2 clocks x 2 roles, and power.
        assert_eq!(cells.len(), 2 * (9 * 4 * 2 + 10 * 2 + 1));
        assert_eq!(cells.iter().filter(|c| c.impossible().is_some()).count(), 2 * (3 * 4 + 1));
        assert!(cells.windows(2).all(|w| w[0].length() <= w[1].length()));
        assert!(ids.contains("quorum/leader/walsender/stop-10") && ids.contains("async/all/power"));
    }
}
