//! What the guard says to people: lines on stderr that are dropped rather than
//! waited for.
//!
//! A full disk, a reader that is gone or one that has stopped reading must not
//! end or delay the process that everything on this host hangs from: `eprintln!`
//! panics in the first two cases and waits for ever in the third. And a disk that
//! hangs keeps whoever writes to it in a sleep that nothing ends, though the file
//! says that it takes more: so a thread writes, which does nothing else.

use std::borrow::Cow;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow};

/// Lines that wait for a log which takes none at the moment; more are dropped.
const LINES_MAX: usize = 512;
/// Longest that the end of a process waits for its last lines.
const LAST_LINES_LIMIT: Duration = Duration::from_millis(500);
/// Room on the stack of who writes: a line is on the heap.
const STACK_BYTES: usize = 128 * 1024;
/// Lines that were handed over and are not written yet.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Longest line: a pipe that is writable takes this much without waiting (PIPE_BUF).
pub const LINE_BYTES_MAX: usize = 4096;

/// The end of a line that was longer.
const CUT: &[u8] = b" [...]\n";

/// Says a line, as `eprintln!` does.
macro_rules! say {
    ($($words:tt)*) => { $crate::guard::log::write(&format!($($words)*)) };
}
pub(super) use say;

pub(super) fn write(words: &str) {
    // What can't be written is lost; there is nobody to tell.
    let _ = Lossy.write(format!("guard: {words}\n").as_bytes());
}

/// Stderr, for whoever must not stand still because a log does: what it does not
/// take at once is dropped.
#[derive(Clone, Copy, Debug)]
pub struct Lossy;

impl Write for Lossy {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(writer) = writer() {
            WAITING.fetch_add(1, Ordering::Relaxed);
            if writer.try_send(at_most_a_line(bytes).into_owned()).is_err() {
                WAITING.fetch_sub(1, Ordering::Relaxed);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Waits a little until all that was said is written, at the end of a process.
pub fn wait_until_written() {
    let began = Instant::now();
    while WAITING.load(Ordering::Relaxed) > 0 && began.elapsed() < LAST_LINES_LIMIT {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Where lines are handed over; `None` where the system has no thread for us.
fn writer() -> Option<&'static SyncSender<Vec<u8>>> {
    static WRITER: OnceLock<Option<SyncSender<Vec<u8>>>> = OnceLock::new();
    let begin = || {
        let (to, from) = sync_channel(LINES_MAX);
        let thread = std::thread::Builder::new().name("log".to_string()).stack_size(STACK_BYTES);
        // Signals are the other thread's: this one is born with all of them blocked.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).ok();
        let began = thread.spawn(move || put_all(&from));
        if let Some(before) = before {
            let _ = before.thread_set_mask();
        }
        began.ok().map(|_| to)
    };
    WRITER.get_or_init(begin).as_ref()
}

fn put_all(lines: &Receiver<Vec<u8>>) {
    for line in lines {
        put(&line);
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

fn put(line: &[u8]) {
    // Held over both, so that nobody else takes the room that was seen.
    let mut stderr = std::io::stderr().lock();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    let ready = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0);
    if ready && fds[0].revents() == Some(PollFlags::POLLOUT) {
        let _ = stderr.write_all(line);
    }
}

/// Cut short where it is too long, at a character's end, and still a line of its own.
fn at_most_a_line(bytes: &[u8]) -> Cow<'_, [u8]> {
    if bytes.len() <= LINE_BYTES_MAX {
        return Cow::Borrowed(bytes);
    }
    let mut end = LINE_BYTES_MAX - CUT.len();
    while end > 0 && bytes.get(end).is_some_and(|b| b & 0xC0 == 0x80) {
        end -= 1;
    }
    Cow::Owned([&bytes[..end], CUT].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_cut_short_and_ends() {
        let whole = format!("{}\n", "x".repeat(LINE_BYTES_MAX - 1));
        assert_eq!(*at_most_a_line(whole.as_bytes()), *whole.as_bytes());
        for pad in 0..3 {
            // Characters of three bytes, so that a cut falls on each of their bytes.
            let long = format!("{}{}\n", "x".repeat(pad), "\u{20AC}".repeat(LINE_BYTES_MAX));
            let cut = at_most_a_line(long.as_bytes()).into_owned();
            assert!(cut.len() <= LINE_BYTES_MAX && cut.len() > LINE_BYTES_MAX - 10);
            let text = String::from_utf8(cut).expect("cut between characters");
            assert_eq!((text.matches('\n').count(), text.ends_with(" [...]\n")), (1, true));
        }
    }
}
