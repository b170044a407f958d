//! The model's file in memory: mapped once, checked once, and shared by everything that runs it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::{NonNull, null_mut};

use crate::{Code, Error, Result};

/// A file that is mapped read-only. A file that replaces it under its name changes nothing here.
pub(super) struct MappedFile {
    start: NonNull<libc::c_void>,
    length: usize,
}

// SAFETY: plain memory that nobody writes to.
unsafe impl Send for MappedFile {}
// SAFETY: as above.
unsafe impl Sync for MappedFile {}

impl MappedFile {
    /// # Errors
    /// `NOT_FOUND` where it cannot be opened, `INVALID_ARGUMENT` where it is empty.
    pub(super) fn open(path: &Path) -> Result<MappedFile> {
        let unreadable =
            |error: io::Error| Error::new(Code::NotFound, format!("{} cannot be read: {error}", path.display()));
        let file = File::open(path).map_err(unreadable)?;
        let length = usize::try_from(file.metadata().map_err(unreadable)?.len()).unwrap_or(usize::MAX);
        if length == 0 {
            return Err(Error::invalid(format!("{} is empty", path.display())));
        }
        // SAFETY: a new mapping of a file that is open, at a place that the system chooses.
        let start = unsafe { libc::mmap(null_mut(), length, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(unreadable(io::Error::last_os_error()));
        }
        let start = NonNull::new(start).ok_or_else(|| Error::internal("A file was mapped to address 0"))?;
        Ok(MappedFile { start, length })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for as long as `self` lives, and so long.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length) }
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // SAFETY: mapped by `open`, unmapped once.
        unsafe { libc::munmap(self.start.as_ptr(), self.length) };
    }
}
