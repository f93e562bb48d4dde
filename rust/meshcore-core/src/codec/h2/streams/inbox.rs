//! What a stream received and is not taken yet.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::codec::event::{self, BodyPart};
use crate::head::Headers;

/// The window grows to its full size once this many of it were taken without a pause: a stream that
/// is not taken from never holds more than the first window.
const GROWS_AFTER: u64 = 2;

/// The receiving side of one stream.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Pieces of the read that is being parsed: parts of its buffer.
    pieces: SmallVec<[Bytes; 1]>,
    /// What came before while it was paused: a copy, because a piece keeps its whole read alive.
    kept: Vec<u8>,
    trailers: Option<Box<Headers>>,
    end: bool,
    end_emitted: bool,
    /// Nothing is taken: what comes fills the stream's window, and no further.
    pub(super) paused: bool,
    /// What the peer may still send.
    window: i64,
    /// What it is given at one time, and at the most.
    grant: u32,
    max_grant: u32,
    /// Taken, and not given back yet.
    taken: u32,
    total: u64,
}

/// A window that is to be given back.
pub(super) type Credit = Option<u32>;

impl Inbox {
    pub(super) fn new(window: u32, max_window: u32) -> Self {
        Self {
            pieces: SmallVec::new(),
            kept: Vec::new(),
            trailers: None,
            end: false,
            end_emitted: false,
            paused: false,
            window: i64::from(window),
            grant: window,
            max_grant: max_window,
            taken: 0,
            total: 0,
        }
    }

    /// A DATA frame came: `len` bytes with its padding. False: more than the window.
    pub(super) fn receive(&mut self, data: Bytes, len: usize) -> bool {
        self.window -= len as i64;
        self.taken += (len - data.len()) as u32;
        if !data.is_empty() {
            self.pieces.push(data);
        }
        self.window >= 0
    }

    /// The message ends here.
    pub(super) fn end(&mut self, trailers: Option<Headers>) {
        self.end = true;
        self.trailers = trailers.map(Box::new);
    }

    /// What is there is not taken.
    pub(super) fn drop_all(&mut self) {
        self.pieces = SmallVec::new();
        self.kept = Vec::new();
        self.trailers = None;
    }

    /// Whether anything, or the end of the message, is to be taken.
    pub(super) fn waits(&self) -> bool {
        !(self.pieces.is_empty() && self.kept.is_empty()) || (self.end && !self.end_emitted)
    }

    /// Lets go of the read it came with.
    pub(super) fn keep(&mut self) {
        for piece in self.pieces.drain(..) {
            self.kept.extend_from_slice(&piece);
        }
    }

    /// All that waits; `read_len` is the length of the read that the pieces are parts of. Pieces
    /// that are a small part of it are copied: a byte must not keep a quarter of a megabyte.
    pub(super) fn take(&mut self, read_len: usize) -> BodyPart {
        let pieces = std::mem::take(&mut self.pieces);
        let fresh: usize = pieces.iter().map(Bytes::len).sum();
        let len = fresh + self.kept.len();
        self.taken += len as u32;
        self.total += len as u64;
        let bytes = if len == 0 {
            event::Bytes::None
        } else if self.kept.is_empty() && fresh * 4 >= read_len {
            event::Bytes::Shared(pieces)
        } else {
            let mut all = std::mem::take(&mut self.kept);
            all.reserve_exact(fresh);
            pieces.iter().for_each(|piece| all.extend_from_slice(piece));
            event::Bytes::Shared(SmallVec::from_buf([Bytes::from(all)]))
        };
        let end = self.end && !std::mem::replace(&mut self.end_emitted, self.end);
        BodyPart { bytes, end, trailers: self.trailers.take() }
    }

    /// What is to be given back, once it is half of the window.
    pub(super) fn credit(&mut self) -> Credit {
        if self.end || self.taken * 2 < self.grant {
            return None;
        }
        let mut credit = std::mem::take(&mut self.taken);
        if self.grant < self.max_grant && self.total >= u64::from(self.grant) * GROWS_AFTER {
            credit += self.max_grant - self.grant;
            self.grant = self.max_grant;
        }
        self.window += i64::from(credit);
        Some(credit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(len: usize) -> Bytes {
        Bytes::from(vec![7; len])
    }

    #[test]
    fn a_window_is_given_back_when_half_of_it_was_taken() {
        let mut inbox = Inbox::new(100, 100);
        assert!(inbox.receive(piece(40), 45));
        assert_eq!(inbox.credit(), None);
        assert_eq!(inbox.take(40).bytes.len(), 40);
        assert_eq!(inbox.credit(), None);
        assert!(inbox.receive(piece(10), 10));
        inbox.take(10);
        assert_eq!(inbox.credit(), Some(55));
        assert!(inbox.receive(piece(100), 100));
        assert!(!inbox.receive(piece(1), 1));
    }

    #[test]
    fn a_stream_that_is_taken_from_gets_a_larger_window() {
        let mut inbox = Inbox::new(100, 1000);
        let mut granted = 100;
        for _ in 0..4 {
            assert!(inbox.receive(piece(50), 50));
            inbox.take(50);
            granted += inbox.credit().unwrap_or(0);
        }
        assert_eq!(granted, 100 + 200 + 900);
    }

    #[test]
    fn what_waits_lets_go_of_its_read_and_comes_in_order() {
        let mut inbox = Inbox::new(100, 100);
        inbox.paused = true;
        for byte in [1, 2, 3] {
            inbox.receive(Bytes::from(vec![byte]), 1);
            inbox.keep();
        }
        inbox.receive(Bytes::from(vec![4; 1]), 1);
        let mut all = Vec::new();
        inbox.take(1000).bytes.append_to(&[], &mut all);
        assert_eq!(all, [1, 2, 3, 4]);
    }
}
