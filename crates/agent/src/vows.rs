//! The promises of protocol 1.4, on disk before anybody hears of them.
//!
//! One small file of two slots, made at full size when the node is made, so
//! that a promise can still be written on the day the disk is full. Each write
//! goes to the slot that is not the newest and is fsynced: a torn write leaves
//! the older promise readable, and that one has been spoken, the torn one not.
//!
//! Never keeps a promise in memory that is not on disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cluster::Vows;

/// Bytes of one slot. Promises take a few hundred.
pub const SLOT_BYTES: usize = 16 * 1024;
const MAGIC: u32 = 0x5441_4E31;
const HEADER_BYTES: usize = 20;

/// The file, and what it says.
#[derive(Debug)]
pub struct VowsFile {
    file: File,
    seq: u64,
    vows: Vows,
}

/// What may go wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum VowsError {
    /// The disk failed.
    #[error(
        "TAN0601: the promises in '{path}' can't be read or written: {source}. Check the disk and its permissions; until then this node promises nothing"
    )]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Both slots are damaged.
    #[error(
        "TAN0602: the promises in '{0}' are damaged. This node can't know what it has promised: remove its store directory so that it joins anew"
    )]
    Damaged(PathBuf),
    /// More than a slot holds.
    #[error(
        "TAN0603: the promises grew to {0} bytes and a slot holds 16 kB. This is a mistake in Tanist: please report it"
    )]
    TooLarge(usize),
}

impl VowsFile {
    /// Opens the file, or makes it with nothing promised.
    ///
    /// # Errors
    /// `Io`, or `Damaged` when neither slot can be trusted.
    pub fn open(path: &Path) -> Result<VowsFile, VowsError> {
        let io = |source| VowsError::Io { path: path.to_owned(), source };
        let fresh = !path.exists();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).map_err(io)?;
        if fresh || file.metadata().map_err(io)?.len() == 0 {
            file.write_all_at(&vec![0; 2 * SLOT_BYTES], 0).map_err(io)?;
            let mut made = VowsFile { file, seq: 0, vows: Vows::default() };
            made.write(path, Vows::default())?;
            sync_folder(path).map_err(io)?;
            return Ok(made);
        }
        let newest = [0, 1].into_iter().filter_map(|slot| read_slot(&file, slot)).max_by_key(|(seq, _)| *seq);
        let (seq, vows) = newest.ok_or_else(|| VowsError::Damaged(path.to_owned()))?;
        Ok(VowsFile { file, seq, vows })
    }

    /// What is promised.
    #[must_use]
    pub fn vows(&self) -> &Vows {
        &self.vows
    }

    /// Promises `vows` instead; returns once that is on disk.
    ///
    /// # Errors
    /// `Io`; the older promises then stand, here and on disk.
    pub fn write(&mut self, path: &Path, vows: Vows) -> Result<(), VowsError> {
        let io = |source| VowsError::Io { path: path.to_owned(), source };
        let body = serde_json::to_vec(&vows).map_err(|e| io(e.into()))?;
        if body.len() > SLOT_BYTES - HEADER_BYTES {
            return Err(VowsError::TooLarge(body.len()));
        }
        let seq = self.seq + 1;
        let mut slot = Vec::with_capacity(HEADER_BYTES + body.len());
        slot.extend(MAGIC.to_le_bytes());
        slot.extend(seq.to_le_bytes());
        slot.extend(u32::try_from(body.len()).map_err(|_| VowsError::TooLarge(body.len()))?.to_le_bytes());
        slot.extend(checksum(seq, &body).to_le_bytes());
        slot.extend(&body);
        self.file.write_all_at(&slot, seq % 2 * SLOT_BYTES as u64).map_err(io)?;
        self.file.sync_data().map_err(io)?;
        (self.seq, self.vows) = (seq, vows);
        Ok(())
    }
}

fn checksum(seq: u64, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&seq.to_le_bytes()), body)
}

fn read_slot(file: &File, slot: u64) -> Option<(u64, Vows)> {
    let mut bytes = vec![0; SLOT_BYTES];
    file.read_exact_at(&mut bytes, slot * SLOT_BYTES as u64).ok()?;
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let seq = bytes.get(4..12)?.try_into().ok().map(u64::from_le_bytes)?;
    let length = usize::try_from(word(12)?).ok()?;
    let body = bytes.get(HEADER_BYTES..HEADER_BYTES.checked_add(length)?)?;
    let whole = word(0)? == MAGIC && word(16)? == checksum(seq, body);
    whole.then(|| serde_json::from_slice(body).ok()).flatten().map(|vows| (seq, vows))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::Term;

    fn promised(term: u64) -> Vows {
        Vows { promise: Term(term), ..Vows::default() }
    }

    #[test]
    fn a_torn_write_leaves_the_promise_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vows");
        let mut file = VowsFile::open(&path).unwrap();
        file.write(&path, promised(4)).unwrap();
        file.write(&path, promised(5)).unwrap();
        let newest = file.seq % 2 * SLOT_BYTES as u64;
        assert_eq!(VowsFile::open(&path).unwrap().vows(), &promised(5));
        file.file.write_all_at(&[0xFF; 40], newest + 10).unwrap();
        assert_eq!(VowsFile::open(&path).unwrap().vows(), &promised(4));
        file.file.write_all_at(&[0; 2 * SLOT_BYTES], 0).unwrap();
        assert!(matches!(VowsFile::open(&path), Err(VowsError::Damaged(_))));
    }
}
