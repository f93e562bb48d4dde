//! What goes out: frames and field blocks, in turns (RFC 9113 §5.2, §6.9, RFC 9218 §10), and what the
//! peer's SETTINGS allow. A stream is here its number and its [`Outbox`].

mod outbox;
mod pool;
mod priority;
mod resets;

use bytes::Bytes;

use super::Side;
use super::config::H2Config;
use super::errors::{Checked, ConnectionError, broken};
use super::frame::{self, code, flag, kind};
use super::settings::{self, DEFAULT_WINDOW, MAX_WINDOW, Remote};
use super::writer::{self, BlockWriter, ListSize};
use crate::codec::error::CodecError;
use crate::codec::header_class::may_be_trailer;
use crate::codec::hpack::Encoder;
use crate::codec::limits::Limits;
use crate::head::Headers;
use crate::time::Nanos;

use outbox::Turn;
use resets::SentResets;

pub(super) use outbox::Outbox;
pub use outbox::STREAM_HIGH_WATER;
pub use priority::{Priority, Schedule};

/// Output beyond which streams wait for their turn: one write of a socket buffer takes no more.
const HIGH_WATER: usize = 128 << 10;
/// Output beyond which no more of a client is parsed: what is parsed makes answers, which are not
/// taken them. An endpoint is always read (RFC 9113 §5.2.2): it may take our requests only when we
/// have taken its responses.
const STALLED: usize = 2 * HIGH_WATER;
/// Output that the endpoint has not taken, beyond which no stream is opened.
const MAX_OUT: usize = 8 * HIGH_WATER;
/// Queued bytes of a whole connection beyond which each of its streams counts as full. 100 streams
/// at their own mark would be 6 MiB, and one read of the loop's may add 256 KiB to each.
const CONNECTION_HIGH_WATER: usize = 4 << 20;

const EMPTY_UPDATE: &str = "WINDOW_UPDATE of nothing";
const WINDOW_OVERFLOW: &str = "WINDOW_UPDATE beyond the largest window";

/// The sending half of one connection.
#[derive(Debug)]
pub(super) struct Sending {
    out: Vec<u8>,
    encoder: Encoder,
    remote: Remote,
    /// What the peer takes on all streams together.
    window: i64,
    schedule: Schedule,
    /// Turns that were taken.
    served: u32,
    /// Bytes that wait on all streams.
    queued: usize,
    /// DATA frames since the last read.
    data_frames: u32,
    /// Of a client's side alone: an endpoint's connection is shared.
    resets: Option<SentResets>,
}

impl Sending {
    /// Of a new connection: what is said first waits to be sent.
    pub(super) fn new<S: Side>(limits: &Limits, config: &H2Config) -> Self {
        Self {
            out: greeting::<S>(limits, config),
            encoder: Encoder::default(),
            remote: Remote::default(),
            window: i64::from(DEFAULT_WINDOW),
            schedule: Schedule::default(),
            served: 0,
            queued: 0,
            data_frames: 0,
            resets: (!S::SERVER).then(SentResets::default),
        }
    }

    /// It is `now`.
    pub(super) fn pass(&mut self, now: Nanos) {
        if let Some(resets) = &mut self.resets {
            resets.pass(now);
        }
    }

    // --- output -----------------------------------------------------------------------------------

    /// The buffer to write to.
    fn out(&mut self) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = pool::take();
        }
        &mut self.out
    }

    /// Hands all output to `write`.
    pub(super) fn take_output<T>(&mut self, write: impl FnOnce(&[u8]) -> T) -> T {
        let written = write(&self.out);
        pool::give_back(std::mem::take(&mut self.out));
        written
    }

    /// Whether streams may have their turns.
    pub(super) fn has_room(&self) -> bool {
        self.out.len() < HIGH_WATER
    }

    /// Whether so much is not taken that a client is not to be read on.
    pub(super) fn is_stalled(&self) -> bool {
        self.out.len() > STALLED
    }

    // --- frames -----------------------------------------------------------------------------------

    pub(super) fn reset(&mut self, id: u32, code: u32) {
        if let Some(resets) = &mut self.resets {
            resets.add();
        }
        frame::write_reset(self.out(), id, code);
    }

    pub(super) fn window_update(&mut self, id: u32, bytes: u32) {
        frame::write_window_update(self.out(), id, bytes);
    }

    pub(super) fn ping(&mut self, flags: u8, payload: &[u8]) {
        frame::write_ping(self.out(), flags, payload);
    }

    pub(super) fn goaway(&mut self, last: u32, code: u32, reason: &[u8]) {
        frame::write_goaway(self.out(), last, code, reason);
    }

    /// A field block on a stream; `write` says whether the stream ends with it, as is given back.
    pub(super) fn block(
        &mut self,
        id: u32,
        write: impl FnOnce(&mut BlockWriter<'_>) -> bool,
    ) -> bool {
        self.out();
        let mut block = BlockWriter::begin(&mut self.encoder, &mut self.out);
        let ends = write(&mut block);
        block.end(id, ends);
        ends
    }

    // --- what the peer allows ---------------------------------------------------------------------

    /// §6.5. Gives by how much the window of every stream moves (§6.9.2).
    pub(super) fn take_settings(&mut self, payload: &[u8]) -> Result<i64, ConnectionError> {
        let before = self.remote.initial_window;
        self.remote.apply(payload)?;
        if let Some((smallest, last)) = self.remote.table_bytes.take() {
            self.encoder.set_max_size(smallest);
            self.encoder.set_max_size(last);
        }
        frame::write_settings_ack(self.out());
        Ok(self.remote.initial_window - before)
    }

    /// §6.9: the connection's window.
    pub(super) fn credit(&mut self, more: u32) -> Checked {
        credit(&mut self.window, more).or_else(|(code, detail)| broken(code, detail))
    }

    /// What the peer takes on a stream at first.
    pub(super) fn initial_window(&self) -> i64 {
        self.remote.initial_window
    }

    /// Whether the peer takes an extended CONNECT (RFC 8441 §3).
    pub(super) fn can_upgrade(&self) -> bool {
        self.remote.connect_protocol
    }

    /// Whether the connection's window is used up.
    pub(super) fn is_clogged(&self) -> bool {
        self.window <= 0
    }

    /// Whether the peer takes the list that `write` writes. It is counted before the encoder sees it:
    /// its table must stay in step with the peer's.
    ///
    /// # Errors
    /// `headers_too_large`.
    pub(super) fn check_list(&self, write: impl FnOnce(&mut ListSize)) -> Result<(), CodecError> {
        if self.remote.list_bytes == usize::MAX {
            return Ok(());
        }
        let mut size = ListSize::default();
        write(&mut size);
        size.check(self.remote.list_bytes)
    }

    /// How many streams may be opened beside `open` ones, of at most `most` in all: none that could
    /// become a reset too many.
    pub(super) fn room(&self, open: usize, most: usize) -> usize {
        // Streams that were opened and given up are gone; their bytes wait all the same.
        if self.out.len() > MAX_OUT {
            return 0;
        }
        let most = self.remote.max_streams.min(most);
        most.saturating_sub(open).min(self.resets_left(open).unwrap_or(usize::MAX))
    }

    /// How many more resets there may be, the `open` streams counted as such; `None`: any number.
    pub(super) fn resets_left(&self, open: usize) -> Option<usize> {
        self.resets.as_ref().and_then(|resets| resets.left(open))
    }

    // --- bodies -----------------------------------------------------------------------------------

    /// Bytes that wait on all streams.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// DATA frames that went out since the last call.
    pub(super) fn take_data_frames(&mut self) -> u32 {
        std::mem::take(&mut self.data_frames)
    }

    /// More of a body, and its end (with trailers) if it is known.
    pub(super) fn push(&mut self, outbox: &mut Outbox, data: Bytes, end: Option<Option<&Headers>>) {
        let before = outbox.queued();
        outbox.push(data);
        if let Some(trailers) = end {
            outbox.finish(trailers);
        }
        self.queued += outbox.queued() - before;
    }

    /// What waits on a stream goes nowhere.
    pub(super) fn forget(&mut self, outbox: &Outbox) {
        self.queued -= outbox.queued();
    }

    /// The same of all streams.
    pub(super) fn forget_all(&mut self) {
        self.queued = 0;
    }

    /// How full a stream is, by the bytes that wait on it; beyond [`STREAM_HIGH_WATER`] its sender is
    /// to wait.
    pub(super) fn fullness(&self, outbox: &mut Outbox) -> usize {
        let queued = outbox.queued();
        // Also when the connection as a whole holds too much.
        let over = self.queued > CONNECTION_HIGH_WATER && queued > 0;
        let counted = if over { queued.max(STREAM_HIGH_WATER + 1) } else { queued };
        outbox.full |= counted > STREAM_HIGH_WATER;
        counted
    }

    /// Whether all that waits on a stream waits for the connection's window, which others have used
    /// up.
    pub(super) fn holds_up(&self, outbox: &Outbox) -> bool {
        self.is_clogged() && outbox.queued() > 0 && !outbox.has_begun()
    }

    /// Gives a stream a place in the schedule if it has something to send. True: no other waits, and
    /// there is room.
    pub(super) fn schedule(&mut self, id: u32, outbox: &mut Outbox) -> bool {
        let alone = self.schedule.is_empty() && self.has_room();
        if outbox.scheduled || !outbox.is_ready() {
            return false;
        }
        outbox.scheduled = true;
        self.schedule.insert(id, outbox.priority);
        alone
    }

    /// Takes the stream whose turn it is. It may be over, or [lack the window](Self::lacks_window).
    pub(super) fn next_stream(&mut self) -> Option<u32> {
        self.schedule.next(self.served)
    }

    /// Whether a stream cannot have its turn, for the connection has no window.
    pub(super) fn lacks_window(&self, outbox: &Outbox) -> bool {
        self.is_clogged() && outbox.queued() > 0
    }

    /// A place for a stream that lacked the window, when the turns are over.
    pub(super) fn put_back(&mut self, id: u32, outbox: &Outbox) {
        self.schedule.insert(id, outbox.priority);
    }

    /// A stream's turn. False: its trailers are more than the peer takes (RFC 9113 §6.5.2), and were
    /// not sent.
    pub(super) fn turn(&mut self, id: u32, outbox: &mut Outbox) -> bool {
        self.out();
        self.served = self.served.wrapping_add(1);
        outbox.scheduled = false;
        let queued = outbox.queued();
        let turn = outbox.turn(id, &mut self.window, &mut self.out);
        self.queued -= queued - outbox.queued();
        self.data_frames += 1;
        match turn {
            Turn::More => {
                outbox.scheduled = true;
                self.schedule.insert(id, outbox.priority);
            }
            Turn::Trailers(trailers) => return self.trailers(id, &trailers),
            Turn::Done | Turn::Blocked => {}
        }
        true
    }

    /// Ends a stream with its trailers; without any that may pass, with nothing. False: they are too
    /// large.
    fn trailers(&mut self, id: u32, trailers: &Headers) -> bool {
        if self.check_list(|size| writer::write_trailers(size, trailers)).is_err() {
            return false;
        }
        if trailers.iter().any(|(name, _)| may_be_trailer(name)) {
            self.block(id, |block| {
                writer::write_trailers(block, trailers);
                true
            });
        } else {
            frame::write_head(&mut self.out, 0, kind::DATA, flag::END_STREAM, id);
        }
        true
    }
}

/// What is said first (§3.4).
fn greeting<S: Side>(limits: &Limits, config: &H2Config) -> Vec<u8> {
    let header_bytes = u32::try_from(limits.header_bytes).unwrap_or(u32::MAX);
    let mut out = S::GREETING.to_vec();
    let mut say = vec![
        (settings::MAX_HEADER_LIST_SIZE, header_bytes),
        (settings::INITIAL_WINDOW_SIZE, config.first_window()),
        (settings::NO_RFC7540_PRIORITIES, 1),
    ];
    if S::SERVER {
        say.push((settings::MAX_CONCURRENT_STREAMS, config.streams));
        say.push((settings::ENABLE_CONNECT_PROTOCOL, 1));
    } else {
        say.push((settings::ENABLE_PUSH, 0));
    }
    frame::write_settings(&mut out, &say);
    if config.connection_window > DEFAULT_WINDOW {
        frame::write_window_update(&mut out, 0, config.connection_window - DEFAULT_WINDOW);
    }
    out
}

/// A WINDOW_UPDATE (§6.9): the code and rule if it breaks one.
fn credit(window: &mut i64, more: u32) -> Result<(), (u32, &'static str)> {
    *window += i64::from(more);
    match more {
        0 => Err((code::PROTOCOL_ERROR, EMPTY_UPDATE)),
        _ if *window > MAX_WINDOW => Err((code::FLOW_CONTROL_ERROR, WINDOW_OVERFLOW)),
        _ => Ok(()),
    }
}
