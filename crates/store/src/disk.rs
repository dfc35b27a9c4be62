//! The log on disk: one redb file, every write fsynced before it is promised.

use std::fs::File;
use std::path::{Path, PathBuf};

use consensus::{Entry, HardState, Log, Snapshot, Voters};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// Whose log this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Name of the cluster.
    pub cluster: String,
    /// Our number in its Raft group.
    pub raft_id: u64,
}

/// What the disk would not do.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The file can't be opened or read.
    #[error(
        "TAN0203: the store's file '{path}' can't be used: {why}. Check the disk; a file that is damaged may be removed, and this node then joins anew"
    )]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It belongs to another cluster.
    #[error(
        "TAN0204: the store in '{path}' belongs to cluster '{found}', and this node is configured for '{expected}'. Nothing was changed"
    )]
    OtherCluster {
        /// Which file.
        path: PathBuf,
        /// Its cluster.
        found: String,
        /// Ours.
        expected: String,
    },
}

/// The open file.
pub struct Disk {
    db: Database,
    path: PathBuf,
}

impl Disk {
    /// Whether `dir` holds a store.
    #[must_use]
    pub fn exists(dir: &Path) -> bool {
        dir.join("raft.redb").exists()
    }

    /// Opens the store in `dir`, or makes an empty one.
    ///
    /// # Errors
    /// `Unusable`.
    pub fn open(dir: &Path) -> Result<Disk, DiskError> {
        let path = dir.join("raft.redb");
        let bad = |why: String| DiskError::Unusable { path: path.clone(), why };
        std::fs::create_dir_all(dir).map_err(|e| bad(e.to_string()))?;
        let db = Database::create(&path).map_err(|e| bad(e.to_string()))?;
        File::open(dir).and_then(|d| d.sync_all()).map_err(|e| bad(e.to_string()))?;
        let disk = Disk { db, path: path.clone() };
        disk.put("format", &1u32).map_err(bad)?;
        Ok(disk)
    }

    fn bad(&self, why: impl ToString) -> DiskError {
        DiskError::Unusable { path: self.path.clone(), why: why.to_string() }
    }

    /// Whose log this is; `None` for an empty one.
    ///
    /// # Errors
    /// `Unusable`.
    pub fn identity(&self) -> Result<Option<Identity>, DiskError> {
        self.get("identity").map_err(|e| self.bad(e))
    }

    /// Refuses a store of another cluster.
    ///
    /// # Errors
    /// `OtherCluster`.
    pub fn check(&self, identity: &Identity, cluster: &str) -> Result<(), DiskError> {
        if identity.cluster == cluster {
            return Ok(());
        }
        let (path, found, expected) = (self.path.clone(), identity.cluster.clone(), cluster.to_string());
        Err(DiskError::OtherCluster { path, found, expected })
    }

    /// Makes this the log of `identity`, with a first snapshot where it makes the group.
    ///
    /// # Errors
    /// `Unusable`.
    pub fn begin(&self, identity: &Identity, first: Option<&Snapshot>) -> Result<(), DiskError> {
        if let Some(s) = first {
            let hard = HardState { term: s.term, vote: 0, commit: s.index };
            let step =
                Step { snapshot: first, hard: Some(&hard), voters: Some(&s.voters), ..Step::default() };
            self.write(&step).map_err(|e| self.bad(e))?;
        }
        self.put("identity", identity).map_err(|e| self.bad(e))
    }

    /// Everything, as it was promised.
    ///
    /// # Errors
    /// `Unusable`.
    pub fn load(&self) -> Result<Log, DiskError> {
        let mut log = Log {
            snapshot: self.get("snapshot").map_err(|e| self.bad(e))?.unwrap_or_default(),
            entries: Vec::new(),
            hard: self.get("hard").map_err(|e| self.bad(e))?.unwrap_or_default(),
            voters: self.get("voters").map_err(|e| self.bad(e))?.unwrap_or_default(),
        };
        let read = self.db.begin_read().map_err(|e| self.bad(e))?;
        let Ok(table) = read.open_table(LOG) else { return Ok(log) };
        for row in table.iter().map_err(|e| self.bad(e))? {
            let (index, bytes) = row.map_err(|e| self.bad(e))?;
            if index.value() > log.snapshot.index {
                log.entries.push(postcard::from_bytes(bytes.value()).map_err(|e| self.bad(e))?);
            }
        }
        Ok(log)
    }

    /// Writes one step of work; on disk when it returns.
    ///
    /// # Errors
    /// What the disk said, in words; nothing of it then counts.
    pub fn write(&self, step: &Step<'_>) -> Result<(), String> {
        let text = |e: &dyn ToString| e.to_string();
        let write = self.db.begin_write().map_err(|e| text(&e))?;
        {
            let mut meta = write.open_table(META).map_err(|e| text(&e))?;
            let mut log = write.open_table(LOG).map_err(|e| text(&e))?;
            if let Some(snapshot) = step.snapshot {
                meta.insert("snapshot", encode(snapshot)?.as_slice()).map_err(|e| text(&e))?;
                log.retain(|index, _| index > snapshot.index).map_err(|e| text(&e))?;
            }
            if let Some(first) = step.entries.first() {
                log.retain(|index, _| index < first.index).map_err(|e| text(&e))?;
            }
            for e in step.entries {
                log.insert(e.index, encode(e)?.as_slice()).map_err(|e| text(&e))?;
            }
            if let Some(hard) = step.hard {
                meta.insert("hard", encode(hard)?.as_slice()).map_err(|e| text(&e))?;
            }
            if let Some(voters) = step.voters {
                meta.insert("voters", encode(voters)?.as_slice()).map_err(|e| text(&e))?;
            }
        }
        write.commit().map_err(|e| text(&e))
    }

    fn put(&self, key: &str, value: &impl Serialize) -> Result<(), String> {
        let text = |e: &dyn ToString| e.to_string();
        let write = self.db.begin_write().map_err(|e| text(&e))?;
        {
            let mut meta = write.open_table(META).map_err(|e| text(&e))?;
            meta.insert(key, encode(value)?.as_slice()).map_err(|e| text(&e))?;
        }
        write.commit().map_err(|e| text(&e))
    }

    fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, String> {
        let read = self.db.begin_read().map_err(|e| e.to_string())?;
        let Ok(table) = read.open_table(META) else { return Ok(None) };
        let found = table.get(key).map_err(|e| e.to_string())?;
        found.map(|v| postcard::from_bytes(v.value()).map_err(|e| e.to_string())).transpose()
    }
}

/// What one write holds.
#[derive(Default)]
pub struct Step<'a> {
    /// Replaces everything before it.
    pub snapshot: Option<&'a Snapshot>,
    /// Replace what they overlap.
    pub entries: &'a [Entry],
    /// Term, vote, commit.
    pub hard: Option<&'a HardState>,
    /// Who votes.
    pub voters: Option<&'a Voters>,
}

impl Step<'_> {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.snapshot.is_none() && self.entries.is_empty() && self.hard.is_none() && self.voters.is_none()
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, String> {
    postcard::to_allocvec(value).map_err(|e| e.to_string())
}
