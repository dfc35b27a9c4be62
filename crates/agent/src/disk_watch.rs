//! Whether this host's disk keeps what is written: a leader's agent writes a byte now
//! and then and waits for it, in a thread that may wait for ever.
//!
//! A disk that hangs keeps commits from being acknowledged, and is no reason for
//! anybody else to miss the leader, whose agent and port answer as ever.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use failover::Event;
use failover::speech::STALL_LIMIT;
use tokio::sync::mpsc;

use crate::clock;
use crate::source::Source;

/// Between two looks at the disk.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks at the one that looks.
const WATCH: Duration = Duration::from_millis(250);
/// What is written.
const FILE: &str = "disk.watch";

/// Starts the thread, and tells the loop when the disk begins to hang and when it is
/// over. `dir` is the node's own directory, which has the promises, too.
pub async fn watch(dir: PathBuf, source: Source, events: mpsc::UnboundedSender<Event>) {
    // When the write began that is not done, in ms by our clock; 0 while there is none.
    let began = Arc::new(AtomicU64::new(0));
    let looks = began.clone();
    let thread = std::thread::Builder::new().name("disk".into()).spawn(move || {
        loop {
            if source.state().ctl.leader.as_ref().is_some_and(|l| l.node == source.me()) {
                looks.store(clock::boot_ms(clock::now()).max(1), Ordering::Relaxed);
                // What can't be written at all is no disk that hangs.
                let _ = write(&dir.join(FILE));
                looks.store(0, Ordering::Relaxed);
            }
            std::thread::sleep(LOOK);
        }
    });
    thread.expect("a process that can't start a thread can't run an agent");
    let mut told = false;
    loop {
        tokio::time::sleep(WATCH).await;
        let since = began.load(Ordering::Relaxed);
        let waited = Duration::from_millis(clock::boot_ms(clock::now()).saturating_sub(since));
        let stalled = since != 0 && waited >= STALL_LIMIT;
        if stalled != told {
            told = stalled;
            let code = "TAN0624";
            if stalled {
                tracing::error!(
                    code,
                    ?STALL_LIMIT,
                    "this host's disk keeps nothing: a leader falls silent, so that another can take over"
                );
            } else {
                tracing::warn!(code, "this host's disk keeps what is written again");
            }
            if events.send(Event::Stalled(stalled)).is_err() {
                return;
            }
        }
    }
}

fn write(path: &Path) -> std::io::Result<()> {
    let file = File::options().write(true).create(true).truncate(false).open(path)?;
    file.write_all_at(b"1", 0)?;
    file.sync_data()
}
