//! The cluster that cells happen to: three nodes, each in a network namespace of
//! its own and on a disk of its own, and the load that each cell begins anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::Status;
use api::verbs::{Done, SwitchoverBody};
use cluster::Durability;

use super::run::Asked;
use crate::fault::disk::{self, Disk};
use crate::keys::{self, Keys};
use crate::layout::{NODES, Options, PlannedNode};
use crate::load::{Load, Manner, prepare};
use crate::stage::{Stage, StageError, folder};

/// Longest that a cluster may take to be whole after its fault has ended.
pub const HEAL_LIMIT: Duration = Duration::from_secs(60);
/// Longest that writes may take to flow once it is whole.
const FLOW_LIMIT: Duration = Duration::from_secs(30);
/// Writes that must be acknowledged before a fault, and after it.
const FLOW: usize = 20;
/// Numbers of the clients of one cell.
pub const CLIENTS: u32 = 4;
/// Between two rows of a client.
const PAUSE: Duration = Duration::from_millis(10);
/// One half of the clients gives up at once and finds who serves now; the other
/// waits for what a server that was replaced still has to say.
const HASTY: Duration = Duration::from_secs(2);
const PATIENT: Duration = Duration::from_secs(75);
/// Switchovers that may be called off in a row.
const SWITCHOVER_TRIES: u32 = 5;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// A cluster in a mode.
pub struct Scene {
    /// It.
    pub stage: Stage,
    /// Its nodes' disks, in order.
    pub disks: Vec<Disk>,
    /// Its mode.
    pub mode: Durability,
    /// Cells that it has seen.
    pub cells: u32,
}

/// The load of one cell.
pub struct Loads {
    /// Rows that nobody writes twice.
    pub rows: Load,
    /// Registers and lists.
    pub keys: Keys,
}

impl Scene {
    /// A new one, after what an earlier run left is gone.
    ///
    /// # Errors
    /// Any `StageError`.
    pub async fn up(asked: &Asked, mode: Durability) -> Result<Scene, StageError> {
        let dir = home(asked, mode);
        clear_away(&dir)?;
        let images = images(&dir);
        fs::create_dir_all(&images).map_err(folder(&images))?;
        fs::create_dir_all(&dir).map_err(folder(&dir))?;
        disk::share(&dir)?;
        let disk = |i: u16| Disk::make(&images.join(format!("n{i}.img")), &dir.join(format!("n{i}")));
        let disks = (1..=NODES).map(disk).collect::<Result<Vec<_>, _>>()?;
        let options = Options {
            dir,
            nodes: Some(NODES),
            wal_witness: false,
            base_port: None,
            pg_bin: asked.pg_bin.clone(),
            durability: Some(mode),
            binary: asked.binary.clone(),
            isolate: true,
        };
        let stage = Stage::up(&options).await?;
        let scene = Scene { stage, disks, mode, cells: 0 };
        let url = scene.url();
        let unhealthy = |why: String| scene.unhealthy(why);
        prepare(&url).await.map_err(unhealthy)?;
        keys::prepare(&url).await.map_err(unhealthy)?;
        Ok(scene)
    }

    /// Where clients write.
    #[must_use]
    pub fn url(&self) -> String {
        self.stage.document().direct_url
    }

    fn unhealthy(&self, why: String) -> StageError {
        StageError::Unhealthy { waited: FLOW_LIMIT, why, dir: self.stage.plan.dir.display().to_string() }
    }

    /// Numbers of this cell's clients.
    #[must_use]
    pub fn clients(&self) -> std::ops::RangeInclusive<u32> {
        let first = self.cells * CLIENTS;
        first..=first + CLIENTS - 1
    }

    /// Load for one more cell, of which writes are acknowledged when this returns.
    ///
    /// # Errors
    /// `Unhealthy`.
    pub async fn load(&mut self) -> Result<Loads, StageError> {
        self.cells += 1;
        let limit = |client| if client % 2 == 0 { HASTY } else { PATIENT };
        let manner = |client| Manner { client, pause: PAUSE, limit: limit(client) };
        let manners: Vec<Manner> = self.clients().map(manner).collect();
        let rows = Load::start_with(&self.url(), &manners).map_err(|e| self.unhealthy(e))?;
        let keys = Keys::start(&self.url(), self.cells, rows.began()).await;
        let keys = keys.map_err(|e| self.unhealthy(e))?;
        let loads = Loads { rows, keys };
        self.wait_until_writes_flow(&loads).await?;
        Ok(loads)
    }

    /// Waits for some more writes to be acknowledged.
    ///
    /// # Errors
    /// `Unhealthy`.
    pub async fn wait_until_writes_flow(&self, loads: &Loads) -> Result<(), StageError> {
        let (before, began) = (loads.rows.acknowledged(), Instant::now());
        while loads.rows.acknowledged() < before + FLOW {
            if began.elapsed() > FLOW_LIMIT {
                return Err(self.unhealthy("no writes are acknowledged".into()));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until it is whole, and still is a moment later: a picture may be
    /// older than the fault.
    ///
    /// # Errors
    /// `Unhealthy`.
    pub async fn wait_whole(&self) -> Result<Status, StageError> {
        self.stage.wait_whole(HEAL_LIMIT).await?;
        tokio::time::sleep(LOOK * 5).await;
        self.stage.wait_whole(HEAL_LIMIT).await
    }

    /// The node that leads, and those that follow.
    ///
    /// # Errors
    /// `Unhealthy`.
    pub async fn roles(&self) -> Result<(PlannedNode, Vec<PlannedNode>), StageError> {
        let status = self.wait_whole().await?;
        let leads = |n: &&PlannedNode| status.leader.as_deref() == Some(n.name.as_str());
        let leader = self.stage.plan.data_nodes().find(leads).cloned();
        let leader = leader.ok_or_else(|| self.unhealthy("nobody leads".into()))?;
        let others = self.stage.plan.data_nodes().filter(|n| n.name != leader.name).cloned().collect();
        Ok((leader, others))
    }

    /// Makes `node` lead, by switchovers.
    ///
    /// # Errors
    /// `Unhealthy`.
    pub async fn hand_over_to(&self, node: &PlannedNode) -> Result<(), StageError> {
        for _ in 0..SWITCHOVER_TRIES {
            if self.roles().await?.0.name == node.name {
                return Ok(());
            }
            let body = SwitchoverBody { to: Some(node.name.clone()), ..SwitchoverBody::default() };
            let _: Result<Done, _> = self.stage.client().send("POST", "/v1/switchover", &body).await;
            tokio::time::sleep(LOOK * 20).await;
        }
        Err(self.unhealthy(format!("{} could not be made to lead", node.name)))
    }

    /// Stops and removes all of it.
    ///
    /// # Errors
    /// `Folder`.
    pub fn down(self) -> Result<(), StageError> {
        let dir = self.stage.plan.dir.clone();
        self.stage.down(false)?;
        drop(self.disks);
        clear_away(&dir)
    }
}

fn home(asked: &Asked, mode: Durability) -> PathBuf {
    asked.dir.join(mode.to_string())
}

fn images(dir: &Path) -> PathBuf {
    dir.with_extension("disks")
}

/// Removes the cluster in `dir` and its disks, also after a run that was killed.
fn clear_away(dir: &Path) -> Result<(), StageError> {
    disk::thaw(dir);
    if let Ok(former) = Stage::open(dir) {
        former.down(false)?;
    }
    disk::clear_away(dir);
    for gone in [dir.to_path_buf(), images(dir)] {
        if gone.exists() {
            fs::remove_dir_all(&gone).map_err(folder(&gone))?;
        }
    }
    Ok(())
}
