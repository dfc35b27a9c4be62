//! Takes back what a superuser sets of ours by ALTER SYSTEM: an empty
//! `synchronous_standby_names` would acknowledge what nobody else has.
//!
//! A thread that sleeps in the kernel until PostgreSQL renames a file in the
//! data directory, which is how it writes `postgresql.auto.conf`.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postgres::Error;
use postgres::perform::Hands;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::runtime::Handle;

/// The directory itself may be replaced (a new copy), so it is looked at anew this often.
const LOOK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// Between two looks where the kernel has no watch to give.
const LOOK_BLIND: Duration = Duration::from_millis(200);

/// Starts the thread; it ends with the agent.
pub fn watch(hands: Arc<Hands>, runtime: Handle) {
    let watching = move || {
        let mut seen = None;
        loop {
            // The watch comes before the look, so nothing falls between the two.
            let pgdata = hands.site().dir.pgdata();
            let watched = Watched::begin(&pgdata);
            let written = written_at(&hands.site().dir.conf("postgresql.auto.conf"));
            if written != seen {
                match runtime.block_on(hands.take_back_overrides()) {
                    // Our own writing is looked at once more, and found to be ours.
                    Ok(_) => seen = written,
                    Err(Error::NotReady(why)) => tracing::debug!(%why, "what ALTER SYSTEM set waits"),
                    Err(why) => tracing::warn!(%why, "what ALTER SYSTEM set could not be taken back yet"),
                }
            }
            match watched {
                Some(watched) if seen == written => watched.wait(),
                Some(_) | None => std::thread::sleep(LOOK_BLIND),
            }
        }
    };
    let spawned = std::thread::Builder::new().name("overrides".into()).spawn(watching);
    spawned.expect("a process that can't start a thread can't run an agent");
}

/// Each writing is a new file; two may fall into one tick of the file system's clock.
fn written_at(path: &Path) -> Option<(u64, SystemTime)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.ino(), found.modified().ok()?))
}

/// A watch on the renames in one directory.
struct Watched(rustix::fd::OwnedFd);

impl Watched {
    fn begin(dir: &Path) -> Option<Watched> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        let renames = WatchFlags::MOVED_TO | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
        inotify::add_watch(&fd, dir, renames).ok()?;
        Some(Watched(fd))
    }

    /// Until a file there is renamed; an interrupted wait is a short one.
    fn wait(&self) {
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&LOOK));
    }
}
