//! One HTTP/2 connection: what both sides have in common, and its surface.

use bytes::Bytes;
use hashbrown::HashMap;

use super::Side;
use super::config::H2Config;
use super::frame::{
    KIND_AT, MAX_PAYLOAD, code, kind, write_goaway, write_ping, write_reset, write_settings,
    write_window_update,
};
use super::frames::{Broken, OpenBlock};
use super::meter::Meter;
use super::priority::Schedule;
use super::resets::SentResets;
use super::settings::{self, DEFAULT_WINDOW, Remote};
use super::signal::{Flood, Signal};
use super::stream::Stream;
use crate::codec::hpack::{Decoder, Encoder};
use crate::codec::limits::Limits;
use crate::time::Nanos;

/// Streams that are over and remembered: a frame may have been on its way when they ended.
const REMEMBERED: usize = 256;
/// The payloads of our PINGs, by what they are for.
const LIVENESS: &[u8; 8] = b"meshping";
const DRAIN: &[u8; 8] = b"meshgone";

/// What has been said about the end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing.
    Open,
    /// Nothing yet; a PING measures how far the peer is.
    Draining,
    /// That no more streams are wanted, but those on their way are taken (RFC 9113 §6.8).
    Warned,
    /// Which stream is the last; when none is open the connection is over.
    Last(u32),
    /// It is over.
    Closed,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// We reset it: what comes for it was on its way.
    Ours,
    /// The peer reset it.
    Peers,
    /// Both sides said their END_STREAM.
    Whole,
}

/// One HTTP/2 connection, without I/O.
///
/// Bytes go in with [`receive`](Self::receive), what they meant comes out with
/// [`signals`](Self::signals), bytes to send with [`take_output`](Self::take_output). For one
/// thread at a time. What is wrong with one stream costs that stream alone.
pub struct Engine<S: Side> {
    pub(super) side: S,
    pub(super) limits: Limits,
    pub(super) config: H2Config,
    pub(super) phase: Phase,
    // What comes in.
    pub(super) preface_left: usize,
    pub(super) partial: Vec<u8>,
    pub(super) rest: Bytes,
    pub(super) read_len: usize,
    pub(super) block: Option<OpenBlock>,
    pub(super) decoder: Decoder,
    pub(super) meter: Meter,
    pub(super) flood: Option<Flood>,
    pub(super) now: Nanos,
    pub(super) window: i64,
    pub(super) taken: u32,
    // What the peer said.
    pub(super) remote: Remote,
    pub(super) greeted: bool,
    // What goes out.
    pub(super) out: Vec<u8>,
    pub(super) encoder: Encoder,
    pub(super) send_window: i64,
    pub(super) schedule: Schedule,
    pub(super) served: u32,
    pub(super) queued: usize,
    pub(super) data_frames: u32,
    /// Minded by the client's side alone: an endpoint's connection is shared.
    pub(super) resets: SentResets,
    pinged: bool,
    // Streams.
    pub(super) streams: HashMap<u32, Stream<S::Head>, foldhash::fast::RandomState>,
    pub(super) touched: Vec<u32>,
    pub(super) signals: Vec<(u32, Signal<S::Message>)>,
    /// The last stream of the peer's that was processed, and the last that it began.
    pub(super) last_peer: u32,
    pub(super) last_begun: u32,
    /// Streams that are over, and how they ended.
    over: Vec<(u32, Over)>,
    over_at: usize,
}

impl<S: Side> std::fmt::Debug for Engine<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (phase, streams) = (self.phase, self.streams.len());
        f.debug_struct("Engine")
            .field("phase", &phase)
            .field("streams", &streams)
            .field("flood", &self.flood)
            .finish_non_exhaustive()
    }
}

impl<S: Side> Engine<S> {
    pub(super) fn of(side: S, limits: Limits, config: &H2Config, now: Nanos) -> Self {
        let mut engine = Self {
            side,
            limits,
            config: *config,
            phase: Phase::Open,
            preface_left: S::PREFACE.len(),
            partial: Vec::new(),
            rest: Bytes::new(),
            read_len: 0,
            block: None,
            decoder: Decoder::default(),
            meter: Meter::new(S::SERVER, config.resets, config.control_frames, now),
            flood: None,
            now,
            window: i64::from(config.connection_window.max(DEFAULT_WINDOW)),
            taken: 0,
            remote: Remote::default(),
            greeted: false,
            out: Vec::new(),
            encoder: Encoder::default(),
            send_window: i64::from(DEFAULT_WINDOW),
            schedule: Schedule::default(),
            served: 0,
            queued: 0,
            data_frames: 0,
            resets: SentResets::default(),
            pinged: false,
            streams: HashMap::default(),
            touched: Vec::new(),
            signals: Vec::new(),
            last_peer: 0,
            last_begun: 0,
            over: Vec::new(),
            over_at: 0,
        };
        engine.greet();
        engine
    }

    /// The first window of a stream.
    pub(super) fn first_window(&self) -> u32 {
        self.config.stream_window.min(DEFAULT_WINDOW)
    }

    fn greet(&mut self) {
        let header_bytes = u32::try_from(self.limits.header_bytes).unwrap_or(u32::MAX);
        self.out.extend_from_slice(S::GREETING);
        let mut say = vec![
            (settings::MAX_HEADER_LIST_SIZE, header_bytes),
            (settings::INITIAL_WINDOW_SIZE, self.first_window()),
            (settings::NO_RFC7540_PRIORITIES, 1),
        ];
        if S::SERVER {
            say.push((settings::MAX_CONCURRENT_STREAMS, self.config.streams));
            say.push((settings::ENABLE_CONNECT_PROTOCOL, 1));
        } else {
            say.push((settings::ENABLE_PUSH, 0));
        }
        write_settings(&mut self.out, &say);
        if self.config.connection_window > DEFAULT_WINDOW {
            let more = self.config.connection_window - DEFAULT_WINDOW;
            write_window_update(&mut self.out, 0, more);
        }
    }

    /// Takes what a read brought. O(bytes).
    pub fn receive(&mut self, data: Bytes, now: Nanos) {
        if self.is_closed() {
            return;
        }
        self.pass(now);
        self.read_len = data.len();
        self.meter.sent_data(std::mem::take(&mut self.data_frames));
        match self.meter.scan(&data, now) {
            Err(flood) => self.close_for_flood(flood),
            Ok(()) => {
                for (stream, priority) in self.meter.take_priorities() {
                    if let Some(stream) = self.streams.get_mut(&stream) {
                        stream.outbox.priority = priority;
                    }
                }
                // What came before and was not parsed goes first.
                let rest = std::mem::take(&mut self.rest);
                self.parse(if rest.is_empty() { data } else { [rest, data].concat().into() });
            }
        }
    }

    /// It is `now`.
    pub(super) fn pass(&mut self, now: Nanos) {
        self.now = now;
        self.resets.pass(now);
    }

    /// The peer sends no more: every stream is over.
    pub fn receive_eof(&mut self) {
        if !self.is_closed() {
            self.close(code::CANCEL, "connection closed");
        }
    }

    /// What happened since the last call, oldest first: 0 is the connection.
    pub fn signals(&mut self) -> Vec<(u32, Signal<S::Message>)> {
        std::mem::take(&mut self.signals)
    }

    /// Hands the bytes to send to `write`, at most some 128 KiB; call it until there are none, as
    /// long as the socket takes them.
    pub fn take_output<T>(&mut self, write: impl FnOnce(&[u8]) -> T) -> T {
        self.serve();
        let written = write(&self.out);
        super::pool::give_back(std::mem::take(&mut self.out));
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            self.parse(rest);
        }
        written
    }

    /// False while what was read is not parsed, because the peer does not take our answers.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        self.rest.is_empty()
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether a field block has begun and not ended, or its first frame has.
    #[must_use]
    pub fn in_head(&self) -> bool {
        self.block.is_some() || self.partial.get(KIND_AT) == Some(&kind::HEADERS)
    }

    /// The flood that ended the connection.
    #[must_use]
    pub fn flood(&self) -> Option<Flood> {
        self.flood
    }

    /// Open streams.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Bytes that wait for window or for the socket, on all streams.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Bytes that wait on one stream.
    #[must_use]
    pub fn queued_on(&self, id: u32) -> usize {
        self.streams.get(&id).map_or(0, |stream| stream.outbox.queued())
    }

    /// Whether all of a stream's body waits for the connection's window, which others have used up.
    #[must_use]
    pub fn is_held_up(&self, id: u32) -> bool {
        let outbox = self.streams.get(&id).map(|stream| &stream.outbox);
        self.send_window <= 0 && outbox.is_some_and(|o| o.queued() > 0 && !o.has_begun())
    }

    /// Takes no more of a body until [`resume`](Self::resume): what comes fills its window.
    pub fn pause(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.inbox.paused = true;
        }
    }

    /// Takes on; what waited is emitted by the next [`signals`](Self::signals).
    pub fn resume(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.inbox.paused = false;
            self.deliver(id);
        }
    }

    /// Ends a stream at once, with an error code (RFC 9113 §7).
    pub fn reset(&mut self, id: u32, code: u32) {
        if self.remove(id, Over::Ours).is_some() {
            self.write_reset(id, code);
            self.end_if_done();
        }
    }

    /// Ends every stream and the connection.
    pub fn abandon(&mut self, code: u32) {
        self.break_off(Broken { code, detail: "connection given up" });
    }

    /// As [`abandon`](Self::abandon), because of what the peer did.
    pub(super) fn break_off(&mut self, broken: Broken) {
        if !self.is_closed() {
            let last = self.last_peer;
            write_goaway(self.out(), last, broken.code, b"");
            self.close(broken.code, broken.detail);
        }
    }

    pub(super) fn write_reset(&mut self, id: u32, code: u32) {
        if !S::SERVER {
            self.resets.add();
        }
        write_reset(self.out(), id, code);
    }

    /// Asks for a sign of life; [`Signal::Pong`] follows. False: one is asked for already.
    pub fn ping(&mut self) -> bool {
        if self.pinged || self.is_closed() {
            return false;
        }
        self.pinged = true;
        write_ping(self.out(), 0, LIVENESS);
        true
    }

    /// Begins to take no more streams (RFC 9113 §6.8): a PING, which tells how long the way to the
    /// peer is. [`Signal::Heard`] follows, and [`warn`](Self::warn) and
    /// [`send_goaway`](Self::send_goaway) are the next steps. The PING goes first, for peers exist that
    /// take nothing behind a GOAWAY.
    pub fn drain(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
            write_ping(self.out(), 0, DRAIN);
        }
    }

    /// The first GOAWAY: open no more streams. Those that are on their way are taken.
    pub fn warn(&mut self) {
        if matches!(self.phase, Phase::Open | Phase::Draining) {
            self.phase = Phase::Warned;
            write_goaway(self.out(), 0x7FFF_FFFF, code::NO_ERROR, b"");
        }
    }

    /// Says which stream is the last: what begins beyond it is not processed. Once; again only to
    /// give a `reason`, which goes out as debug data of at most some 16 KiB. [`Signal::Closed`]
    /// follows when the last stream is over.
    pub fn send_goaway(&mut self, reason: &[u8]) {
        let last = match self.phase {
            Phase::Closed => return,
            Phase::Last(_) if reason.is_empty() => return,
            // RFC 9113 §6.8: the number must not grow.
            Phase::Last(last) => last,
            Phase::Open | Phase::Draining | Phase::Warned => self.last_peer,
        };
        self.phase = Phase::Last(last);
        let reason = &reason[..reason.len().min(MAX_PAYLOAD - 8)];
        write_goaway(self.out(), last, code::NO_ERROR, reason);
        self.end_if_done();
    }

    /// The answer to a PING of ours.
    pub(super) fn pong(&mut self, payload: &[u8]) {
        if payload == LIVENESS && self.pinged {
            self.pinged = false;
            self.signals.push((0, Signal::Pong));
        } else if payload == DRAIN && self.phase == Phase::Draining {
            self.signals.push((0, Signal::Heard));
        }
    }

    pub(super) fn close_for_flood(&mut self, flood: Flood) {
        self.flood = Some(flood);
        self.break_off(Broken { code: code::ENHANCE_YOUR_CALM, detail: flood.name() });
    }

    /// The buffer to write to.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = super::pool::take();
        }
        &mut self.out
    }

    /// The stream is over, or the connection is.
    pub(super) fn remove(&mut self, id: u32, over: Over) -> Option<Stream<S::Head>> {
        let stream = self.streams.remove(&id)?;
        self.queued -= stream.outbox.queued();
        self.remember(id, over);
        Some(stream)
    }

    pub(super) fn remember(&mut self, id: u32, over: Over) {
        match self.over.get_mut(self.over_at) {
            Some(oldest) => *oldest = (id, over),
            None => self.over.push((id, over)),
        }
        self.over_at = (self.over_at + 1) % REMEMBERED;
    }

    /// How a stream ended, if it is remembered: what happened to it last.
    pub(super) fn recall(&self, id: u32) -> Option<Over> {
        let (later, earlier) = (&self.over[..self.over_at], &self.over[self.over_at..]);
        let mut newest = later.iter().rev().chain(earlier.iter().rev());
        newest.find(|(over, _)| *over == id).map(|(_, how)| *how)
    }

    /// Removes a stream both of whose sides are over.
    pub(super) fn remove_if_over(&mut self, id: u32) {
        if self.streams.get(&id).is_some_and(Stream::is_over) {
            self.remove(id, Over::Whole);
            self.end_if_done();
        }
    }

    pub(super) fn end_if_done(&mut self) {
        if matches!(self.phase, Phase::Last(_)) && self.streams.is_empty() {
            self.close(code::NO_ERROR, "connection drained");
        }
    }

    /// Every stream, the oldest first: the first to come is emitted first and gets room first.
    pub(super) fn stream_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.streams.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// The connection is over, and so is every stream that is waited for.
    pub(super) fn close(&mut self, code: u32, detail: &'static str) {
        self.phase = Phase::Closed;
        self.rest = Bytes::new();
        let ids = self.stream_ids();
        for &id in &ids {
            if !S::SERVER && self.streams.get(&id).is_some_and(|stream| !stream.receiving) {
                self.deliver_whole(id);
            }
        }
        self.queued = 0;
        for id in ids {
            let Some(stream) = self.streams.remove(&id) else { continue };
            if !stream.left && (S::SERVER || stream.receiving || stream.tunnel) {
                let (refused, malformed) = (false, false);
                self.signals.push((id, Signal::Reset { code, refused, malformed, detail }));
            }
        }
        self.signals.push((0, Signal::Closed));
    }
}
