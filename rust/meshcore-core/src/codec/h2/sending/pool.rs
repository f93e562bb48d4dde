//! Buffers for output, shared by the connections of a thread: one that has nothing to send keeps
//! none, and a buffer that was just written from is still in the cache.

use std::cell::RefCell;

use super::HIGH_WATER;
use crate::codec::h2::frame::{HEAD_BYTES, MAX_PAYLOAD};

/// The high-water mark and one frame.
const BUFFER_BYTES: usize = HIGH_WATER + MAX_PAYLOAD + HEAD_BYTES;
/// Buffers that are kept: connections that have something to send at one time share a turn of the
/// loop.
const KEPT: usize = 8;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer: a large one if one is free, else one that grows.
pub(super) fn take() -> Vec<u8> {
    FREE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives a buffer back.
pub(super) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > 2 * BUFFER_BYTES {
        return;
    }
    buffer.clear();
    // A thread that ends has no use for it.
    let _ = FREE.try_with(|free| {
        let mut free = free.borrow_mut();
        if free.len() < KEPT {
            free.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again() {
        let mut buffer = take();
        buffer.extend_from_slice(&[1; 100]);
        give_back(buffer);
        let again = take();
        assert!(again.is_empty() && again.capacity() >= 100);
        give_back(Vec::with_capacity(3 * BUFFER_BYTES));
        assert_eq!(take().capacity(), 0);
    }
}
