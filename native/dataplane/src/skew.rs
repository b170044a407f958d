//! Inputs that are kept for Python to compare with the feature statistics of their version, and what it found.
//!
//! A request that is chosen costs its thread the references to its inputs. Python takes what waits about once a second
//! (`src/servable/server/skew.py`) and counts there. What has no room is dropped and counted, and no request waits.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::metrics::head;
use crate::wire::{Signature, Tensor};

/// Most bytes that wait to be taken.
const MOST_BYTES: usize = 16 << 20;
/// Most requests that wait to be taken: each costs Python some microseconds.
const MOST_SAMPLES: usize = 2_000;

/// The inputs of one request.
pub struct InputSample {
    pub model: Arc<str>,
    pub version: i64,
    pub signature: Arc<Signature>,
    /// In the order of `signature.inputs`.
    pub inputs: Vec<Tensor>,
}

/// What waits to be taken, and the lines about what was.
#[derive(Default)]
pub struct Skew {
    waiting: Mutex<Waiting>,
    page: Mutex<String>,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    samples: Vec<InputSample>,
    bytes: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Skew {
    /// Keeps the inputs of a request; drops them where there is no room.
    pub fn push(&self, sample: InputSample) {
        let bytes: usize = sample.inputs.iter().map(|input| input.byte_len() + size_of::<Tensor>()).sum();
        let mut waiting = lock(&self.waiting);
        if waiting.samples.len() < MOST_SAMPLES && waiting.bytes + bytes <= MOST_BYTES {
            waiting.bytes += bytes;
            waiting.samples.push(sample);
            return;
        }
        drop(waiting);
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// What has come since the last call.
    pub fn take(&self) -> Vec<InputSample> {
        std::mem::take(&mut *lock(&self.waiting)).samples
    }

    /// What the page of metrics says from now on.
    pub fn set_page(&self, page: String) {
        *lock(&self.page) = page;
    }

    /// Prometheus lines; none where no version is watched.
    pub fn write_metrics(&self, page: &mut String) {
        page.push_str(&lock(&self.page));
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            let name = "servable_skew_dropped_total";
            head(page, name, "counter", "Sampled requests whose inputs were not looked at: they came too fast");
            let _ = writeln!(page, "{name} {dropped}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    fn sample(bytes: usize) -> InputSample {
        let input = Tensor::from_vec(smallvec![bytes as i64], vec![0u8; bytes]).unwrap();
        InputSample { model: "m".into(), version: 1, signature: Arc::default(), inputs: vec![input] }
    }

    #[test]
    fn what_was_taken_makes_room() {
        let skew = Skew::default();
        skew.push(sample(MOST_BYTES - 1024));
        skew.push(sample(2048));
        assert_eq!(skew.take().len(), 1);
        skew.push(sample(2048));
        assert_eq!(skew.take().len(), 1);
        let mut page = String::new();
        skew.write_metrics(&mut page);
        assert!(page.ends_with("servable_skew_dropped_total 1\n"), "{page}");
    }

    #[test]
    fn only_so_many_requests_wait() {
        let skew = Skew::default();
        (0..MOST_SAMPLES + 3).for_each(|_| skew.push(sample(1)));
        assert_eq!(skew.take().len(), MOST_SAMPLES);
    }

    #[test]
    fn the_page_is_what_was_said_last() {
        let skew = Skew::default();
        skew.set_page("a 1\n".to_owned());
        skew.set_page("b 1\n".to_owned());
        let mut page = String::new();
        skew.write_metrics(&mut page);
        assert_eq!(page, "b 1\n");
    }
}
