//! What the guard says to people: lines on stderr that are dropped rather than
//! waited for.
//!
//! A full disk, a reader that is gone or one that has stopped reading must not
//! end or delay the process that everything on this host hangs from: `eprintln!`
//! panics in the first two cases and waits for ever in the third.

use std::io::Write;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Longest line: a pipe that is writable takes this much without waiting (PIPE_BUF).
pub const LINE_BYTES_MAX: usize = 4096;

/// Says a line, as `eprintln!` does.
macro_rules! say {
    ($($words:tt)*) => { $crate::guard::log::write(&format!($($words)*)) };
}
pub(super) use say;

pub(super) fn write(words: &str) {
    let mut line = format!("guard: {words}").into_bytes();
    line.truncate(LINE_BYTES_MAX - 1);
    line.push(b'\n');
    // What can't be written is lost; there is nobody to tell.
    let _ = Lossy.write(&line);
}

/// Stderr, for whoever must not stand still because a log does: what it does not
/// take at once is dropped.
#[derive(Clone, Copy, Debug)]
pub struct Lossy;

impl Write for Lossy {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Held over both, so that nobody else takes the room that was seen.
        let mut stderr = std::io::stderr().lock();
        let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        let ready = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0);
        if ready && fds[0].revents() == Some(PollFlags::POLLOUT) {
            let _ = stderr.write_all(&bytes[..bytes.len().min(LINE_BYTES_MAX)]);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
