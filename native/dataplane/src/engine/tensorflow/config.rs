//! The serialized `ConfigProto` and `RunOptions` that sessions are given.
//!
//! Source: tensorflow/core/protobuf/config.proto.

use std::time::{Duration, Instant};

use super::Options;
use crate::wire::protobuf::put_varint;

/// `ConfigProto`: the one of the user's file between threads, of which it may say otherwise, and what it cannot change.
pub(super) fn session_config(options: &Options) -> Vec<u8> {
    let mut config = Vec::new();
    for (field, threads) in [(2, options.intra_op_threads), (5, options.inter_op_threads)] {
        if threads > 0 {
            put(&mut config, field, threads as u64);
        }
    }
    config.extend(&options.session_config);
    let mut gpu = Vec::new();
    if options.gpu_memory_fraction > 0.0 {
        gpu.push(1 << 3 | 1);
        gpu.extend(options.gpu_memory_fraction.to_le_bytes());
    }
    if options.gpu_memory_growth {
        put(&mut gpu, 4, 1);
    }
    if !gpu.is_empty() {
        put_varint(&mut config, 6 << 3 | 2);
        put_varint(&mut config, gpu.len() as u64);
        config.extend(gpu);
    }
    // A graph that was pinned to a GPU runs where there is none.
    put(&mut config, 7, 1);
    config
}

/// `RunOptions` of a run on the calling thread. Its end cannot be forced.
pub(super) const INLINE: &[u8] = b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";

/// `RunOptions` of a run on TensorFlow's own threads, which is given up at the deadline.
pub(super) fn pooled(deadline: Option<Instant>) -> Vec<u8> {
    let mut options = Vec::new();
    if let Some(deadline) = deadline {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        put(&mut options, 2, u64::try_from(left.as_millis()).unwrap_or(u64::MAX >> 1));
    }
    options
}

fn put(message: &mut Vec<u8>, field: u64, value: u64) {
    put_varint(message, field << 3);
    put_varint(message, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_how_many_threads_and_the_options_what_gpus_give() {
        let options = Options {
            intra_op_threads: 3,
            gpu_memory_fraction: 0.5,
            gpu_memory_growth: true,
            session_config: vec![2 << 3, 7],
            ..Options::default()
        };
        let expected = b"\x10\x03\x10\x07\x32\x0b\x09\0\0\0\0\0\0\xe0\x3f\x20\x01\x38\x01";
        assert_eq!(session_config(&options), expected);
    }

    #[test]
    fn a_deadline_is_told_in_milliseconds() {
        assert_eq!(pooled(None), b"");
        assert_eq!(pooled(Some(Instant::now())), b"\x10\x01", "at least one: zero would mean none");
    }
}
