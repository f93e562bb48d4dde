//! Where a thread puts what goes through TLS, for as long as one call takes.

use std::cell::RefCell;

/// What is read is decrypted here, and pieces are joined: one of each for a thread, for no connection
/// holds any of it. Emptied before each use.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) sealed: Vec<u8>,
    pub(crate) plain: Vec<u8>,
}

/// What a thread keeps of its scratch.
const KEPT_BYTES: usize = 512 * 1024;

thread_local! {
    pub(crate) static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// It, for the next use.
pub(crate) fn emptied(buffer: &mut Vec<u8>) -> &mut Vec<u8> {
    if buffer.capacity() > KEPT_BYTES {
        *buffer = Vec::new();
    }
    buffer.clear();
    buffer
}
