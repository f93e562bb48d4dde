//! The socket that the `h2` crate reads and writes: buffers in memory, and wakers that are numbers.
//!
//! The crate owns its I/O and gives no access to it, so engine and crate meet in a thread-local:
//! for the length of one call ([`Memory::enter`]) the engine's buffers are the thread's. Nothing is
//! locked or counted, and an engine may move between threads from call to call.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::ptr::without_provenance;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Output beyond which the crate is told to wait. It stops reading then, which is what bounds
/// floods of PING and SETTINGS; and one write of a socket buffer takes no more.
pub(super) const HIGH_WATER: usize = 128 << 10;

thread_local! {
    static CURRENT: RefCell<Memory> = RefCell::new(Memory::default());
}

/// What one connection has read and not parsed, and written and not sent.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Bytes that came and were not taken yet.
    pub(super) input: Bytes,
    /// No more will come.
    pub(super) ended: bool,
    /// Bytes to send.
    pub(super) output: Vec<u8>,
    /// Streams that have something to tell; 0 is the connection.
    pub(super) woken: Vec<u32>,
    /// A call is under way: what wakes outside of one, such as the end of an engine, is nobody's.
    entered: bool,
}

impl Memory {
    /// Runs `work` with these buffers behind [`Socket`].
    pub(super) fn enter<T>(&mut self, work: impl FnOnce() -> T) -> T {
        struct Leave<'a>(&'a mut Memory);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                CURRENT.with_borrow_mut(|current| std::mem::swap(current, self.0));
                self.0.entered = false;
            }
        }
        self.entered = true;
        CURRENT.with_borrow_mut(|current| std::mem::swap(current, self));
        let _leave = Leave(self);
        work()
    }

    /// Adds what a read brought.
    pub(super) fn feed(&mut self, data: Bytes) {
        if self.input.is_empty() {
            self.input = data;
        } else {
            let mut both = Vec::with_capacity(self.input.len() + data.len());
            both.extend_from_slice(&self.input);
            both.extend_from_slice(&data);
            self.input = both.into();
        }
    }
}

/// The streams that woke since the last time; asked inside of [`Memory::enter`].
pub(super) fn take_woken() -> Vec<u32> {
    CURRENT.with_borrow_mut(|current| std::mem::take(&mut current.woken))
}

/// Hands a list back whose room is used again.
pub(super) fn reuse(mut list: Vec<u32>) {
    list.clear();
    CURRENT.with_borrow_mut(|current| {
        if current.woken.is_empty() {
            current.woken = list;
        }
    });
}

/// The crate's end: a handle without state.
#[derive(Debug)]
pub(super) struct Socket;

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        CURRENT.with_borrow_mut(|current| {
            let n = buf.remaining().min(current.input.len());
            if n == 0 && !current.ended {
                return Poll::Pending;
            }
            buf.put_slice(&current.input[..n]);
            current.input.advance(n);
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        CURRENT.with_borrow_mut(|current| {
            if current.output.len() >= HIGH_WATER {
                return Poll::Pending;
            }
            let before = current.output.len();
            for buf in bufs {
                current.output.extend_from_slice(buf);
            }
            Poll::Ready(Ok(current.output.len() - before))
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A waker that notes the number of a stream, or 0 for the connection.
#[expect(unsafe_code, reason = "a waker without allocation has no safe constructor")]
pub(super) fn waker(stream: u32) -> Waker {
    let data = without_provenance(stream as usize);
    // SAFETY: the vtable never dereferences the data, which is a number; cloning, waking and
    // dropping touch only a thread-local, so they are sound from any thread.
    unsafe { Waker::from_raw(RawWaker::new(data, &VTABLE)) }
}

static VTABLE: RawWakerVTable =
    RawWakerVTable::new(|data| RawWaker::new(data, &VTABLE), wake, wake, |_| {});

fn wake(data: *const ()) {
    // The borrow fails only inside of poll_read or poll_write, which wake nobody.
    // A thread that ends drops what it held without an engine at work.
    let _ = CURRENT.try_with(|current| {
        if let Ok(mut current) = current.try_borrow_mut()
            && current.entered
        {
            current.woken.push(data.addr() as u32);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wakes_is_noted_for_the_engine_that_is_at_work() {
        let mut memory = Memory::default();
        let outside = waker(7);
        outside.wake_by_ref();
        let woken = memory.enter(|| {
            outside.wake_by_ref();
            waker(0).wake();
            take_woken()
        });
        assert_eq!(woken, [7, 0]);
        assert!(memory.woken.is_empty());
    }

    #[test]
    fn output_has_a_high_water_mark() {
        let mut memory = Memory::default();
        memory.enter(|| {
            let waker = waker(0);
            let mut cx = Context::from_waker(&waker);
            let chunk = vec![0; HIGH_WATER];
            let mut socket = Socket;
            assert!(Pin::new(&mut socket).poll_write(&mut cx, &chunk).is_ready());
            assert!(Pin::new(&mut socket).poll_write(&mut cx, b"x").is_pending());
        });
        assert_eq!(memory.output.len(), HIGH_WATER);
    }

    #[test]
    fn a_panic_hands_the_buffers_back() {
        let mut memory = Memory::default();
        memory.output.push(1);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            memory.enter(|| panic!("inside"));
        }));
        assert!(caught.is_err());
        assert_eq!(memory.output, [1]);
        assert!(take_woken().is_empty());
    }
}
