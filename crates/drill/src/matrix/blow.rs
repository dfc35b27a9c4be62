//! One cell's fault: begun, held for its time, ended.

use std::time::{Duration, Instant};

use cluster::Durability;
use tokio::task::block_in_place;

use super::cell::{Blow, Cell, Fault, Role};
use super::scene::Scene;
use crate::fault::clock::{self, Clock};
use crate::fault::link::Way;
use crate::fault::process::{self, Frozen, Target};
use crate::fault::{disk, link, power};
use crate::layout::PlannedNode;
use crate::stage::StageError;

/// After so long a service manager starts a guard again that was killed.
const RESTART: Duration = Duration::from_secs(1);
/// Log that is written when a disk is full, so that it is missed.
const LOG: &str =
    "SELECT count(pg_logical_emit_message(false, 'x', repeat('y', 1000000))) FROM generate_series(1, 60)";
/// Longest that one may take to write it.
const LOG_LIMIT: Duration = Duration::from_secs(4);

/// Whom it hits, and what was made ready for it.
pub struct Aim {
    /// The node; of no meaning where all are hit.
    pub node: PlannedNode,
    others: Vec<PlannedNode>,
    leader: PlannedNode,
    clock: Option<Clock>,
}

/// What holds while a fault lasts; it ends when this is dropped.
#[allow(dead_code)] // held, not read
enum Held {
    Still(Frozen),
    Cut(link::Cut),
    Full(disk::Full),
    Hung(disk::Hung),
    /// In this order: it answers again before anybody is heard.
    HungUnheard(disk::Hung, link::Cut),
    Nothing,
}

/// Chooses whom the cell hits, and makes ready what must be there before.
///
/// # Errors
/// Any `StageError`.
pub async fn aim(scene: &Scene, cell: &Cell) -> Result<Aim, StageError> {
    let mut ready = None;
    if let Fault::Clock(_) = cell.fault {
        let (_, standbys) = scene.roles().await?;
        let node = standbys.first().cloned().ok_or_else(|| StageError::NoNode("standby".into()))?;
        let file = scene.stage.plan.dir.join(format!("{}.clock", node.name));
        let clock = Clock::new(&file)?;
        block_in_place(|| scene.stage.stop(&node));
        scene.stage.start_with(&node, &clock.environment())?;
        if cell.role == Role::Leader {
            scene.hand_over_to(&node).await?;
        }
        ready = Some((clock, node));
    }
    let (leader, standbys) = scene.roles().await?;
    let first = standbys.first().cloned().ok_or_else(|| StageError::NoNode("standby".into()))?;
    let by_role = if cell.role == Role::Standby { first } else { leader.clone() };
    let (clock, node) = ready.map_or((None, by_role), |(clock, node)| (Some(clock), node));
    let all = scene.stage.plan.data_nodes();
    let others = all.filter(|n| n.name != node.name).cloned().collect();
    Ok(Aim { node, others, leader, clock })
}

/// Begins the fault, holds it, ends it. Gives when it began and when it had ended.
///
/// # Errors
/// What kept it from being made, in words.
pub async fn strike(scene: &Scene, cell: &Cell, aim: &Aim) -> Result<(Instant, Instant), String> {
    let words = |e: StageError| e.to_string();
    // A client of the standby's, for the cell that ends one; the load has none there.
    let session = match (cell.fault, cell.role) {
        (Fault::Process(Target::Backend, _), Role::Standby) => reader(scene, &aim.node).await,
        _ => None,
    };
    let began = Instant::now();
    let held = block_in_place(|| begin(scene, cell, aim))?;
    if cell.fault == Fault::DiskFull {
        write_log(scene, &aim.leader).await;
    }
    tokio::time::sleep(cell.fault.lasts().saturating_sub(began.elapsed())).await;
    block_in_place(|| drop(held));
    match cell.fault {
        Fault::CutOff => crate::fault::heal(&scene.stage, &aim.node).map_err(words)?,
        Fault::Clock(_) => aim.clock.as_ref().map_or(Ok(()), |c| c.set(0)).map_err(words)?,
        Fault::Process(..)
        | Fault::CutFromOne
        | Fault::CutOneWay(_)
        | Fault::PortClosed
        | Fault::DiskFull
        | Fault::DiskHung
        | Fault::DiskHungUnheard
        | Fault::Power => {}
    }
    let ended = Instant::now();
    drop(session);
    if let Fault::Process(Target::Guard | Target::Node, _) | Fault::Power = cell.fault {
        tokio::time::sleep(RESTART).await;
        for node in &scene.stage.plan.nodes {
            block_in_place(|| scene.stage.start(node)).map_err(words)?;
        }
    }
    Ok((began, ended))
}

fn begin(scene: &Scene, cell: &Cell, aim: &Aim) -> Result<Held, String> {
    let (stage, node) = (&scene.stage, &aim.node);
    let words = |e: StageError| e.to_string();
    let disk = || {
        let at = stage.plan.node_dir(node);
        scene.disks.iter().find(|d| d.at() == at).ok_or("the node has no disk of its own".to_string())
    };
    let cut = |others: &[PlannedNode], way| link::cut(stage, node, others, way).map(Held::Cut).map_err(words);
    match cell.fault {
        Fault::Process(target, blow) => {
            let pids = process::find(stage, node, target);
            if pids.is_empty() {
                return Err(format!("{} has no {}", node.name, target.word()));
            }
            match blow {
                Blow::Kill => {
                    process::end(&pids);
                    Ok(Held::Nothing)
                }
                Blow::Stop(_) => Ok(Held::Still(process::freeze(&pids))),
            }
        }
        Fault::CutOff => crate::fault::cut(stage, node).map(|()| Held::Nothing).map_err(words),
        Fault::CutFromOne => cut(&aim.one_other(cell), Way::Both),
        Fault::CutOneWay(way) => cut(&aim.others, way),
        Fault::PortClosed => link::close_port(stage, node, &aim.others).map(Held::Cut).map_err(words),
        Fault::DiskFull => disk()?.fill().map(Held::Full).map_err(words),
        Fault::DiskHung => disk()?.hang().map(Held::Hung).map_err(words),
        Fault::DiskHungUnheard => {
            let hung = disk()?.hang().map_err(words)?;
            let cut = link::cut(stage, node, &aim.others, Way::In).map_err(words)?;
            Ok(Held::HungUnheard(hung, cut))
        }
        Fault::Clock(seconds) => {
            let clock = aim.clock.as_ref().ok_or("no clock was made ready".to_string())?;
            clock.set(seconds).map(|()| Held::Nothing).map_err(words)
        }
        Fault::Power => power::lose(stage, &scene.disks).map(|()| Held::Nothing).map_err(words),
    }
}

impl Aim {
    /// A leader is cut from a standby, and a standby from the other standby.
    fn one_other(&self, cell: &Cell) -> Vec<PlannedNode> {
        let leads = |n: &&PlannedNode| n.name == self.leader.name;
        let fits = |n: &&PlannedNode| cell.role == Role::Leader || !leads(n);
        self.others.iter().filter(fits).take(1).cloned().collect()
    }
}

/// An idle session on a standby.
async fn reader(scene: &Scene, node: &PlannedNode) -> Option<tokio_postgres::Client> {
    crate::server::Server::new(&super::judge::url_of(&scene.stage, node)).ok()?.connect().await
}

/// Much log, so that a full disk is full for it. A server that ends of it does not answer.
async fn write_log(scene: &Scene, leader: &PlannedNode) {
    if let Some(client) = reader(scene, leader).await {
        let _ = tokio::time::timeout(LOG_LIMIT, client.batch_execute(LOG)).await;
    }
}

/// Why a cell can't be run on this machine, if so.
#[must_use]
pub fn missing(cell: &Cell) -> Option<&'static str> {
    debug_assert!(cell.mode != Durability::QuorumRelaxed);
    let clock = matches!(cell.fault, Fault::Clock(_)) && clock::library().is_none();
    clock.then_some("libfaketime is not installed")
}
