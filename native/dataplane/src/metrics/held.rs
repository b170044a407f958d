//! How long requests waited for a version to be loaded.

use std::time::Instant;

use super::histogram::{Histogram, SECONDS};
use super::page::head;

/// What is counted of requests that are held.
pub struct Held(Histogram);

impl Default for Held {
    fn default() -> Self {
        Held(Histogram::new(&SECONDS))
    }
}

impl Held {
    /// One begins to wait; it has waited once what is returned is dropped.
    pub fn begin(&self) -> impl Drop + '_ {
        Wait { times: &self.0, since: Instant::now() }
    }

    pub fn write(&self, page: &mut String) {
        head(page, "servable_held_seconds", "histogram", "Time that requests waited for a version to be loaded");
        self.0.write(page, "servable_held_seconds", "", 1e9);
    }
}

struct Wait<'a> {
    times: &'a Histogram,
    since: Instant,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.times.observe_time(self.since.elapsed());
    }
}
