//! Zeroed cache lines that stay where they are.

#[cfg(not(feature = "loom"))]
use std::ptr::NonNull;

use super::block::Line;

/// Some lines, given back to the system when dropped.
#[derive(Debug)]
pub(super) enum Memory {
    /// From the heap: touched at once, for what is small or lives alone.
    Heap(Box<[Line]>),
    /// From the kernel: a page costs nothing until it is touched.
    #[cfg(not(feature = "loom"))]
    Mapped {
        /// The first line, page-aligned.
        first: NonNull<Line>,
        /// How many.
        lines: usize,
    },
}

// SAFETY: both variants own lines of atomics, which any thread may use and the last one drop.
unsafe impl Send for Memory {}
// SAFETY: as above; shared access goes through atomics.
unsafe impl Sync for Memory {}

impl Memory {
    /// `lines` zero lines from the heap.
    pub(super) fn heap(lines: usize) -> Self {
        Self::Heap((0..lines).map(|_| Line::default()).collect())
    }

    /// `lines` zero lines from the kernel, private to this process.
    ///
    /// No swap is set aside: a mapping is as large as the segment may ever become.
    #[cfg(not(feature = "loom"))]
    pub(super) fn anonymous(lines: usize) -> std::io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let bytes = lines * size_of::<Line>();
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice aliases nothing.
        let address = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, access, flags) }?;
        let first = NonNull::new(address.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self::Mapped { first, lines })
    }

    #[cfg(feature = "loom")]
    pub(super) fn anonymous(lines: usize) -> std::io::Result<Self> {
        Ok(Self::heap(lines))
    }

    /// `lines` lines of a file that others may have mapped, too.
    #[cfg(not(feature = "loom"))]
    pub(super) fn shared(fd: std::os::fd::BorrowedFd<'_>, lines: usize) -> std::io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        let bytes = lines * size_of::<Line>();
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice. Its bytes are only ever read
        // and written as atomics, so that other processes change them meanwhile is defined; any
        // bytes are valid atomics.
        let address = unsafe { mmap(std::ptr::null_mut(), bytes, access, flags, fd, 0) }?;
        let first = NonNull::new(address.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self::Mapped { first, lines })
    }

    /// The lines.
    pub(super) fn lines(&self) -> &[Line] {
        match self {
            Self::Heap(lines) => lines,
            // SAFETY: the mapping has room for `lines` lines, is page-aligned and lives as long
            // as `self`; any bytes are valid atomics.
            #[cfg(not(feature = "loom"))]
            Self::Mapped { first, lines } => unsafe {
                std::slice::from_raw_parts(first.as_ptr(), *lines)
            },
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        #[cfg(not(feature = "loom"))]
        if let Self::Mapped { first, lines } = self {
            // SAFETY: the mapping was made with this length, and nothing borrows from it: every
            // block that points into it holds the `Arc` that is being dropped.
            let gone =
                unsafe { rustix::mm::munmap(first.as_ptr().cast(), *lines * size_of::<Line>()) };
            debug_assert!(gone.is_ok(), "unmapping what was mapped cannot fail");
        }
    }
}
