//! Whose turn it is on a core: threads that answer come first, those that load come last.

/// Asks the system to let this thread run as soon as it has something to do. It only ever needs a moment, and without
/// this it may wait behind an engine for some milliseconds. Nothing changes in how much time it gets overall.
///
/// A time slice of its own for a normal thread: Linux 6.12 and later; nothing is done elsewhere. `sched_setattr(2)`.
pub fn prompt() {
    #[cfg(target_os = "linux")]
    {
        const SLICE_NANOS: u64 = 100_000;
        // SAFETY: the structure is plain numbers, and zeros mean a normal thread with the usual weight.
        let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
        attributes.size = size_of::<libc::sched_attr>() as u32;
        attributes.sched_runtime = SLICE_NANOS;
        // SAFETY: 0 means the calling thread, and the structure outlives the call. A refusal leaves things as they are.
        unsafe {
            libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0);
        }
    }
}

/// Runs a load on a thread of its own, `gently`: at a priority below that of the threads that answer requests.
///
/// A thread that was made less urgent cannot be made urgent again without privileges, and so this one ends with the
/// load.
///
/// # Errors
/// Those of the load; `INTERNAL` when it panics or no thread can be started.
pub fn load_beside_serving<T: Send + 'static>(
    gently: bool,
    load: impl FnOnce() -> crate::Result<T> + Send + 'static,
) -> crate::Result<T> {
    let failed = |what: &str| crate::Error::internal(format!("The load {what}"));
    let thread = std::thread::Builder::new()
        .name("servable-load".to_owned())
        .spawn(move || {
            if gently {
                lower_priority();
            }
            load()
        })
        .map_err(|error| failed(&format!("cannot be started: {error}")))?;
    thread.join().unwrap_or_else(|_| Err(failed("failed inside")))
}

/// A tenth of the processor time that a thread with requests gets where both want all: enough that a busy server still
/// gets its new version.
#[cfg(target_os = "linux")]
const NICENESS: libc::c_int = 10;

/// Linux gives each thread a priority of its own; elsewhere nothing is done.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    // SAFETY: plain numbers; 0 means the calling thread. A refusal leaves things as they are.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS);
    }
}
