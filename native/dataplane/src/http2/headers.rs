//! Header blocks: the beginning of requests, and the trailers behind their bodies.

use super::body::Body;
use super::connection::{Connection, Ending, Notice, Rejection};
use super::error::{ErrorCode, Fatal, Fault};
use super::frame::{FrameHead, flag};
use super::request::{Head, HeadReader, ReadHead};
use super::stream::{Incoming, Stream};

/// What an open stream takes beside its head and its body.
pub(super) const STREAM_SIZE: usize = size_of::<Stream>();

/// A header block in several frames.
pub(super) struct Block {
    pub(super) stream: u32,
    ended: bool,
    bytes: Vec<u8>,
}

impl Connection {
    pub(super) fn take_headers(&mut self, head: &FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if head.stream.is_multiple_of(2) {
            return Err(Fatal::protocol("requests have odd streams").into());
        }
        let bytes = &payload[head.content(payload)?];
        let ended = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.take_block(head.stream, ended, bytes);
        }
        self.check_block(bytes.len())?;
        self.block = Some(Block { stream: head.stream, ended, bytes: bytes.to_vec() });
        Ok(())
    }

    pub(super) fn take_continuation(&mut self, head: &FrameHead, payload: &[u8]) -> Result<(), Fault> {
        self.tolerate()?;
        let Some(mut block) = self.block.take() else { return Ok(()) };
        self.check_block(block.bytes.len() + payload.len())?;
        block.bytes.extend_from_slice(payload);
        if head.has(flag::END_HEADERS) {
            return self.take_block(block.stream, block.ended, &block.bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A block that cannot be kept cannot be decoded either, and then the tables differ: the connection has to end.
    fn check_block(&self, length: usize) -> Result<(), Fatal> {
        match length <= self.limits.max_header_bytes {
            true => Ok(()),
            false => Err(Fatal::calm("a header block is too large")),
        }
    }

    fn take_block(&mut self, id: u32, ended: bool, block: &[u8]) -> Result<(), Fault> {
        let mut reader = HeadReader::new(self.limits.max_header_bytes);
        let head = &mut self.head;
        // Decoded in any case: it changes the table.
        self.decoder.decode(block, |field| reader.add(head, field)).map_err(|error| Fatal::compression(error.0))?;
        let outcome = self.take_head(id, ended, &reader);
        if !self.head.is_empty() {
            self.head = Head::default();
        }
        outcome
    }

    fn take_head(&mut self, id: u32, ended: bool, reader: &HeadReader) -> Result<(), Fault> {
        if id > self.last_id {
            self.last_id = id;
            return self.open(id, ended, reader);
        }
        match self.streams.get(id).map(|stream| stream.incoming) {
            Some(Incoming::Ended) => Err(Fault::Stream { id, code: ErrorCode::StreamClosed }),
            Some(_) => self.take_trailers(id, ended && reader.is_trailers()),
            None if self.ended_early.contains(&id) => Ok(self.tolerate()?),
            None => Err(Fatal::closed("HEADERS on a closed stream").into()),
        }
    }

    fn open(&mut self, id: u32, ended: bool, reader: &HeadReader) -> Result<(), Fault> {
        if matches!(self.ending, Ending::After(_)) || self.streams.len() >= self.limits.max_streams as usize {
            return Err(Fault::Stream { id, code: ErrorCode::RefusedStream });
        }
        let malformed = Fault::Stream { id, code: ErrorCode::ProtocolError };
        let Some(read) = reader.finish(&self.head) else { return Err(malformed) };
        let held = STREAM_SIZE + self.head.len();
        let why = self.objection(&read, held);
        let stream = self.streams.open(id, self.clock.now(), self.limits.stream_window, self.peer.window);
        stream.content_length = read.content_length;
        stream.held = held;
        self.held += held;
        std::mem::swap(&mut stream.head, &mut self.head);
        match why {
            _ if !stream.length_fits(ended) => return Err(malformed),
            Some(why) => self.reject(id, why, ended),
            None if ended => self.complete(id),
            None => self.clock.expect_request(&self.limits),
        }
        Ok(())
    }

    /// Why a request is not taken, as far as its head can tell.
    fn objection(&self, read: &ReadHead, needed: usize) -> Option<Rejection> {
        let largest = self.limits.max_body_bytes as u64;
        if read.too_large {
            return Some(Rejection::HeadTooLarge);
        }
        if self.admission.as_ref().is_some_and(|admits| !admits(&self.head)) {
            return Some(Rejection::NotAdmitted);
        }
        if largest > 0 && read.content_length.is_some_and(|length| length > largest) {
            return Some(Rejection::BodyTooLarge);
        }
        (self.held + needed > self.room).then_some(Rejection::NoRoom)
    }

    fn take_trailers(&mut self, id: u32, well_formed: bool) -> Result<(), Fault> {
        match self.streams.get(id) {
            Some(stream) if well_formed && stream.length_fits(true) => match stream.incoming {
                Incoming::Open => self.complete(id),
                _ => stream.incoming = Incoming::Ended,
            },
            _ => return Err(Fault::Stream { id, code: ErrorCode::ProtocolError }),
        }
        Ok(())
    }

    /// Hands over a request that is whole.
    pub(super) fn complete(&mut self, id: u32) {
        let Some(stream) = self.streams.get(id) else { return };
        stream.incoming = Incoming::Ended;
        self.idle_frames.earn(4);
        self.notices.push_back(Notice::Request(id));
    }

    /// Hands over a request that is not taken, and drops its body.
    pub(super) fn reject(&mut self, id: u32, why: Rejection, ended: bool) {
        let Some(stream) = self.streams.get(id) else { return };
        stream.incoming = if ended { Incoming::Ended } else { Incoming::Dropped };
        self.held -= stream.held - STREAM_SIZE;
        stream.held = STREAM_SIZE;
        stream.body = Body::default();
        self.notices.push_back(Notice::Rejected(id, why));
    }
}
