//! Watching folders for changes, by the file system's own events.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

/// Tells that something in folders has changed. Watches until it is dropped.
#[pyclass(frozen, module = "servable._native")]
pub(crate) struct FolderWatch {
    changes: Arc<Changes>,
    _watcher: Mutex<RecommendedWatcher>,
}

#[derive(Default)]
struct Changes {
    /// When the first one came that was not told of yet, and when the last one.
    times: Mutex<Option<(Instant, Instant)>>,
    came: Condvar,
}

impl Changes {
    fn note(&self) {
        let now = Instant::now();
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        *times = Some(times.map_or((now, now), |(first, _)| (first, now)));
        self.came.notify_all();
    }

    /// Waits for a change, and from then on until none has come for `quiet`; not longer than four times that.
    fn wait(&self, timeout: Duration, quiet: Duration) -> bool {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut times, _) = self
            .came
            .wait_timeout_while(times, timeout, |times| times.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        while let Some((first, last)) = *times {
            let end = (last + quiet).min(first + 4 * quiet);
            let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                *times = None;
                return true;
            };
            (times, _) = self.came.wait_timeout(times, left).unwrap_or_else(PoisonError::into_inner);
        }
        false
    }
}

#[pymethods]
impl FolderWatch {
    #[new]
    #[pyo3(signature = (folders, recursive, passed_over, /))]
    fn new(py: Python<'_>, folders: Vec<PathBuf>, recursive: bool, passed_over: Vec<String>) -> PyResult<FolderWatch> {
        py.detach(|| watch(folders, recursive, passed_over)).map_err(|error| PyOSError::new_err(error.to_string()))
    }

    #[pyo3(signature = (timeout, quiet, /))]
    fn wait(&self, py: Python<'_>, timeout: f64, quiet: f64) -> bool {
        let duration = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4);
        py.detach(|| self.changes.wait(duration(timeout), duration(quiet)))
    }
}

fn watch(folders: Vec<PathBuf>, recursive: bool, passed_over: Vec<String>) -> notify::Result<FolderWatch> {
    let changes: Arc<Changes> = Arc::default();
    let (noted, watched) = (changes.clone(), folders.clone());
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        let counts = |event: &Event| {
            is_change(&event.kind)
                && (event.paths.is_empty() || event.paths.iter().any(|path| !is_under(path, &watched, &passed_over)))
        };
        // What cannot be told may be a change too.
        if event.map_or(true, |event| counts(&event)) {
            noted.note();
        }
    })?;
    let mode = if recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
    folders.iter().try_for_each(|folder| watcher.watch(folder, mode))?;
    Ok(FolderWatch { changes, _watcher: Mutex::new(watcher) })
}

/// Whether a path goes through a name, below the watched folders, that begins with one of `prefixes`.
fn is_under(path: &Path, folders: &[PathBuf], prefixes: &[String]) -> bool {
    let inside = folders.iter().find_map(|folder| path.strip_prefix(folder).ok()).unwrap_or(path);
    inside.iter().any(|name| prefixes.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes())))
}

/// Reading is no change; the end of writing is.
fn is_change(kind: &EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}
