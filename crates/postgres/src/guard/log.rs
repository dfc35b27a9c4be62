//! What the guard says to people: lines on stderr that are dropped rather than
//! waited for.
//!
//! A full disk, a reader that is gone or one that has stopped reading must not
//! end or delay the process that everything on this host hangs from: `eprintln!`
//! panics in the first two cases and waits for ever in the third.

use std::io::Write;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Longest line: a pipe that is writable takes this much without waiting.
pub const LINE_BYTES_MAX: usize = 2048;

/// Says a line, as `eprintln!` does.
macro_rules! say {
    ($($words:tt)*) => { $crate::guard::log::write(&format!($($words)*)) };
}
pub(super) use say;

pub(super) fn write(words: &str) {
    let mut line = format!("guard: {words}").into_bytes();
    line.truncate(LINE_BYTES_MAX - 1);
    line.push(b'\n');
    let stderr = std::io::stderr();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    let ready = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0);
    if ready && fds[0].revents() == Some(PollFlags::POLLOUT) {
        // What can't be written is lost; there is nobody to tell.
        let _ = stderr.lock().write_all(&line);
    }
}
