//! Memory of this process, as the operating system sees it.

/// Bytes resident now; 0 where the system does not say.
pub fn resident_bytes() -> u64 {
    let Ok(statm) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// Gives freed memory back to the operating system. Call it after an unload, off the request path.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` takes a plain number and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Makes the C library give back what engines free. To be called before threads are started, since each takes an arena
/// for good.
///
/// - One arena a core, not eight: each keeps a few megabytes that no trimming gives back, and threads that load come and
///   go.
/// - Large weights always in mappings of their own. Left to itself, the library raises the limit for these with the first
///   one that is freed, and the weights of later versions leave holes in the arenas.
pub fn give_back_eagerly() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE: libc::c_int = 16 << 20;
        let cores = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        // SAFETY: plain numbers; a refusal leaves things as they are.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, libc::c_int::try_from(cores).unwrap_or(libc::c_int::MAX));
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        }
    }
}
