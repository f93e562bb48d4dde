//! What both sides of a connection have in common: bytes in, signals out, bytes out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Context;

use bytes::Bytes;
use h2::Reason;

use super::fields;
use super::inbox::Broken;
use super::liveness::Liveness;
use super::memory::{Memory, reuse, take_woken, waker};
use super::meter::Meter;
use super::signal::{Flood, Signal};
use super::streams::{Signals, Streams};
use crate::codec::event::BodyPart;
use crate::codec::limits::Limits;
use crate::head::Headers;
use crate::time::Nanos;

/// A larger output buffer is not kept: most connections write little at a time.
const KEPT_OUTPUT_BYTES: usize = 4 << 10;

/// What is known of a connection whichever side it is; `H` as in [`Streams`].
#[derive(Debug)]
pub struct Desk<H, M> {
    pub(super) streams: Streams<H>,
    pub(super) signals: Signals<M>,
    pub(super) liveness: Liveness,
    pub(super) limits: Limits,
}

impl<H, M> Desk<H, M> {
    pub(super) fn new(limits: Limits) -> Self {
        let (streams, liveness) = (Streams::default(), Liveness::default());
        Self { streams, signals: Vec::new(), liveness, limits }
    }

    pub(super) fn tell(&mut self, id: u32, signal: Signal<M>) {
        self.signals.push((id, signal));
    }

    /// What came of a body; `None`: nothing is awaited, or nothing wanted.
    pub(super) fn read(&mut self, id: u32) -> Result<Option<BodyPart>, Broken> {
        let Some(stream) = self.streams.get(id) else { return Ok(None) };
        let Some(inbox) = stream.inbox.as_mut().filter(|inbox| !inbox.paused) else {
            return Ok(None);
        };
        let waker = waker(id);
        let part = inbox.take(&mut Context::from_waker(&waker))?;
        if part.end {
            stream.inbox = None;
        }
        Ok(Some(part))
    }

    /// Sends on a stream what has a window.
    pub(super) fn start(&mut self, id: u32) {
        self.streams.start(id, &mut self.signals);
    }

    /// The connection is over, and so is every stream that somebody waits for.
    pub(super) fn close(&mut self) {
        for id in self.streams.ids() {
            if self.streams.remove(id).is_some_and(|stream| !stream.left) {
                self.tell(id, gone());
            }
        }
        self.tell(0, Signal::Closed);
    }

    /// After a panic inside of the crate its lock is poisoned: its handles are not dropped, which
    /// would panic again.
    fn forget(&mut self) {
        let ids = self.streams.ids();
        std::mem::forget(std::mem::take(&mut self.streams));
        ids.into_iter().for_each(|id| self.tell(id, gone()));
        self.tell(0, Signal::Closed);
    }
}

/// A stream that ended with its connection.
fn gone<M>() -> Signal<M> {
    Signal::Reset { code: Reason::CANCEL.into(), refused: false, malformed: false }
}

/// The part of a side that is its own.
pub trait Side {
    /// What is left to do about a response's head.
    type Head;
    /// What its streams tell.
    type Message;

    /// What it shares with the other side.
    fn desk(&mut self) -> &mut Desk<Self::Head, Self::Message>;
    /// Whether the connection is over.
    fn is_closed(&self) -> bool;
    /// Lets the crate read and write.
    fn poll_connection(&mut self);
    /// Lets one stream tell what it has.
    fn poll_stream(&mut self, id: u32);
    /// Ends a stream at once.
    fn reset(&mut self, id: u32, reason: Reason);
    /// Ends every stream and the connection.
    fn abandon(&mut self, reason: Reason);
    /// Lets go of the crate without dropping it.
    fn forget(&mut self);

    /// Lets the crate read and write, and the streams tell and send, until nothing moves.
    fn advance(&mut self) {
        loop {
            self.poll_connection();
            let woken = take_woken();
            for id in woken.iter().copied().filter(|&id| id != 0) {
                self.poll_stream(id);
            }
            let desk = self.desk();
            let handed = desk.streams.handed;
            desk.streams.serve(&mut desk.signals);
            let moved = !woken.is_empty() || desk.streams.handed != handed;
            reuse(woken);
            if !moved {
                return;
            }
        }
    }
}

/// One HTTP/2 connection: the `h2` crate in memory.
///
/// Bytes go in with [`receive`](Self::receive), what they meant comes out with
/// [`signals`](Self::signals), bytes to send with [`take_output`](Self::take_output). For one
/// thread at a time; a panic inside of the crate ends the connection and nothing else.
pub struct Engine<S> {
    memory: Memory,
    meter: Meter,
    pub(super) side: S,
    flood: Option<Flood>,
}

impl<S> std::fmt::Debug for Engine<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("flood", &self.flood).finish_non_exhaustive()
    }
}

impl<S: Side> Engine<S> {
    pub(super) fn of(memory: Memory, meter: Meter, side: S) -> Self {
        Self { memory, meter, side, flood: None }
    }

    /// Takes what a read brought. O(bytes).
    pub fn receive(&mut self, data: Bytes, now: Nanos) {
        if self.side.is_closed() {
            return;
        }
        let sent = std::mem::take(&mut self.side.desk().streams.data_frames);
        self.meter.sent_data(sent);
        if let Err(flood) = self.meter.scan(&data, now) {
            self.flood = Some(flood);
            return self.run(|side| side.abandon(Reason::ENHANCE_YOUR_CALM));
        }
        self.memory.feed(data);
        self.run(S::advance);
        for (stream, priority) in self.meter.priorities.drain(..) {
            self.side.desk().streams.prioritise(stream, priority);
        }
    }

    /// The peer sends no more: every stream is over.
    pub fn receive_eof(&mut self) {
        self.memory.ended = true;
        self.run(|side| {
            side.advance();
            if !side.is_closed() {
                side.abandon(Reason::NO_ERROR);
            }
        });
    }

    /// What happened since the last call, oldest first: 0 is the connection.
    pub fn signals(&mut self) -> Vec<(u32, Signal<S::Message>)> {
        std::mem::take(&mut self.side.desk().signals)
    }

    /// Whether [`signals`](Self::signals) has any.
    pub fn has_signals(&mut self) -> bool {
        !self.side.desk().signals.is_empty()
    }

    /// Hands the bytes to send to `write`, at most some 128 KiB; call it until there are none, as
    /// long as the socket takes them.
    pub fn take_output<T>(&mut self, write: impl FnOnce(&[u8]) -> T) -> T {
        self.run(S::advance);
        self.side.desk().streams.handed = 0;
        let written = write(&self.memory.output);
        if self.memory.output.capacity() > KEPT_OUTPUT_BYTES {
            self.memory.output = Vec::new();
        } else {
            self.memory.output.clear();
        }
        written
    }

    /// False while what was read cannot be parsed, because the peer does not take our answers.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        self.memory.input.is_empty()
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.side.is_closed()
    }

    /// The flood that ended the connection.
    #[must_use]
    pub fn flood(&self) -> Option<Flood> {
        self.flood
    }

    /// Open streams.
    pub fn open_streams(&mut self) -> usize {
        self.side.desk().streams.len()
    }

    /// Bytes that wait for window or for the socket, on all streams.
    pub fn queued(&mut self) -> usize {
        self.side.desk().streams.queued()
    }

    /// Bytes that wait on one stream.
    pub fn queued_on(&mut self, id: u32) -> usize {
        self.side.desk().streams.get(id).map_or(0, |stream| stream.outbox.queued())
    }

    /// More of a body. Gives the bytes that wait; beyond [`super::STREAM_HIGH_WATER`] send no more
    /// until [`Signal::Writable`].
    pub fn send_data(&mut self, id: u32, data: Bytes) -> usize {
        self.run(|side| {
            let desk = side.desk();
            desk.streams.push(id, data, &mut desk.signals)
        })
    }

    /// The end of a body. True if all of it is sent; else [`Signal::Sent`] follows.
    pub fn send_end(&mut self, id: u32, trailers: Option<&Headers>) -> bool {
        let trailers = trailers.map(fields::trailers);
        self.run(|side| {
            let desk = side.desk();
            desk.streams.finish(id, trailers, &mut desk.signals)
        })
    }

    /// Takes no more of a body until [`resume`](Self::resume).
    pub fn pause(&mut self, id: u32) {
        if let Some(inbox) = self.side.desk().streams.get(id).and_then(|s| s.inbox.as_mut()) {
            inbox.paused = true;
        }
    }

    /// Takes on; what waited is told by the next [`signals`](Self::signals).
    pub fn resume(&mut self, id: u32) {
        if let Some(inbox) = self.side.desk().streams.get(id).and_then(|s| s.inbox.as_mut())
            && std::mem::replace(&mut inbox.paused, false)
        {
            self.run(|side| side.poll_stream(id));
        }
    }

    /// Ends a stream at once, with an error code (RFC 9113 §7).
    pub fn reset(&mut self, id: u32, code: u32) {
        self.run(|side| side.reset(id, code.into()));
    }

    /// Ends every stream and the connection.
    pub fn abandon(&mut self, code: u32) {
        self.run(|side| side.abandon(code.into()));
    }

    /// Asks for a sign of life; [`Signal::Pong`] follows. False: one is asked for already.
    pub fn ping(&mut self) -> bool {
        self.run(|side| side.desk().liveness.ask())
    }

    /// Works on the side with its memory in place.
    pub(super) fn run<T: Default>(&mut self, work: impl FnOnce(&mut S) -> T) -> T {
        let Self { memory, side, .. } = self;
        match catch_unwind(AssertUnwindSafe(|| memory.enter(|| work(side)))) {
            Ok(done) => done,
            Err(_) => {
                side.desk().forget();
                side.forget();
                T::default()
            }
        }
    }
}
