//! What is to be sent on one stream and has no window, or not its turn, yet.

use std::collections::VecDeque;

use bytes::Bytes;

use super::priority::Priority;
use crate::codec::h2::errors::{Checked, StreamError, broken};
use crate::codec::h2::frame::{MAX_PAYLOAD, code, flag, kind, write_head};
use crate::codec::h2::settings::MAX_WINDOW;
use crate::head::Headers;

/// Queued bytes beyond which a stream takes no more: what a transport of the loop queues.
pub const STREAM_HIGH_WATER: usize = 64 << 10;
/// Queued bytes at which it takes more again.
const STREAM_LOW_WATER: usize = 16 << 10;

/// Pieces up to this size are joined: each alone costs more than itself to keep.
const SMALL: usize = 512;

/// How the stream ends.
#[derive(Debug)]
enum End {
    Plain,
    Trailers(Box<Headers>),
}

/// What came of a turn.
#[derive(Debug)]
pub(super) enum Turn {
    /// All is sent; the end, too, if it was a plain one.
    Done,
    /// All is sent but these trailers.
    Trailers(Box<Headers>),
    /// There is more, and window for it.
    More,
    /// There is more, and the stream has no window.
    Blocked,
}

/// The queue of one stream.
#[derive(Debug, Default)]
pub(in super::super) struct Outbox {
    chunks: VecDeque<Bytes>,
    /// Small pieces that came while others waited, joined; behind `chunks`, and never without any.
    joined: Vec<u8>,
    queued: usize,
    /// Some of it was sent.
    begun: bool,
    end: Option<End>,
    ended: bool,
    /// What the peer takes; less than nothing after its SETTINGS made the window smaller.
    window: i64,
    pub(in super::super) priority: Priority,
    /// Its place in the schedule is taken.
    pub(super) scheduled: bool,
    /// The sender was told to wait, and is to hear of it when there is room.
    pub(super) full: bool,
}

impl Outbox {
    /// Empty, with the window that the peer gives every stream.
    pub(in super::super) fn new(window: i64) -> Self {
        Self { window, priority: Priority::UNSAID, ..Self::default() }
    }

    /// Appends data.
    pub(super) fn push(&mut self, data: Bytes) {
        if !data.is_empty() && self.end.is_none() && !self.ended {
            self.queued += data.len();
            if data.len() <= SMALL && !self.chunks.is_empty() {
                self.joined.extend_from_slice(&data);
            } else {
                self.end_joined();
                self.chunks.push_back(data);
            }
        }
    }

    fn end_joined(&mut self) {
        if !self.joined.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.joined).into());
        }
    }

    /// Nothing follows but these trailers, if any.
    pub(super) fn finish(&mut self, trailers: Option<&Headers>) {
        if self.end.is_none() && !self.ended {
            let some = trailers.filter(|t| !t.is_empty());
            self.end = Some(some.map_or(End::Plain, |t| End::Trailers(Box::new(t.clone()))));
        }
    }

    /// The stream was ended by something else: its head, or its trailers.
    pub(in super::super) fn close(&mut self) {
        self.ended = true;
    }

    /// Whether the end went out.
    pub(in super::super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Whether some bytes were sent.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Bytes queued.
    pub(in super::super) fn queued(&self) -> usize {
        self.queued
    }

    /// A WINDOW_UPDATE (RFC 9113 §6.9).
    pub(in super::super) fn credit(&mut self, more: u32) -> Result<(), StreamError> {
        super::credit(&mut self.window, more)
            .map_err(|(code, detail)| StreamError::Broken(code, detail))
    }

    /// SETTINGS moved the window (§6.9.2).
    pub(in super::super) fn move_window(&mut self, change: i64) -> Checked {
        self.window += change;
        if self.window > MAX_WINDOW {
            return broken(code::FLOW_CONTROL_ERROR, "SETTINGS overflow a window");
        }
        Ok(())
    }

    /// Whether there is something to send, and window for it.
    pub(super) fn is_ready(&self) -> bool {
        match self.chunks.is_empty() {
            true => self.end.is_some(),
            false => self.window > 0,
        }
    }

    /// Whether the sender is to hear that there is room; once.
    pub(in super::super) fn take_room_notice(&mut self) -> bool {
        let room = self.full && self.queued <= STREAM_LOW_WATER;
        self.full &= !room;
        room
    }

    /// Writes one frame, as large as the windows allow; `connection` is the connection's.
    pub(super) fn turn(&mut self, stream: u32, connection: &mut i64, out: &mut Vec<u8>) -> Turn {
        let window = self.window.min(*connection).clamp(0, MAX_PAYLOAD as i64) as usize;
        let len = self.queued.min(window);
        let last = len == self.queued && matches!(self.end, Some(End::Plain));
        if len == 0 && !last {
            return if self.queued == 0 { self.done() } else { Turn::Blocked };
        }
        write_head(out, len, kind::DATA, if last { flag::END_STREAM } else { 0 }, stream);
        self.write(len, out);
        self.begun |= len > 0;
        self.window -= len as i64;
        *connection -= len as i64;
        if last {
            (self.end, self.ended) = (None, true);
        }
        match self.queued {
            0 => self.done(),
            _ if self.window > 0 => Turn::More,
            _ => Turn::Blocked,
        }
    }

    fn done(&mut self) -> Turn {
        match self.end.take() {
            Some(End::Trailers(trailers)) => {
                self.ended = true;
                Turn::Trailers(trailers)
            }
            end => {
                self.end = end;
                Turn::Done
            }
        }
    }

    fn write(&mut self, len: usize, out: &mut Vec<u8>) {
        let mut left = len;
        while left > 0
            && let Some(chunk) = self.chunks.front_mut()
        {
            let n = left.min(chunk.len());
            out.extend_from_slice(&chunk[..n]);
            left -= n;
            if n == chunk.len() {
                self.chunks.pop_front();
                if self.chunks.is_empty() {
                    self.end_joined();
                }
            } else {
                let _ = chunk.split_to(n);
            }
        }
        self.queued -= len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::h2::frame::FrameHead;

    fn frames(out: &[u8]) -> Vec<(u8, u8, usize)> {
        let (mut at, mut found) = (0, Vec::new());
        while at < out.len() {
            let head = FrameHead::read(out[at..at + 9].try_into().expect("nine bytes"));
            found.push((head.kind, head.flags, head.len));
            at += 9 + head.len;
        }
        found
    }

    #[test]
    fn frames_join_small_pieces_and_keep_to_the_windows() {
        let mut outbox = Outbox { window: 25, ..Outbox::default() };
        let (mut connection, mut out) = (100, Vec::new());
        for _ in 0..3 {
            outbox.push(Bytes::from_static(b"0123456789"));
        }
        outbox.finish(None);
        assert!(matches!(outbox.turn(1, &mut connection, &mut out), Turn::Blocked));
        assert_eq!((outbox.queued(), outbox.is_ready(), connection), (5, false, 75));
        outbox.window = 50;
        connection = 3;
        assert!(matches!(outbox.turn(1, &mut connection, &mut out), Turn::More));
        connection = 50;
        assert!(matches!(outbox.turn(1, &mut connection, &mut out), Turn::Done));
        assert_eq!(frames(&out), [(0, 0, 25), (0, 0, 3), (0, 1, 2)]);
        assert!(outbox.is_ended());
    }

    #[test]
    fn small_pieces_that_wait_are_joined_and_keep_their_order() {
        let mut outbox = Outbox::new(1 << 20);
        let mut said = Vec::new();
        for n in 0..10_000u32 {
            let piece = n.to_le_bytes().repeat(if n % 1000 == 999 { 500 } else { 1 });
            said.extend_from_slice(&piece);
            outbox.push(piece.into());
        }
        assert!(outbox.chunks.len() <= 21 && outbox.joined.capacity() < 8192);
        outbox.finish(None);
        let (mut connection, mut out, mut got) = (1 << 20, Vec::new(), Vec::new());
        while !outbox.is_ended() {
            out.clear();
            outbox.turn(1, &mut connection, &mut out);
            got.extend_from_slice(&out[9..]);
        }
        assert!(got == said);
    }

    #[test]
    fn an_end_needs_no_window() {
        let mut outbox = Outbox { window: -5, ..Outbox::default() };
        let (mut connection, mut out) = (0, Vec::new());
        outbox.finish(None);
        assert!(outbox.is_ready());
        assert!(matches!(outbox.turn(1, &mut connection, &mut out), Turn::Done));
        assert_eq!(frames(&out), [(0, 1, 0)]);
        let mut outbox = Outbox::default();
        let mut trailers = Headers::default();
        trailers.push(b"a", b"b");
        outbox.finish(Some(&trailers));
        assert!(matches!(outbox.turn(1, &mut connection, &mut out), Turn::Trailers(_)));
    }
}
