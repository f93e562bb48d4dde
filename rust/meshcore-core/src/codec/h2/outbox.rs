//! What is to be sent on one stream and has no window yet.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;

use super::priority::Priority;

/// Queued bytes beyond which a stream takes no more: what a transport of the loop queues.
pub const STREAM_HIGH_WATER: usize = 64 << 10;
/// Queued bytes at which it takes more again.
const STREAM_LOW_WATER: usize = 16 << 10;
/// Bytes that a stream sends in one turn; between equals, so many lie between two turns.
const TURN_BYTES: usize = 16 << 10;

/// How the stream ends.
#[derive(Debug)]
enum End {
    Plain,
    Trailers(HeaderMap),
}

/// What came of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// All is sent.
    Done,
    /// There is more, and window for it.
    More,
    /// There is more, and no window: the waker will tell.
    Blocked,
}

/// The queue of one stream. `queued` of all streams are summed by the engine.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    chunks: VecDeque<Bytes>,
    queued: usize,
    end: Option<End>,
    ended: bool,
    pub(super) priority: Priority,
    /// Its place in the schedule is taken.
    pub(super) scheduled: bool,
    /// The sender was told to wait, and is to hear of it when there is room.
    pub(super) full: bool,
}

impl Outbox {
    /// Appends data.
    pub(super) fn push(&mut self, data: Bytes) {
        if !data.is_empty() && self.end.is_none() && !self.ended {
            self.queued += data.len();
            self.chunks.push_back(data);
        }
    }

    /// Nothing follows but these trailers, if any.
    pub(super) fn finish(&mut self, trailers: Option<HeaderMap>) {
        if self.end.is_none() && !self.ended {
            let some = trailers.filter(|t| !t.is_empty());
            self.end = Some(some.map_or(End::Plain, End::Trailers));
        }
    }

    /// The head ended the stream.
    pub(super) fn close(&mut self) {
        self.ended = true;
    }

    /// Whether the end went out (to the crate).
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Bytes queued here.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Whether there is something to send.
    pub(super) fn has_more(&self) -> bool {
        !self.chunks.is_empty() || self.end.is_some()
    }

    /// Whether the sender is to hear that there is room; once.
    pub(super) fn tells_room(&mut self) -> bool {
        let room = self.full && self.queued <= STREAM_LOW_WATER;
        self.full &= !room;
        room
    }

    /// Sends as much as fits one turn and the window.
    ///
    /// # Errors
    /// The stream was reset, or the connection is gone.
    pub(super) fn turn(
        &mut self,
        send: &mut SendStream<Bytes>,
        cx: &mut Context<'_>,
        sent: &mut usize,
    ) -> Result<Turn, h2::Error> {
        let mut left = TURN_BYTES;
        while let Some(chunk) = self.chunks.front_mut() {
            if left == 0 {
                return Ok(Turn::More);
            }
            let want = chunk.len().min(left);
            send.reserve_capacity(want);
            let n = send.capacity().min(want);
            if n == 0 {
                return self.blocked(send, cx);
            }
            let whole = n == chunk.len();
            let piece = if whole { std::mem::take(chunk) } else { chunk.split_to(n) };
            if whole {
                self.chunks.pop_front();
            }
            let last = self.chunks.is_empty() && matches!(self.end, Some(End::Plain));
            send.send_data(piece, last)?;
            (self.queued, left, *sent) = (self.queued - n, left - n, *sent + n);
            if last {
                (self.end, self.ended) = (None, true);
            }
        }
        self.send_end(send)?;
        Ok(Turn::Done)
    }

    fn send_end(&mut self, send: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
        match self.end.take() {
            None => return Ok(()),
            Some(End::Plain) => send.send_data(Bytes::new(), true)?,
            Some(End::Trailers(fields)) => send.send_trailers(fields)?,
        }
        self.ended = true;
        Ok(())
    }

    fn blocked(
        &mut self,
        send: &mut SendStream<Bytes>,
        cx: &mut Context<'_>,
    ) -> Result<Turn, h2::Error> {
        match send.poll_capacity(cx) {
            Poll::Ready(Some(Err(error))) => Err(error),
            Poll::Ready(Some(Ok(n))) if n > 0 => Ok(Turn::More),
            _ => Ok(Turn::Blocked),
        }
    }
}
