//! Memory that the core has no use for at the moment.

#![allow(unsafe_code)] // one call of the allocator, which has no safe one for it

use pyo3::prelude::*;

unsafe extern "C" {
    /// mimalloc's: looks through the free memory of this thread, and of what all share.
    safe fn mi_collect(force: bool);
}

/// Gives the pages that are free back to the system. By itself the allocator does so when it is
/// asked for others, some time after they are free: a worker to which nobody comes keeps them.
/// O(pages), some milliseconds behind thousands of connections.
#[pyfunction]
pub(crate) fn give_back_pages() {
    mi_collect(true);
}
