//! A connection: what it is made of, and its beginning and end.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};

use super::allowance::Allowance;
use super::clock::Clock;
use super::error::{ErrorCode, Fatal};
use super::flow::{LARGEST_WINDOW, ReceiveWindow, SendWindow};
use super::frame::{kind, put_head};
use super::headers::Block;
use super::hpack::{Decoder, Encoder};
use super::limits::Limits;
use super::output::Output;
use super::request::Head;
use super::settings::{FIRST_WINDOW, PeerSettings, put_settings};
use super::stream::{Incoming, Line, Stream};
use super::streams::Streams;

/// Unwritten bytes at which no more should be read from the client.
const BACKLOG: usize = 256 << 10;
/// Unwritten bytes at which a client that goes on asking is cut off.
const LARGEST_BACKLOG: usize = 4 << 20;
/// The ping whose answer says that the client knows of the shutdown.
pub(super) const DRAIN_PING: &[u8; 8] = b"drain\0\0\0";

/// What a client wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole request. `body` is all of its data: for a unary call, one gRPC frame.
    Request { stream: u32, head: Head, body: Bytes },
    /// A request that is not taken. The caller words the answer with [`Connection::refuse`].
    Rejected { stream: u32, head: Head, why: Rejection },
    /// The client gave up a request that was handed over before, or broke its stream: it needs no answer any more.
    Reset { stream: u32 },
}

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Its head is larger than `max_header_bytes`.
    HeadTooLarge,
    /// Its body is larger than `max_body_bytes`.
    BodyTooLarge,
    /// There is no room for its body.
    NoRoom,
    /// It was not there in time.
    TooSlow,
    /// The connection's [`Admission`] does not let it in.
    NotAdmitted,
}

/// Whether a request may come in, by its head.
pub type Admission = Box<dyn Fn(&Head) -> bool + Send>;

/// An event that is to be told. What belongs to it stays in its stream until then.
#[derive(Clone, Copy)]
pub(super) enum Notice {
    Request(u32),
    Rejected(u32, Rejection),
    Reset(u32),
}

/// What was known of a stream when it was forgotten.
pub(super) struct Removed {
    pub(super) incoming: Incoming,
    pub(super) delivered: bool,
}

/// How far the way to an orderly end has been gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    No,
    /// The client was told, but its requests may have crossed that: they are still taken.
    Announced,
    /// Streams above this one are refused.
    After(u32),
}

/// The server's side of one HTTP/2 connection.
pub struct Connection {
    pub(super) limits: Limits,
    pub(super) admission: Option<Admission>,
    pub(super) clock: Clock,
    pub(super) preface_seen: bool,
    pub(super) settings_seen: bool,
    pub(super) peer: PeerSettings,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    /// The head that is being read; empty in between.
    pub(super) head: Head,
    /// A header block whose end has not come yet.
    pub(super) block: Option<Block>,
    pub(super) streams: Streams,
    /// The highest stream that the client has opened.
    pub(super) last_id: u32,
    /// Streams that ended here before the client had sent all: what comes for them is dropped without a word.
    pub(super) ended_early: VecDeque<u32>,
    pub(super) receive_window: ReceiveWindow,
    pub(super) send_window: SendWindow,
    pub(super) resets: Allowance,
    pub(super) idle_frames: Allowance,
    pub(super) notices: VecDeque<Notice>,
    pub(super) output: Output,
    /// Streams that have something to send, in turn; see [`Line`].
    pub(super) ready: VecDeque<u32>,
    pub(super) starved: VecDeque<u32>,
    pub(super) held: usize,
    pub(super) room: usize,
    pub(super) ending: Ending,
    pub(super) client_leaves: bool,
    pub(super) fatal: Option<Fatal>,
}

impl Connection {
    /// A connection that has just been accepted. Our SETTINGS are in its output already.
    pub fn new(limits: Limits, now: Instant) -> Connection {
        let limits = limits.legal();
        let mut output = Output::default();
        output.write(|out| put_settings(out, &limits));
        if limits.connection_window > FIRST_WINDOW {
            output.write(|out| put_u32_frame(out, kind::WINDOW_UPDATE, 0, limits.connection_window - FIRST_WINDOW));
        }
        let peer = PeerSettings::default();
        Connection {
            admission: None,
            clock: Clock::new(now),
            preface_seen: false,
            settings_seen: false,
            peer,
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            head: Head::default(),
            block: None,
            streams: Streams::default(),
            last_id: 0,
            ended_early: VecDeque::new(),
            receive_window: ReceiveWindow::new(limits.connection_window),
            send_window: SendWindow::new(peer.window),
            resets: Allowance::new(limits.max_resets, now),
            idle_frames: Allowance::new(limits.max_idle_frames, now),
            notices: VecDeque::new(),
            output,
            ready: VecDeque::new(),
            starved: VecDeque::new(),
            held: 0,
            room: usize::MAX,
            ending: Ending::No,
            client_leaves: false,
            fatal: None,
            limits,
        }
    }

    /// Takes every whole frame from `input`; what is left there is the beginning of the next one, with room reserved
    /// for the rest of it. Bodies of some size that came in one frame are parts of `input`, not copies.
    ///
    /// `room` is what this connection may hold in all, as counted by [`Connection::held_bytes`]; requests that would
    /// take more are rejected. After a fatal error `input` is emptied unread.
    pub fn receive(&mut self, input: &mut BytesMut, now: Instant, room: usize) {
        if self.fatal.is_some() {
            return input.clear();
        }
        self.clock.heard(now);
        self.room = room;
        self.resets.fill(now);
        self.idle_frames.fill(now);
        let (before, in_block) = (input.len(), self.block.is_some());
        if let Err(fatal) = self.take_frames(input) {
            self.fail(fatal);
            return input.clear();
        }
        let completed = input.len() < before && !(in_block && self.block.is_some());
        self.clock.note_partial(!input.is_empty() || self.block.is_some(), completed);
    }

    /// What has happened since the last call, in order. To be called after `receive` and `check_time` until there is
    /// nothing more.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            let event = match self.notices.pop_front()? {
                Notice::Reset(stream) => return Some(Event::Reset { stream }),
                Notice::Request(id) => self.hand_over(id).map(|stream| Event::Request {
                    stream: id,
                    head: std::mem::take(&mut stream.head),
                    body: std::mem::take(&mut stream.body).finish(),
                }),
                Notice::Rejected(id, why) => self.hand_over(id).map(|stream| Event::Rejected {
                    stream: id,
                    head: std::mem::take(&mut stream.head),
                    why,
                }),
            };
            // What the client has reset in the meantime was never there.
            if event.is_some() {
                return event;
            }
        }
    }

    fn hand_over(&mut self, id: u32) -> Option<&mut Stream> {
        let stream = self.streams.get(id)?;
        stream.delivered = true;
        Some(stream)
    }

    /// What to write to the socket now. Large answers come in parts: ask again until nothing remains.
    pub fn output(&mut self) -> &mut Output {
        self.fill_output();
        &mut self.output
    }

    /// Whether to read from the socket: not while the client leaves its answers unread.
    pub fn wants_input(&self) -> bool {
        self.output.remaining() < BACKLOG
    }

    /// Memory held for streams that are open, in bytes: what has arrived of their requests counts until it is answered.
    /// What lies in the caller's `input` comes on top.
    pub fn held_bytes(&self) -> usize {
        self.held
    }

    /// Streams that are open.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Begins an orderly end: the client is told to send no more requests, those that have crossed this on their way are
    /// still taken, and what is open is finished.
    pub fn shut_down(&mut self) {
        if self.ending != Ending::No || self.fatal.is_some() {
            return;
        }
        self.ending = Ending::Announced;
        self.output.write(|out| {
            put_goaway(out, LARGEST_WINDOW, ErrorCode::NoError, "the server stops");
            put_ping(out, 0, DRAIN_PING);
        });
    }

    /// The client has answered: it knows that it must not open streams.
    pub(super) fn end_after_last(&mut self) {
        if self.ending == Ending::Announced {
            self.ending = Ending::After(self.last_id);
            let last = self.last_id;
            self.output.write(|out| put_goaway(out, last, ErrorCode::NoError, "the server stops"));
        }
    }

    /// From now on rejects the requests that `admission` does not let in, before their bodies are taken.
    pub fn admit_with(&mut self, admission: Admission) {
        self.admission = Some(admission);
    }

    /// Nothing is open and nothing is left to write: the socket can be closed.
    pub fn is_done(&self) -> bool {
        let leaving = self.client_leaves || matches!(self.ending, Ending::After(_));
        let finished = self.fatal.is_some() || leaving && self.streams.is_empty();
        self.clock.given_up() || finished && !self.output.has_remaining()
    }

    /// Why the connection was ended before its time, if it was.
    pub fn fatal(&self) -> Option<Fatal> {
        self.fatal
    }

    /// Ends the connection: the client is told why, and everything open is forgotten.
    pub(super) fn fail(&mut self, fatal: Fatal) {
        let last = match self.ending {
            Ending::After(last) => last,
            _ => self.last_id,
        };
        self.fatal = Some(fatal);
        self.clock.failed();
        self.streams.clear();
        self.notices.clear();
        self.ready.clear();
        self.starved.clear();
        self.block = None;
        self.held = 0;
        self.output.write(|out| put_goaway(out, last, fatal.code, fatal.reason));
    }

    /// Writes a frame that answers one of the client's.
    pub(super) fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Fatal> {
        self.output.write(write);
        if self.output.remaining() > LARGEST_BACKLOG {
            return Err(Fatal::calm("too many answers are left unread"));
        }
        Ok(())
    }

    /// Forgets a stream.
    pub(super) fn remove(&mut self, id: u32) -> Option<Removed> {
        let stream = self.streams.get(id)?;
        let removed = Removed { incoming: stream.incoming, delivered: stream.delivered };
        self.held -= stream.held;
        match stream.line {
            Line::None => {}
            Line::Ready => self.ready.retain(|&waiting| waiting != id),
            Line::Starved => self.starved.retain(|&waiting| waiting != id),
        }
        self.streams.remove(id);
        if self.streams.is_empty() {
            self.clock.nothing_open();
        }
        Some(removed)
    }

    /// What the client still sends on this stream was on its way when the stream ended.
    pub(super) fn expect_leftovers(&mut self, id: u32) {
        if self.ended_early.len() > self.limits.max_streams as usize {
            self.ended_early.pop_front();
        }
        self.ended_early.push_back(id);
    }

    /// Ends one stream with an error.
    pub(super) fn break_stream(&mut self, id: u32, code: ErrorCode) -> Result<(), Fatal> {
        if !self.resets.spend() {
            return Err(Fatal::calm("too many broken or refused streams"));
        }
        self.reset(id, code);
        self.reply(|_| ())
    }

    /// Breaks off a stream. The caller gets [`Event::Reset`] for it if it has seen its request.
    pub fn reset(&mut self, stream: u32, code: ErrorCode) {
        self.output.write(|out| put_u32_frame(out, kind::RST_STREAM, stream, code as u32));
        self.expect_leftovers(stream);
        if self.remove(stream).is_some_and(|stream| stream.delivered) {
            self.notices.push_back(Notice::Reset(stream));
        }
    }
}

/// Appends a frame whose payload is one number.
pub(super) fn put_u32_frame(out: &mut Vec<u8>, kind: u8, stream: u32, value: u32) {
    put_head(out, 4, kind, 0, stream);
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn put_ping(out: &mut Vec<u8>, flags: u8, payload: &[u8]) {
    put_head(out, payload.len(), kind::PING, flags, 0);
    out.extend_from_slice(payload);
}

fn put_goaway(out: &mut Vec<u8>, last: u32, code: ErrorCode, text: &str) {
    put_head(out, 8 + text.len(), kind::GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&(code as u32).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}
