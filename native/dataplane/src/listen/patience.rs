//! Slow and silent clients: a head that has begun must be whole within the time to send a request, an answer must be
//! read on within the same time, and a server that stops does not wait for connections on which nothing happens.
//!
//! hyper's own limit also ends connections that are merely idle between two requests, and so loses the request that a
//! client sends at that moment; and it costs a timer for each request. Here a connection looks at the clock when bytes
//! come and has one coarse timer.

use std::cell::Cell;
use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a connection is doing: waiting for a head, in the middle of one, or answering.
#[derive(Default)]
pub(super) struct Watch {
    begun: Cell<Option<Instant>>,
    answering: Cell<usize>,
    /// Bytes read and written; wraps around.
    moved: Cell<usize>,
    /// Since when the client reads nothing of an answer that is being written.
    unread: Cell<Option<Instant>>,
}

impl Watch {
    /// A head is whole: its request is being answered until the guard goes.
    pub(super) fn answering(self: &Rc<Self>) -> Answering {
        self.begun.set(None);
        self.answering.set(self.answering.get() + 1);
        Answering(self.clone())
    }

    /// Whether a head has been on its way for longer than `limit`.
    pub(super) fn is_late(&self, limit: Duration) -> bool {
        self.begun.get().is_some_and(|begun| begun.elapsed() > limit)
    }

    /// Whether an answer waits for longer than `limit` for the client to read on.
    pub(super) fn is_unread(&self, limit: Duration) -> bool {
        self.unread.get().is_some_and(|since| since.elapsed() > limit)
    }

    /// Returns once nothing is being answered, nothing waits to be written, and no byte has moved for `time`, or for up
    /// to twice that.
    pub(super) async fn quiet(&self, time: Duration) {
        loop {
            let before = self.moved.get();
            tokio::time::sleep(time).await;
            if self.answering.get() == 0 && self.moved.get() == before && self.unread.get().is_none() {
                return;
            }
        }
    }

    fn bytes_came(&self, count: usize) {
        self.bytes_moved(count);
        if self.answering.get() == 0 && self.begun.get().is_none() {
            self.begun.set(Some(Instant::now()));
        }
    }

    fn bytes_moved(&self, count: usize) {
        self.moved.set(self.moved.get().wrapping_add(count));
    }

    fn written(&self, polled: Poll<std::io::Result<usize>>) -> Poll<std::io::Result<usize>> {
        match &polled {
            Poll::Pending if self.unread.get().is_none() => self.unread.set(Some(Instant::now())),
            Poll::Pending => {}
            Poll::Ready(done) => {
                self.unread.set(None);
                self.bytes_moved(*done.as_ref().unwrap_or(&0));
            }
        }
        polled
    }
}

/// See [`Watch::answering`].
pub(super) struct Answering(Rc<Watch>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.set(self.0.answering.get() - 1);
    }
}

/// A stream that tells the watch when bytes come and go.
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) watch: Rc<Watch>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let count = buffer.filled().len() - before;
        if count > 0 {
            self.watch.bytes_came(count);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, data);
        self.watch.written(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.watch.written(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_head_that_has_begun_can_be_late() {
        let watch = Rc::new(Watch::default());
        assert!(!watch.is_late(Duration::ZERO), "idle is not late");
        watch.bytes_came(1);
        assert!(watch.is_late(Duration::ZERO));
        assert!(!watch.is_late(Duration::from_secs(60)));
        let answering = watch.answering();
        watch.bytes_came(1);
        assert!(!watch.is_late(Duration::ZERO), "bytes of the body are not a head");
        drop(answering);
        watch.bytes_came(1);
        assert!(watch.is_late(Duration::ZERO), "the next head");
    }

    #[test]
    fn an_answer_is_unread_from_the_first_write_that_waits_until_one_goes_on() {
        let watch = Watch::default();
        let _ = watch.written(Poll::Ready(Ok(1)));
        assert!(!watch.is_unread(Duration::ZERO));
        let _ = watch.written(Poll::Pending);
        assert!(watch.is_unread(Duration::ZERO));
        assert!(!watch.is_unread(Duration::from_secs(60)));
        let _ = watch.written(Poll::Ready(Ok(1)));
        assert!(!watch.is_unread(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_is_where_nothing_is_answered_and_no_byte_moves() {
        let (watch, second) = (Rc::new(Watch::default()), Duration::from_secs(1));
        let start = tokio::time::Instant::now();
        let answering = watch.answering();
        let busy = async {
            tokio::time::sleep(second * 5 / 2).await;
            drop(answering);
            watch.bytes_moved(1);
        };
        tokio::join!(watch.quiet(second), busy);
        assert_eq!(start.elapsed(), second * 4);
    }
}
