//! Memory for tensors that operations read and write in place.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::{Code, Error, Result};

/// What LiteRT asks of memory that it is lent.
const ALIGNMENT: usize = 64;
/// Vector instructions may read so far behind the end.
const SLACK: usize = 128;

/// Zeroed bytes, aligned for any instruction.
pub(super) struct Memory {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for Memory {}

impl Memory {
    /// # Errors
    /// `RESOURCE_EXHAUSTED` where there is none.
    pub(super) fn new(size: usize) -> Result<Memory> {
        let exhausted = || Error::new(Code::ResourceExhausted, format!("No memory for a tensor of {size} bytes"));
        let layout = Self::layout(size).ok_or_else(exhausted)?;
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(exhausted)?;
        Ok(Memory { start, size })
    }

    fn layout(size: usize) -> Option<Layout> {
        Layout::from_size_align(size.checked_add(SLACK)?, ALIGNMENT).ok()
    }

    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: as long as is said, and initialised from the beginning.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.size) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed by nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.size) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let layout = Self::layout(self.size).expect("it was made with this layout");
        // SAFETY: allocated with this layout, freed once.
        unsafe { dealloc(self.start.as_ptr(), layout) }
    }
}
