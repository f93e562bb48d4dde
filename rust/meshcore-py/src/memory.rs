//! What the core's allocator has free.

#![allow(unsafe_code)] // one call of the allocator, which takes nothing and gives nothing

use pyo3::prelude::*;

/// Gives the kernel back what the core's allocator has free in this thread. It does so by itself only
/// when it is next asked for pages, so never where no connection comes any more. Takes as long as
/// there are pages, up to milliseconds.
#[pyfunction]
pub(crate) fn release_free_pages() {
    // SAFETY: it may be called at any time, and touches what is free of the calling thread alone.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
