//! A share of the requests, each chosen by chance.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Which requests are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Of all numbers of 64 bits, those below are chosen.
    threshold: u64,
}

impl Share {
    /// A share from 0 to 1.
    pub fn new(share: f64) -> Share {
        Share { threshold: (share.clamp(0.0, 1.0) * u64::MAX as f64) as u64 }
    }

    /// Whether the next request is chosen.
    pub fn chooses(self) -> bool {
        self.threshold == u64::MAX || random() < self.threshold
    }
}

/// A number that nobody need be unable to guess: xorshift (Marsaglia, 2003), seeded once a thread.
fn random() -> u64 {
    thread_local! {
        static STATE: std::cell::Cell<u64> = std::cell::Cell::new(RandomState::new().build_hasher().finish() | 1);
    }
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_as_many_are_chosen_as_the_share_says() {
        let chosen = |share| (0..10_000).filter(|_| Share::new(share).chooses()).count();
        assert_eq!((chosen(0.0), chosen(1.0), chosen(f64::NAN)), (0, 10_000, 0));
        assert!((2_000..3_000).contains(&chosen(0.25)));
    }
}
