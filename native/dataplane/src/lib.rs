//! The data plane of `servable`: it moves requests to servables and answers back.
//!
//! It decides nothing about versions. Python describes what should be routed as one immutable snapshot
//! ([`route`]); this crate parses requests ([`wire`]), groups them ([`batch`]), runs them ([`engine`]) and owns the
//! sockets ([`listen`]).

pub mod batch;
pub mod demand;
pub mod engine;
pub mod error;
pub mod http2;
pub mod listen;
pub mod memory;
pub mod metrics;
pub mod priority;
pub mod request_log;
pub mod route;
pub mod sampling;
pub mod servable;
pub mod skew;
pub mod wire;

pub use error::{Code, Error, Result};
