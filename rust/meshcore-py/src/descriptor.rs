//! What is done with descriptors that are the loop's.
//!
//! The caller asks the loop's transport first whether it is closing, in the same call and with
//! nothing of Python's run since: before loops close a descriptor they say so.

#![allow(unsafe_code)] // one borrow of a descriptor that is the loop's

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// For one call of the system.
fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the loop's transport says that it is not closing, and before it closes the descriptor
    // it does. So it is open, and its own.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// How much the kernel takes of it now: of a socket that is full, or has failed, nothing.
pub(crate) fn send_some(fd: RawFd, bytes: &[u8]) -> usize {
    loop {
        match send(borrow(fd), bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => return sent,
            Err(Errno::INTR) => {}
            Err(_) => return 0,
        }
    }
}

/// How much came, none at the end of file; `None`: there is nothing now.
pub(crate) fn receive_some(fd: RawFd, room: &mut [u8]) -> Result<Option<usize>, Errno> {
    loop {
        match recv(borrow(fd), &mut *room, RecvFlags::DONTWAIT) {
            Ok((_, came)) => return Ok(Some(came)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Has a set tell when the socket can be read.
pub(crate) fn watch(set: &OwnedFd, fd: RawFd) -> Result<(), Errno> {
    let number = EventData::new_u64(fd.unsigned_abs().into());
    epoll::add(set, borrow(fd), number, EventFlags::IN)
}

/// Has it not; whether it was. The kernel forgets by itself what is not open any more.
pub(crate) fn unwatch(set: &OwnedFd, fd: RawFd) -> bool {
    epoll::delete(set, borrow(fd)).is_ok()
}
