//! The server's side of HTTP/2 for gRPC, without any input or output of its own.
//!
//! Bytes from the client go in, events come out; answers go in, bytes for the client come out. The caller owns the
//! socket and the clock:
//!
//! ```
//! use std::time::Instant;
//!
//! use bytes::{Buf, Bytes, BytesMut};
//! use dataplane::http2::{Connection, Event, Limits, PREFACE};
//!
//! let mut connection = Connection::new(Limits::default(), Instant::now());
//! // Preface, SETTINGS, HEADERS (POST http /), DATA with an empty message.
//! let mut input = BytesMut::from(&PREFACE[..]);
//! input.extend_from_slice(b"\0\0\0\x04\0\0\0\0\0");
//! input.extend_from_slice(b"\0\0\x03\x01\x04\0\0\0\x01\x83\x86\x84");
//! input.extend_from_slice(b"\0\0\x05\0\x01\0\0\0\x01\0\0\0\0\0");
//! connection.receive(&mut input, Instant::now(), usize::MAX);
//! while let Some(event) = connection.next_event() {
//!     if let Event::Request { stream, body, .. } = event {
//!         assert_eq!(&body[..], b"\0\0\0\0\0");
//!         connection.respond(stream, Bytes::from_static(b"\0\0\0\0\0"));
//!     }
//! }
//! let output = connection.output();
//! let written = output.chunk().len();
//! output.advance(written);
//! assert!(!connection.is_done());
//! ```
//!
//! Sources: RFC 9113 (HTTP/2), RFC 7541 (HPACK), and
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>. Kept apart from the RFC on purpose: blanks around
//! a field's value are stripped and not refused (gRPC allows it), priorities are ignored, nothing is pushed, CONNECT
//! and upgrades lead nowhere.
//!
//! Memory is bounded by [`Limits`], by the `room` given to [`Connection::receive`], and by a caller that reads from the
//! socket only while [`Connection::wants_input`] says so. Time is linear in the bytes that come in.

mod allowance;
mod body;
mod clock;
mod connection;
mod data;
mod error;
mod flow;
mod frame;
mod headers;
mod hpack;
mod limits;
mod output;
mod receive;
mod request;
mod respond;
mod settings;
mod stream;
mod streams;
#[cfg(test)]
mod tests;

pub use connection::{Admission, Connection, Event, Rejection};
pub use error::{ErrorCode, Fatal};
pub use frame::PREFACE;
pub use limits::Limits;
pub use output::Output;
pub use request::Head;
pub use respond::Fields;
