//! A pool: so many of something at most, made when they are needed, each lent to one caller at a time.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::{Code, Error, Result};

pub(super) struct Pool<T> {
    limit: usize,
    state: Mutex<State<T>>,
    returned: Condvar,
}

struct State<T> {
    idle: Vec<T>,
    /// How many there are, lent ones too.
    made: usize,
}

impl<T> Pool<T> {
    /// An empty pool for at most `limit`, which is at least 1.
    pub(super) fn new(limit: usize) -> Pool<T> {
        Pool { limit, state: Mutex::new(State { idle: Vec::new(), made: 0 }), returned: Condvar::new() }
    }

    /// Calls `work` with one of them, the one that was used last if several are idle; makes one if none is and there may be
    /// more, else waits for one. One that `work` leaves empty is not put back.
    ///
    /// # Errors
    /// What `make` and `work` say; `DEADLINE_EXCEEDED` when none came back in time.
    pub(super) fn with<R>(
        &self,
        deadline: Option<Instant>,
        make: impl FnOnce() -> Result<T>,
        work: impl FnOnce(&mut Option<T>) -> Result<R>,
    ) -> Result<R> {
        let taken = self.take(deadline)?;
        // Puts it back even if one of them panics; else its place would be lost.
        let mut lent = Lent { pool: self, item: taken };
        if lent.item.is_none() {
            lent.item = Some(make()?);
        }
        work(&mut lent.item)
    }

    /// An idle one, or the right to make one.
    fn take(&self, deadline: Option<Instant>) -> Result<Option<T>> {
        let mut state = self.lock();
        loop {
            if let Some(item) = state.idle.pop() {
                return Ok(Some(item));
            }
            if state.made < self.limit {
                state.made += 1;
                return Ok(None);
            }
            state = match deadline {
                None => self.returned.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Error::new(
                            Code::DeadlineExceeded,
                            "The deadline passed while all interpreters of the model were busy",
                        ));
                    }
                    self.returned.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Lent<'a, T> {
    pool: &'a Pool<T>,
    item: Option<T>,
}

impl<T> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        match self.item.take() {
            Some(item) => state.idle.push(item),
            None => state.made -= 1,
        }
        drop(state);
        self.pool.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn there_are_never_more_than_the_limit_and_one_is_used_again() {
        let pool = Pool::new(2);
        let (made, running) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let make = || Ok(made.fetch_add(1, Ordering::Relaxed));
                        let work = |_: &mut Option<usize>| {
                            assert!(running.fetch_add(1, Ordering::SeqCst) < 2);
                            running.fetch_sub(1, Ordering::SeqCst);
                            Ok(())
                        };
                        pool.with(None, make, work).unwrap();
                    }
                });
            }
        });
        assert!(made.into_inner() <= 2);
    }

    #[test]
    fn one_that_is_left_out_is_made_anew() {
        let pool = Pool::new(1);
        let leave_out = |item: &mut Option<u32>| Ok(item.take());
        assert_eq!(pool.with(None, || Ok(1), leave_out), Ok(Some(1)));
        assert!(pool.with(None, || Err(Error::internal("none")), leave_out).is_err());
        assert_eq!(pool.with(None, || Ok(2), leave_out), Ok(Some(2)));
    }

    #[test]
    fn who_waits_gives_up_at_the_deadline() {
        let pool = Pool::new(1);
        let error = pool
            .with(None, || Ok(()), |_| Ok(pool.with(Some(Instant::now()), || Ok(()), |_| Ok(()))))
            .unwrap()
            .unwrap_err();
        assert_eq!(error.code, Code::DeadlineExceeded);
    }
}
