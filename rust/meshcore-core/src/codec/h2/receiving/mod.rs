//! What comes in, up to frames and field lists (RFC 9113 §3.4, §4, §6.10): their form and order, and
//! what the connection as a whole takes. Nothing here knows a stream.

mod meter;

use bytes::{Buf, Bytes};

use super::Side;
use super::block::Block;
use super::config::H2Config;
use super::errors::{Checked, ConnectionError, broken};
use super::frame::{FrameHead, HEAD_BYTES, KIND_AT, MAX_PAYLOAD, code, flag, kind};
use super::sending::Priority;
use super::settings::DEFAULT_WINDOW;
use super::signal::Flood;
use crate::codec::hpack::Decoder;
use crate::codec::limits::Limits;
use crate::time::Nanos;

pub use meter::{FrameRate, Meter};

/// Bytes of a field block on the wire beside those of its fields: a block that is longer than this
/// many times the largest list says nothing that could be taken.
const MAX_BLOCK: usize = 2;
/// What is read of an endpoint's block in any case: it costs its stream to be larger than allowed,
/// and the tables must stay in step for the others.
const ENDPOINT_BLOCK: usize = 1 << 20;

/// What the HEADERS of a field block say of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockHead {
    pub(super) stream: u32,
    pub(super) ends: bool,
    pub(super) depends_on_itself: bool,
}

/// A field block that has begun.
#[derive(Debug)]
struct OpenBlock {
    head: BlockHead,
    bytes: Vec<u8>,
}

/// A field block that is whole.
type WholeBlock = (BlockHead, Bytes);

/// The receiving half of one connection.
#[derive(Debug)]
pub(super) struct Receiving {
    /// What of the peer's preface is still to come.
    preface: &'static [u8],
    /// A frame that has not ended.
    partial: Vec<u8>,
    /// What was read and is not parsed.
    rest: Bytes,
    /// Bytes of the last read.
    read_len: usize,
    /// The peer's SETTINGS came.
    greeted: bool,
    block: Option<OpenBlock>,
    /// Bytes of the longest block that is read.
    most_block: usize,
    decoder: Decoder,
    meter: Meter,
    flood: Option<Flood>,
    now: Nanos,
    /// What the peer may still send on all streams together.
    window: i64,
    /// Taken, and not given back yet; as much as this is given back.
    taken: u32,
    credit_at: u32,
}

impl Receiving {
    /// Of a connection at time `now`; nothing was read.
    pub(super) fn new<S: Side>(limits: &Limits, config: &H2Config, now: Nanos) -> Self {
        let least_block = if S::SERVER { 0 } else { ENDPOINT_BLOCK };
        Self {
            preface: S::PREFACE,
            partial: Vec::new(),
            rest: Bytes::new(),
            read_len: 0,
            greeted: false,
            block: None,
            most_block: (MAX_BLOCK * limits.header_bytes).max(least_block),
            decoder: Decoder::default(),
            meter: Meter::new(S::SERVER, config.resets, config.control_frames, now),
            flood: None,
            now,
            window: i64::from(config.connection_window.max(DEFAULT_WINDOW)),
            taken: 0,
            credit_at: config.connection_window / 2,
        }
    }

    /// It is `now`.
    pub(super) fn pass(&mut self, now: Nanos) {
        self.now = now;
    }

    /// Takes what a read brought, and `sent` DATA frames went out since the last. Gives what is to be
    /// parsed: what came before and was not goes first. O(bytes).
    pub(super) fn read(&mut self, data: Bytes, sent: u32) -> Result<Bytes, ConnectionError> {
        self.read_len = data.len();
        self.meter.sent_data(sent);
        let scanned = self.meter.scan(&data, self.now);
        self.check(scanned)?;
        let rest = self.take_rest();
        Ok(if rest.is_empty() { data } else { [rest, data].concat().into() })
    }

    /// Takes the priorities that the last read brought, by stream.
    pub(super) fn take_priorities(&mut self) -> impl Iterator<Item = (u32, Priority)> + '_ {
        self.meter.take_priorities()
    }

    /// Keeps what is not parsed yet.
    pub(super) fn hold(&mut self, rest: Bytes) {
        self.rest = rest;
    }

    /// What is not parsed yet.
    pub(super) fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    /// Whether all that was read is parsed.
    pub(super) fn is_parsed(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes of the last read.
    pub(super) fn read_len(&self) -> usize {
        self.read_len
    }

    /// Whether the peer's SETTINGS came.
    pub(super) fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// Whether a field block has begun and not ended, or its first frame has.
    pub(super) fn in_head(&self) -> bool {
        self.block.is_some() || self.partial.get(KIND_AT) == Some(&kind::HEADERS)
    }

    /// The flood that ended the connection.
    pub(super) fn flood(&self) -> Option<Flood> {
        self.flood
    }

    /// Takes the next frame, if all of it is there; else the data is used up, or was the preface.
    pub(super) fn next_frame(
        &mut self,
        data: &mut Bytes,
    ) -> Result<Option<(FrameHead, Bytes)>, ConnectionError> {
        if !self.preface.is_empty() {
            return self.take_preface(data).map(|()| None);
        }
        let found = if self.partial.is_empty() { self.whole(data)? } else { self.joined(data)? };
        if let Some((head, _)) = &found {
            self.check_order(head)?;
        }
        Ok(found)
    }

    /// §3.4: what is no preface is no HTTP/2.
    fn take_preface(&mut self, data: &mut Bytes) -> Checked {
        let (now, later) = self.preface.split_at(self.preface.len().min(data.len()));
        if !data.starts_with(now) {
            return broken(code::PROTOCOL_ERROR, "no preface");
        }
        data.advance(now.len());
        self.preface = later;
        Ok(())
    }

    /// A frame that lies in one read is not copied.
    fn whole(&mut self, data: &mut Bytes) -> Result<Option<(FrameHead, Bytes)>, ConnectionError> {
        let Some(head) = data.first_chunk::<HEAD_BYTES>().map(FrameHead::read) else {
            self.partial.extend_from_slice(&data.split_off(0));
            return Ok(None);
        };
        check_size(&head)?;
        if data.len() < HEAD_BYTES + head.len {
            self.partial.reserve_exact(HEAD_BYTES + head.len);
            self.partial.extend_from_slice(&data.split_off(0));
            return Ok(None);
        }
        data.advance(HEAD_BYTES);
        Ok(Some((head, data.split_to(head.len))))
    }

    /// A frame of which a part came before.
    fn joined(&mut self, data: &mut Bytes) -> Result<Option<(FrameHead, Bytes)>, ConnectionError> {
        let missing = HEAD_BYTES.saturating_sub(self.partial.len()).min(data.len());
        self.partial.extend_from_slice(&data.split_to(missing));
        let Some(head) = self.partial.first_chunk::<HEAD_BYTES>().map(FrameHead::read) else {
            return Ok(None);
        };
        check_size(&head)?;
        let missing = (HEAD_BYTES + head.len - self.partial.len()).min(data.len());
        self.partial.extend_from_slice(&data.split_to(missing));
        if self.partial.len() < HEAD_BYTES + head.len {
            return Ok(None);
        }
        let mut frame = Bytes::from(std::mem::take(&mut self.partial));
        frame.advance(HEAD_BYTES);
        Ok(Some((head, frame)))
    }

    /// SETTINGS come first (§3.4), and nothing inside a field block (§6.10).
    fn check_order(&mut self, head: &FrameHead) -> Checked {
        let settings = head.kind == kind::SETTINGS && !head.has(flag::ACK);
        if !self.greeted && !settings {
            return broken(code::PROTOCOL_ERROR, "frame before SETTINGS");
        }
        self.greeted = true;
        if let Some(block) = &self.block
            && (head.kind != kind::CONTINUATION || head.stream != block.head.stream)
        {
            return broken(code::PROTOCOL_ERROR, "frame inside a field block");
        }
        Ok(())
    }

    /// A DATA frame came: `len` bytes with its padding. Gives what its sender gets back of the
    /// connection's window: each byte, when it came, for what is not taken is bounded by the windows
    /// of the streams, and must not stop the others.
    pub(super) fn take_data(&mut self, len: usize) -> Result<Option<u32>, ConnectionError> {
        self.window -= len as i64;
        if self.window < 0 {
            return broken(code::FLOW_CONTROL_ERROR, "DATA beyond the connection's window");
        }
        self.taken += len as u32;
        if self.taken < self.credit_at {
            return Ok(None);
        }
        let taken = std::mem::take(&mut self.taken);
        self.window += i64::from(taken);
        Ok(Some(taken))
    }

    /// §6.2. Gives the block if it is whole.
    pub(super) fn headers(
        &mut self,
        frame: FrameHead,
        mut payload: Bytes,
    ) -> Result<Option<WholeBlock>, ConnectionError> {
        frame.unpad(&mut payload)?;
        let mut depends_on_itself = false;
        if frame.has(flag::PRIORITY) {
            // §5.3.2: what it says means nothing any more, but its form must be right.
            let Some(on) = payload.first_chunk::<4>().filter(|_| payload.len() >= 5) else {
                return broken(code::FRAME_SIZE_ERROR, "HEADERS shorter than its priority");
            };
            depends_on_itself = u32::from_be_bytes(*on) & 0x7FFF_FFFF == frame.stream;
            payload.advance(5);
        }
        let ends = frame.has(flag::END_STREAM);
        let head = BlockHead { stream: frame.stream, ends, depends_on_itself };
        if frame.has(flag::END_HEADERS) {
            return Ok(Some((head, payload)));
        }
        self.block = Some(OpenBlock { head, bytes: payload.to_vec() });
        Ok(None)
    }

    /// §6.10. Gives the block if it is whole.
    pub(super) fn continuation(
        &mut self,
        frame: FrameHead,
        payload: &[u8],
    ) -> Result<Option<WholeBlock>, ConnectionError> {
        let Some(mut block) = self.block.take() else {
            return broken(code::PROTOCOL_ERROR, "CONTINUATION without HEADERS");
        };
        if block.bytes.len() + payload.len() > self.most_block {
            return Err(self.flooded(Flood::Blocks));
        }
        block.bytes.extend_from_slice(payload);
        if frame.has(flag::END_HEADERS) {
            return Ok(Some((block.head, block.bytes.into())));
        }
        self.block = Some(block);
        Ok(None)
    }

    /// Reads a whole block into a list of at most `list_bytes`. It is always read: the tables must
    /// stay in step.
    pub(super) fn decode(&mut self, bytes: &[u8], list_bytes: usize, into: &mut Block) -> Checked {
        let decoded = self.decoder.decode(bytes, list_bytes, |n, v| into.push(n, v));
        if decoded.is_err() {
            return broken(code::COMPRESSION_ERROR, "field block that is not HPACK");
        }
        let counted = if into.is_bomb() { self.meter.bomb() } else { Ok(()) };
        self.check(counted)
    }

    /// A stream ended through a fault of the peer's.
    pub(super) fn fault(&mut self) -> Checked {
        let counted = self.meter.fault(self.now);
        self.check(counted)
    }

    /// A RST_STREAM came that ends nothing.
    pub(super) fn reset_of_closed(&mut self) -> Checked {
        let counted = self.meter.reset_of_closed(self.now);
        self.check(counted)
    }

    /// A frame came that has something in it and brings nothing.
    pub(super) fn padding_only(&mut self) -> Checked {
        let counted = self.meter.padding_only(self.now);
        self.check(counted)
    }

    /// What the meter found ends the connection.
    fn check(&mut self, counted: Result<(), Flood>) -> Checked {
        counted.map_err(|flood| self.flooded(flood))
    }

    fn flooded(&mut self, flood: Flood) -> ConnectionError {
        self.flood = Some(flood);
        ConnectionError { code: code::ENHANCE_YOUR_CALM, detail: flood.name() }
    }
}

/// §4.2.
fn check_size(head: &FrameHead) -> Checked {
    if head.len > MAX_PAYLOAD {
        return broken(code::FRAME_SIZE_ERROR, "frame larger than MAX_FRAME_SIZE");
    }
    Ok(())
}
