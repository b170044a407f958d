//! A stream whose first bytes can be looked at before they are read.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::http2::PREFACE;

/// Most bytes that are looked at.
const MOST: usize = PREFACE.len();

/// A stream, with the bytes in front of it that were looked at.
pub(super) struct Peeked<S> {
    stream: S,
    start: [u8; MOST],
    seen: usize,
    read: usize,
}

impl<S> Peeked<S> {
    pub(super) fn new(stream: S) -> Peeked<S> {
        Peeked { stream, start: [0; MOST], seen: 0, read: 0 }
    }
}

impl<S: AsyncRead + Unpin> Peeked<S> {
    /// The first bytes: at least `count` (24 at most), unless the stream ends before. Call it before reading.
    ///
    /// # Errors
    /// Those of the stream.
    pub(super) async fn peek(&mut self, count: usize) -> std::io::Result<&[u8]> {
        while self.seen < count.min(MOST) {
            match self.stream.read(&mut self.start[self.seen..]).await? {
                0 => break,
                more => self.seen += more,
            }
        }
        Ok(&self.start[..self.seen])
    }

    /// Whether a client begins with the preface of HTTP/2; `None` when it has gone.
    pub(super) async fn peek_http2(&mut self) -> Option<bool> {
        let mut count = 1;
        loop {
            let start = self.peek(count).await.ok()?;
            if start.len() < count {
                return None;
            }
            if *start != PREFACE[..start.len()] {
                return Some(false);
            }
            if start.len() == PREFACE.len() {
                return Some(true);
            }
            count = start.len() + 1;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Peeked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.read == self.seen {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let count = buffer.remaining().min(self.seen - self.read);
        buffer.put_slice(&self.start[self.read..self.read + count]);
        self.read += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Peeked<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
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

    #[tokio::test]
    async fn what_was_looked_at_is_read_first() {
        let mut stream = Peeked::new(&b"PRI * HTTP/2.0 and a body that is longer"[..]);
        assert!(stream.peek(3).await.unwrap().starts_with(b"PRI"));
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "PRI * HTTP/2.0 and a body that is longer");
    }

    #[tokio::test]
    async fn a_stream_that_ends_early_shows_what_there_was() {
        let mut stream = Peeked::new(&b"P"[..]);
        assert_eq!(stream.peek(24).await.unwrap(), b"P");
        assert_eq!(stream.peek(24).await.unwrap(), b"P");
    }
}
