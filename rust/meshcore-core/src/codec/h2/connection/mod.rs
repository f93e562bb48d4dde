//! One HTTP/2 connection: its parts, what joins them, and its surface.

mod client;
mod closing;
mod control;
mod faults;
mod frames;
mod server;
mod turns;

use bytes::Bytes;

use super::Side;
use super::config::H2Config;
use super::receiving::Receiving;
use super::sending::Sending;
use super::signal::{Flood, Signal};
use super::streams::{Over, Stream, Streams};
use crate::codec::limits::Limits;
use crate::time::Nanos;

use closing::Phase;

pub use client::{Client, ClientSignal, H2Client};
pub use server::{H2Server, Server, ServerSignal};

/// One HTTP/2 connection, without I/O.
///
/// Bytes go in with [`receive`](Self::receive), what they meant comes out with
/// [`signals`](Self::signals), bytes to send with [`take_output`](Self::take_output). For one
/// thread at a time. What is wrong with one stream costs that stream alone.
pub struct Connection<S: Side> {
    side: S,
    limits: Limits,
    config: H2Config,
    phase: Phase,
    /// A sign of life is asked for.
    pinged: bool,
    receiving: Receiving,
    sending: Sending,
    streams: Streams<S>,
}

impl<S: Side> std::fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (phase, streams) = (self.phase, self.streams.len());
        f.debug_struct("Connection")
            .field("phase", &phase)
            .field("streams", &streams)
            .field("flood", &self.receiving.flood())
            .finish_non_exhaustive()
    }
}

impl<S: Side> Connection<S> {
    fn of(side: S, limits: Limits, config: &H2Config, now: Nanos) -> Self {
        Self {
            side,
            limits,
            config: *config,
            phase: Phase::Open,
            pinged: false,
            receiving: Receiving::new::<S>(&limits, config, now),
            sending: Sending::new::<S>(&limits, config),
            streams: Streams::default(),
        }
    }

    /// Takes what a read brought. O(bytes).
    pub fn receive(&mut self, data: Bytes, now: Nanos) {
        if self.is_closed() {
            return;
        }
        self.pass(now);
        let sent = self.sending.take_data_frames();
        match self.receiving.read(data, sent) {
            Err(flood) => self.break_off(flood),
            Ok(data) => {
                for (id, priority) in self.receiving.take_priorities() {
                    if let Some(stream) = self.streams.get_mut(id) {
                        stream.outbox.priority = priority;
                    }
                }
                self.parse(data);
            }
        }
    }

    /// It is `now`.
    fn pass(&mut self, now: Nanos) {
        self.receiving.pass(now);
        self.sending.pass(now);
    }

    /// What happened since the last call, oldest first: 0 is the connection.
    pub fn signals(&mut self) -> Vec<(u32, Signal<S::Message>)> {
        self.streams.take_signals()
    }

    /// Hands the bytes to send to `write`, at most some 128 KiB; call it until there are none, as
    /// long as the socket takes them.
    pub fn take_output<T>(&mut self, write: impl FnOnce(&[u8]) -> T) -> T {
        self.serve();
        let written = self.sending.take_output(write);
        if !self.receiving.is_parsed() {
            let rest = self.receiving.take_rest();
            self.parse(rest);
        }
        written
    }

    /// False while what was read is not parsed, because the peer does not take our answers.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        self.receiving.is_parsed()
    }

    /// Whether a field block has begun and not ended, or its first frame has.
    #[must_use]
    pub fn in_head(&self) -> bool {
        self.receiving.in_head()
    }

    /// The flood that ended the connection.
    #[must_use]
    pub fn flood(&self) -> Option<Flood> {
        self.receiving.flood()
    }

    /// Open streams.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Bytes that wait for window or for the socket, on all streams.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.sending.queued()
    }

    /// Bytes that wait on one stream.
    #[must_use]
    pub fn queued_on(&self, id: u32) -> usize {
        self.streams.get(id).map_or(0, |stream| stream.outbox.queued())
    }

    /// Whether all of a stream's body waits for the connection's window, which others have used up.
    #[must_use]
    pub fn is_held_up(&self, id: u32) -> bool {
        self.streams.get(id).is_some_and(|stream| self.sending.holds_up(&stream.outbox))
    }

    /// Takes no more of a body until [`resume`](Self::resume): what comes fills its window.
    pub fn pause(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(id) {
            stream.pause(true);
        }
    }

    /// Takes on; what waited is emitted by the next [`signals`](Self::signals).
    pub fn resume(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(id) {
            stream.pause(false);
            self.deliver(id);
        }
    }

    /// Ends a stream at once, with an error code (RFC 9113 §7).
    pub fn reset(&mut self, id: u32, code: u32) {
        if self.remove(id, Over::Ours).is_some() {
            self.sending.reset(id, code);
            self.end_if_done();
        }
    }

    /// Tells what waits on a stream, and gives its window back.
    fn deliver(&mut self, id: u32) {
        let Some(delivered) = self.streams.deliver(id, self.receiving.read_len()) else { return };
        if let Some(bytes) = delivered.credit {
            self.sending.window_update(id, bytes);
        }
        if delivered.is_over {
            self.remove_whole(id);
        }
    }

    /// Emits what waits; of a response that is whole all, for there is no later.
    fn deliver_whole(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(id).filter(|s| !S::SERVER && !s.receiving) {
            stream.pause(false);
        }
        self.deliver(id);
    }

    /// The stream is over.
    fn remove(&mut self, id: u32, over: Over) -> Option<Stream<S::Head>> {
        let stream = self.streams.remove(id, over)?;
        self.sending.forget(&stream.outbox);
        Some(stream)
    }

    /// Removes a stream both of whose sides are over.
    fn remove_if_over(&mut self, id: u32) {
        if self.streams.get(id).is_some_and(Stream::is_over) {
            self.remove_whole(id);
        }
    }

    fn remove_whole(&mut self, id: u32) {
        self.remove(id, Over::Whole);
        self.end_if_done();
    }
}
