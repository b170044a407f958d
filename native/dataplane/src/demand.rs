//! Models that requests wait for: noted by those who wait, taken by whoever loads models.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The names of models that are asked for and not loaded. There are never more than models that can be loaded on demand.
#[derive(Default)]
pub struct Demand {
    state: Mutex<State>,
    came: Condvar,
}

#[derive(Default)]
struct State {
    names: BTreeSet<String>,
    closed: bool,
}

impl Demand {
    /// A request waits for this model.
    pub fn note(&self, model: &str) {
        let mut state = self.lock();
        if state.names.insert(model.to_owned()) {
            self.came.notify_all();
        }
    }

    /// The models that were noted since the last call, by name; waits for the first one. Empty after `timeout`, None once
    /// closed.
    pub fn wait(&self, timeout: Duration) -> Option<Vec<String>> {
        let waits = |state: &mut State| state.names.is_empty() && !state.closed;
        let waited = self.came.wait_timeout_while(self.lock(), timeout, waits);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (!state.closed).then(|| std::mem::take(&mut state.names).into_iter().collect())
    }

    /// Nobody will be waited for any more.
    pub fn close(&self) {
        let mut state = self.lock();
        state.names.clear();
        state.closed = true;
        self.came.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_many_wait_for_is_told_once() {
        let demand = Demand::default();
        ["b", "a", "b"].into_iter().for_each(|model| demand.note(model));
        assert_eq!(demand.wait(Duration::ZERO).unwrap(), ["a", "b"]);
        assert!(demand.wait(Duration::ZERO).unwrap().is_empty());
    }

    #[test]
    fn who_waits_when_it_is_closed_goes_on_at_once() {
        let demand = Demand::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| demand.wait(Duration::from_secs(60)));
            demand.close();
            assert!(waiting.join().unwrap().is_none());
        });
    }
}
