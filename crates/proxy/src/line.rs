//! One side's socket with what came in and what could not go out yet.
//!
//! Buffers are lent while there is something in them: an idle connection has none.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use route::Plan;

use crate::stream::Stream;

/// Bytes of a lent buffer: what one read takes at most.
pub const BUFFER_BYTES: usize = 32 << 10;
/// Buffers that are kept for the next one who needs one, per thread.
const SPARE_MAX: usize = 64;
/// Stretches that are written by one call.
const SLICES_MAX: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Buffers that this thread keeps for the next one who needs one.
#[must_use]
pub fn buffers_spare() -> usize {
    SPARE.with_borrow(Vec::len)
}

/// What came in and was not used yet.
#[derive(Debug, Default)]
pub struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    /// What is there.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Uses up the first `n` bytes; an empty buffer goes back.
    pub fn consume(&mut self, n: usize) {
        self.start += n;
        if self.start >= self.end {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        self.start = 0;
        self.end = 0;
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.len() == BUFFER_BYTES {
            SPARE.with_borrow_mut(|spare| {
                if spare.len() < SPARE_MAX {
                    spare.push(bytes);
                }
            });
        }
    }

    /// Makes room for so many bytes from the first unused one on, and at least for one more.
    fn make_room(&mut self, whole: usize) {
        if self.bytes.is_empty() {
            let spare = SPARE.with_borrow_mut(Vec::pop);
            self.bytes = spare.unwrap_or_else(|| vec![0; BUFFER_BYTES]);
        }
        let wanted = whole.max(self.end - self.start + 1);
        if self.start > 0 && self.bytes.len() - self.start < wanted.max(BUFFER_BYTES / 2) {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.bytes.len() - self.start < wanted {
            self.bytes.resize(wanted, 0);
        }
    }

    /// Puts bytes in front of what is there.
    pub fn prepend(&mut self, bytes: &[u8]) {
        let all = [bytes, self.filled()].concat();
        self.give_back();
        self.end = all.len();
        self.bytes = all;
    }

    /// Holds what is there in as little memory as it takes, for a long wait.
    pub fn park(&mut self) {
        if self.bytes.len() == BUFFER_BYTES && self.end > self.start {
            let all = self.filled().to_vec();
            self.give_back();
            self.end = all.len();
            self.bytes = all;
        }
    }
}

/// One side.
pub struct Line {
    stream: Stream,
    /// What it said.
    pub input: Input,
    /// Bytes needed from the first unused one on, before the next look.
    pub whole: usize,
    rest: Vec<u8>,
    rest_at: usize,
    flushes: bool,
}

impl Line {
    /// Of a socket.
    #[must_use]
    pub fn new(stream: Stream) -> Line {
        Line { stream, input: Input::default(), whole: 0, rest: Vec::new(), rest_at: 0, flushes: false }
    }

    /// The socket.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The socket and nothing else.
    #[must_use]
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// Whether nothing can have come since it was read last, as far as this thread's poll knows: no call of the
    /// system's, and nobody is woken later.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.input.end == self.input.start && self.stream.is_quiet()
    }

    /// Reads once; 0 bytes at the end.
    #[inline]
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Most looks find nothing: a buffer is lent only where something is.
        ready!(self.stream.poll_readable(cx))?;
        self.poll_something(cx)
    }

    /// The same for a socket that one task asks all the time: while it `listens`, and the poll knows nothing new, it is
    /// woken without asking again.
    #[inline]
    pub fn poll_news(&mut self, cx: &mut Context<'_>, listens: &mut bool) -> Poll<io::Result<usize>> {
        if *listens && self.is_quiet() {
            return Poll::Pending;
        }
        let polled = self.poll_fill(cx);
        // Without budget tokio says that nothing is there, and notes no waker (`poll_proceed` in its task/coop).
        *listens = polled.is_pending() && tokio::task::coop::has_budget_remaining();
        polled
    }

    fn poll_something(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            self.input.make_room(self.whole);
            let room = &mut self.input.bytes[self.input.end..];
            let polled = self.stream.poll_read(cx, room);
            match &polled {
                Poll::Ready(Ok(n)) => self.input.end += n,
                Poll::Pending | Poll::Ready(Err(_)) if self.input.start == self.input.end => {
                    self.input.give_back();
                }
                Poll::Pending | Poll::Ready(Err(_)) => {}
            }
            match polled {
                // There was nothing after all.
                Poll::Ready(Err(why)) if why.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.stream.poll_readable(cx))?;
                }
                polled => return polled,
            }
        }
    }

    /// Whether everything that was to be sent is with the kernel.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.rest.is_empty() && !self.flushes
    }

    /// Sends a plan made from `came_in`; what does not go now is kept for `poll_drain`.
    ///
    /// # Errors
    /// What the socket says: it is of no more use.
    #[inline]
    pub fn send(&mut self, cx: &mut Context<'_>, plan: &Plan, came_in: &[u8]) -> io::Result<()> {
        if plan.is_empty() { Ok(()) } else { self.send_some(cx, plan, came_in) }
    }

    fn send_some(&mut self, cx: &mut Context<'_>, plan: &Plan, came_in: &[u8]) -> io::Result<()> {
        if !self.rest.is_empty() {
            plan.slices(came_in).for_each(|slice| self.rest.extend_from_slice(slice));
            return Ok(());
        }
        self.flushes = self.stream.is_tls();
        if let Some(all) = plan.single(came_in) {
            let sent = self.write(cx, &[IoSlice::new(all)])?;
            self.rest.extend_from_slice(&all[sent..]);
        } else {
            self.send_pieces(cx, plan, came_in)?;
        }
        match self.poll_drain(cx) {
            Poll::Ready(drained) => drained,
            Poll::Pending => Ok(()),
        }
    }

    fn send_pieces(&mut self, cx: &mut Context<'_>, plan: &Plan, came_in: &[u8]) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (place, slice) in slices.iter_mut().zip(plan.slices(came_in)) {
            *place = IoSlice::new(slice);
            count += 1;
        }
        let mut sent = self.write(cx, &slices[..count])?;
        for slice in plan.slices(came_in) {
            let skipped = sent.min(slice.len());
            sent -= skipped;
            self.rest.extend_from_slice(&slice[skipped..]);
        }
        Ok(())
    }

    /// As much as goes now.
    fn write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.stream.poll_write(cx, slices) {
            Poll::Ready(written) => written,
            Poll::Pending => Ok(0),
        }
    }

    /// Sends bytes of ours.
    ///
    /// # Errors
    /// As `send`.
    pub fn say(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        let mut plan = Plan::default();
        plan.make(|to| to.extend_from_slice(bytes));
        self.send(cx, &plan, &[])
    }

    /// Sends what is left.
    #[inline]
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_drained() { Poll::Ready(Ok(())) } else { self.poll_rest(cx) }
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.rest_at < self.rest.len() {
            let n = ready!(self.stream.poll_write(cx, &[IoSlice::new(&self.rest[self.rest_at..])]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.rest_at += n;
        }
        if self.rest_at > 0 {
            self.rest = Vec::new();
            self.rest_at = 0;
        }
        if self.flushes {
            ready!(self.stream.poll_flush(cx))?;
            self.flushes = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until a whole message is there and gives its header and body.
    ///
    /// # Errors
    /// What the socket says; `UnexpectedEof` at the end; `InvalidData` for one longer than `bytes_max`.
    pub async fn message(&mut self, bytes_max: u64) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let there = self.input.filled();
            let header = wire::frame::Header::read(there).map_err(|_| io::ErrorKind::InvalidData)?;
            if let Some(header) = header {
                if header.bytes() > bytes_max {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                if let Some(body) = header.body(there) {
                    let body = body.to_vec();
                    self.input.consume(wire::frame::HEADER_BYTES + body.len());
                    return Ok((header.tag, body));
                }
                self.whole = usize::try_from(header.bytes()).unwrap_or(usize::MAX);
            }
            let n = std::future::poll_fn(|cx| self.poll_fill(cx)).await?;
            self.whole = 0;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends what is left, and says that nothing more comes.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        self.stream.poll_shutdown(cx)
    }

    /// Sends bytes and waits until they are with the kernel.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn tell(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut said = false;
        std::future::poll_fn(|cx| {
            if !std::mem::replace(&mut said, true) {
                self.say(cx, bytes)?;
            }
            self.poll_drain(cx)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::time::Duration;

    use tokio::net::UnixStream;
    use tokio::task::{LocalSet, coop};

    use super::*;

    /// Longest that the test waits for what comes at once.
    const WAIT_LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn whoever_asks_when_its_time_is_up_is_still_woken() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let heard = LocalSet::new().block_on(&runtime, async {
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            let mut line = Line::new(Stream::Unix(ours));
            let (mut listens, mut polls) = (false, 0);
            let task = tokio::task::spawn_local(poll_fn(move |cx| {
                polls += 1;
                while polls == 1 && coop::has_budget_remaining() {
                    let _ = pin!(coop::consume_budget()).poll(cx);
                }
                let polled = line.poll_news(cx, &mut listens);
                if polls == 2 {
                    assert!(polled.is_pending());
                    assert_eq!(theirs.try_write(b"x").expect("room"), 1);
                }
                polled
            }));
            tokio::time::timeout(WAIT_LIMIT, task).await
        });
        let n = heard.expect("what came has woken nobody").expect("no panic").expect("a byte");
        assert_eq!(n, 1);
    }
}
