//! What comes in: reads into frames, frames into what they mean (RFC 9113 §4, §5.4, §6).
//!
//! A function here gives [`Broken`] for an error of the connection; one of a stream it deals with
//! itself, by [`Engine::fail_stream`].

use bytes::{Buf, Bytes};

use super::deliver::FRAME_ON_CLOSED;
use super::engine::Over;
use super::frame::{FrameHead, HEAD_BYTES, MAX_PAYLOAD, code, flag, kind, write_window_update};
use super::signal::{Flood, Signal};
use super::{Engine, HIGH_WATER, HeadError, Side, block::Block};
use crate::codec::error::CodecError;
use crate::error::Reason;

/// Output beyond which no more of a client is parsed: what is parsed makes answers, which are not
/// taken them. An endpoint is always read (RFC 9113 §5.2.2): it may take our requests only when we
/// have taken its responses.
const STALLED: usize = 2 * HIGH_WATER;
/// Bytes of a field block on the wire beside those of its fields: a block that is longer than this
/// many times the largest list says nothing that could be taken.
const MAX_BLOCK: usize = 2;
/// What is read of an endpoint's block in any case: it costs its stream to be larger than allowed,
/// and the tables must stay in step for the others.
const ENDPOINT_BLOCK: usize = 1 << 20;

/// A field block that has begun.
#[derive(Debug)]
pub(super) struct OpenBlock {
    stream: u32,
    ends: bool,
    depends_on_itself: bool,
    bytes: Vec<u8>,
}

/// An error of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// §7.
    pub(super) code: u32,
    /// Which rule was broken, in few words.
    pub(super) detail: &'static str,
}

/// The result of what may be an error of the connection.
pub(super) type Checked = Result<(), Broken>;

/// An error of the connection, as a result.
pub(super) const fn broken<T>(code: u32, detail: &'static str) -> Result<T, Broken> {
    Err(Broken { code, detail })
}

/// §5.3.1 of RFC 7540.
const DEPENDS_ON_ITSELF: &str = "stream that depends on itself";
/// A body that is not as long as its head said (§8.1.1).
pub(super) const SHORT_BODY: &str = "body shorter than content-length";

impl<S: Side> Engine<S> {
    /// Parses what was read, and tells what came of it.
    pub(super) fn parse(&mut self, data: Bytes) {
        let parsed = self.frames(data);
        for id in std::mem::take(&mut self.touched) {
            self.deliver(id);
        }
        if let Err(broken) = parsed {
            self.break_off(broken);
        }
    }

    fn frames(&mut self, mut data: Bytes) -> Checked {
        while !data.is_empty() && !self.is_closed() {
            if S::SERVER && self.out.len() > STALLED {
                self.rest = data;
                return Ok(());
            }
            if self.preface_left > 0 {
                self.preface(&mut data)?;
            } else if self.partial.is_empty() {
                self.whole(&mut data)?;
            } else {
                self.joined(&mut data)?;
            }
        }
        Ok(())
    }

    /// §3.4: what is no preface is no HTTP/2.
    fn preface(&mut self, data: &mut Bytes) -> Checked {
        let from = S::PREFACE.len() - self.preface_left;
        let n = self.preface_left.min(data.len());
        if data[..n] != S::PREFACE[from..from + n] {
            return broken(code::PROTOCOL_ERROR, "no preface");
        }
        data.advance(n);
        self.preface_left -= n;
        Ok(())
    }

    /// A frame that lies in one read is not copied.
    fn whole(&mut self, data: &mut Bytes) -> Checked {
        let Some(head) = data.first_chunk::<HEAD_BYTES>().map(FrameHead::read) else {
            self.partial.extend_from_slice(&data.split_off(0));
            return Ok(());
        };
        check_size(&head)?;
        if data.len() < HEAD_BYTES + head.len {
            self.partial.reserve_exact(HEAD_BYTES + head.len);
            self.partial.extend_from_slice(&data.split_off(0));
            return Ok(());
        }
        data.advance(HEAD_BYTES);
        let payload = data.split_to(head.len);
        self.frame(head, payload)
    }

    /// A frame of which a part came before.
    fn joined(&mut self, data: &mut Bytes) -> Checked {
        let missing = HEAD_BYTES.saturating_sub(self.partial.len()).min(data.len());
        self.partial.extend_from_slice(&data.split_to(missing));
        let Some(head) = self.partial.first_chunk::<HEAD_BYTES>().map(FrameHead::read) else {
            return Ok(());
        };
        check_size(&head)?;
        let missing = (HEAD_BYTES + head.len - self.partial.len()).min(data.len());
        self.partial.extend_from_slice(&data.split_to(missing));
        if self.partial.len() == HEAD_BYTES + head.len {
            let mut frame = Bytes::from(std::mem::take(&mut self.partial));
            frame.advance(HEAD_BYTES);
            return self.frame(head, frame);
        }
        Ok(())
    }

    fn frame(&mut self, head: FrameHead, payload: Bytes) -> Checked {
        let settings = head.kind == kind::SETTINGS && !head.has(flag::ACK);
        if !self.greeted && !settings {
            return broken(code::PROTOCOL_ERROR, "frame before SETTINGS");
        }
        if let Some(block) = &self.block
            && (head.kind != kind::CONTINUATION || head.stream != block.stream)
        {
            return broken(code::PROTOCOL_ERROR, "frame inside a field block");
        }
        match head.kind {
            kind::DATA => self.data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::PRIORITY => self.priority(head, &payload),
            kind::RST_STREAM => self.rst_stream(head, &payload),
            kind::SETTINGS => self.settings(head, &payload),
            kind::PUSH_PROMISE => broken(code::PROTOCOL_ERROR, "PUSH_PROMISE that nobody allowed"),
            kind::PING => self.ping_frame(head, &payload),
            kind::GOAWAY => self.goaway(head, &payload),
            kind::WINDOW_UPDATE => self.window_update(head, &payload),
            kind::CONTINUATION => self.continuation(head, &payload),
            kind::PRIORITY_UPDATE if head.stream != 0 => {
                broken(code::PROTOCOL_ERROR, "PRIORITY_UPDATE on a stream")
            }
            _ => Ok(()),
        }
    }

    /// §6.1.
    fn data(&mut self, head: FrameHead, mut payload: Bytes) -> Checked {
        let (id, len) = (head.stream, payload.len());
        if id == 0 {
            return broken(code::PROTOCOL_ERROR, "DATA on stream 0");
        }
        self.window -= len as i64;
        if self.window < 0 {
            return broken(code::FLOW_CONTROL_ERROR, "DATA beyond the connection's window");
        }
        self.credit_connection(len);
        unpad(head, &mut payload)?;
        let ends = head.has(flag::END_STREAM);
        if payload.is_empty() && len > 0 && !ends {
            let counted = self.meter.padding_only(self.now);
            self.check_flood(counted)?;
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return self.frame_of_no_stream(id);
        };
        if !stream.receiving {
            return self.fail_stream(id, code::STREAM_CLOSED, FRAME_ON_CLOSED);
        }
        if !stream.headed {
            return self.fail_stream(id, code::PROTOCOL_ERROR, "DATA before a head");
        }
        stream.received += payload.len() as u64;
        if stream.declared.is_some_and(|n| stream.received > n) {
            return self.fail_stream(id, code::PROTOCOL_ERROR, "DATA beyond content-length");
        }
        if ends && stream.is_torn() {
            return self.fail_stream(id, code::PROTOCOL_ERROR, SHORT_BODY);
        }
        let allowed = self.limits.body.is_none_or(|max| stream.received <= max);
        if stream.unwanted || stream.left {
            stream.receiving &= !ends;
            self.remove_if_over(id);
            return Ok(());
        }
        if !stream.inbox.receive(payload, len) {
            let detail = "DATA beyond the stream's window";
            return self.fail_stream(id, code::FLOW_CONTROL_ERROR, detail);
        }
        if !allowed {
            return self.refuse_rest(id, CodecError::new(Reason::BodyTooLarge, "body too large"));
        }
        if ends {
            stream.receiving = false;
            stream.inbox.end(None);
        }
        self.touch(id);
        Ok(())
    }

    /// Each byte of the connection's window is given back when it came: what is not taken is
    /// bounded by the windows of the streams, and must not stop the others.
    fn credit_connection(&mut self, len: usize) {
        self.taken += len as u32;
        if self.taken >= self.config.connection_window / 2 {
            let taken = std::mem::take(&mut self.taken);
            self.window += i64::from(taken);
            write_window_update(self.out(), 0, taken);
        }
    }

    /// §6.2.
    fn headers(&mut self, head: FrameHead, mut payload: Bytes) -> Checked {
        if head.stream == 0 || (S::SERVER && head.stream.is_multiple_of(2)) {
            return broken(code::PROTOCOL_ERROR, "HEADERS on a stream that is not a client's");
        }
        unpad(head, &mut payload)?;
        let mut depends_on_itself = false;
        if head.has(flag::PRIORITY) {
            // §5.3.2: what it says means nothing any more, but its form must be right.
            let Some(on) = payload.first_chunk::<4>().filter(|_| payload.len() >= 5) else {
                return broken(code::FRAME_SIZE_ERROR, "HEADERS shorter than its priority");
            };
            depends_on_itself = u32::from_be_bytes(*on) & 0x7FFF_FFFF == head.stream;
            payload.advance(5);
        }
        let ends = head.has(flag::END_STREAM);
        let mut block =
            OpenBlock { stream: head.stream, ends, depends_on_itself, bytes: Vec::new() };
        if head.has(flag::END_HEADERS) {
            return self.close_block(&block, &payload);
        }
        block.bytes.extend_from_slice(&payload);
        self.block = Some(block);
        Ok(())
    }

    /// §6.10.
    fn continuation(&mut self, head: FrameHead, payload: &[u8]) -> Checked {
        let Some(mut block) = self.block.take() else {
            return broken(code::PROTOCOL_ERROR, "CONTINUATION without HEADERS");
        };
        let least = if S::SERVER { 0 } else { ENDPOINT_BLOCK };
        let most = (MAX_BLOCK * self.limits.header_bytes).max(least);
        if block.bytes.len() + payload.len() > most {
            return self.check_flood(Err(Flood::Blocks));
        }
        block.bytes.extend_from_slice(payload);
        if head.has(flag::END_HEADERS) {
            let bytes = std::mem::take(&mut block.bytes);
            return self.close_block(&block, &bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A field block is complete. It is always read: the tables must stay in step.
    fn close_block(&mut self, open: &OpenBlock, bytes: &[u8]) -> Checked {
        let limits = &self.limits;
        let headed = self.streams.get(&open.stream).is_some_and(|s| s.headed);
        let max_fields = if headed { limits.trailers } else { limits.headers };
        let mut block = Block::new(limits, max_fields, bytes.len());
        let decoded = self.decoder.decode(bytes, limits.header_bytes, |n, v| block.push(n, v));
        if decoded.is_err() {
            return broken(code::COMPRESSION_ERROR, "field block that is not HPACK");
        }
        // What an endpoint's block may cost is bounded by its length; the connection is shared.
        if S::SERVER && block.is_bomb() {
            return self.check_flood(Err(Flood::Blocks));
        }
        if headed {
            return self.trailers(open.stream, open.ends, block);
        }
        let known = self.streams.contains_key(&open.stream);
        // What is wrong with an endpoint's frame is so before its head is taken; a client's head
        // must open the stream first.
        if !(open.depends_on_itself && known) {
            S::head(self, open.stream, open.ends, block)?;
        }
        if open.depends_on_itself && self.streams.contains_key(&open.stream) {
            return self.fail_stream(open.stream, code::PROTOCOL_ERROR, DEPENDS_ON_ITSELF);
        }
        Ok(())
    }

    /// §8.1: a second field section ends the message.
    fn trailers(&mut self, id: u32, ends: bool, block: Block) -> Checked {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if !stream.receiving {
            return self.fail_stream(id, code::STREAM_CLOSED, FRAME_ON_CLOSED);
        }
        if !ends {
            return self.fail_stream(id, code::PROTOCOL_ERROR, "trailers without END_STREAM");
        }
        if stream.is_torn() {
            return self.fail_stream(id, code::PROTOCOL_ERROR, SHORT_BODY);
        }
        match block.trailers() {
            Err(HeadError::Malformed(detail)) => {
                return self.fail_stream(id, code::PROTOCOL_ERROR, detail);
            }
            Err(HeadError::Refused(error)) => {
                stream.receiving = false;
                return self.refuse_rest(id, error);
            }
            Ok(trailers) => {
                stream.receiving = false;
                stream.inbox.end(Some(trailers).filter(|t| !t.is_empty()));
                self.touch(id);
            }
        }
        Ok(())
    }

    /// §6.3.
    fn priority(&mut self, head: FrameHead, payload: &[u8]) -> Checked {
        if head.stream == 0 {
            return broken(code::PROTOCOL_ERROR, "PRIORITY on stream 0");
        }
        match payload.first_chunk::<4>() {
            Some(on) if payload.len() == 5 => {
                match u32::from_be_bytes(*on) & 0x7FFF_FFFF == head.stream {
                    true => self.fail_stream(head.stream, code::PROTOCOL_ERROR, DEPENDS_ON_ITSELF),
                    false => Ok(()),
                }
            }
            _ => {
                let detail = "PRIORITY of another length than 5";
                self.fail_stream(head.stream, code::FRAME_SIZE_ERROR, detail)
            }
        }
    }

    /// §6.4.
    fn rst_stream(&mut self, head: FrameHead, payload: &[u8]) -> Checked {
        let id = head.stream;
        let Ok(code) = payload.try_into().map(u32::from_be_bytes) else {
            return broken(code::FRAME_SIZE_ERROR, "RST_STREAM of another length than 4");
        };
        if id == 0 || S::is_idle(self, id) {
            return broken(code::PROTOCOL_ERROR, "RST_STREAM of an idle stream");
        }
        // What came before it counts: a whole response, and the wish for no more of its request.
        self.deliver_whole(id);
        let Some(stream) = self.remove(id, Over::Peers) else { return self.reset_of_closed() };
        if stream.left {
            self.signals.push((id, Signal::Sent));
        } else if S::SERVER || stream.receiving || stream.tunnel {
            let refused = code == code::REFUSED_STREAM;
            let (malformed, detail) = (false, "reset by the peer");
            self.signals.push((id, Signal::Reset { code, refused, malformed, detail }));
        }
        self.end_if_done();
        Ok(())
    }
}

/// §4.2.
fn check_size(head: &FrameHead) -> Checked {
    if head.len > MAX_PAYLOAD {
        return broken(code::FRAME_SIZE_ERROR, "frame larger than MAX_FRAME_SIZE");
    }
    Ok(())
}

/// Takes the padding away (§6.1).
fn unpad(head: FrameHead, payload: &mut Bytes) -> Checked {
    if !head.has(flag::PADDED) {
        return Ok(());
    }
    let Some(&padding) = payload.first() else {
        return broken(code::FRAME_SIZE_ERROR, "padded frame without a byte");
    };
    payload.advance(1);
    match payload.len().checked_sub(usize::from(padding)) {
        Some(len) => {
            payload.truncate(len);
            Ok(())
        }
        None => broken(code::PROTOCOL_ERROR, "padding longer than its frame"),
    }
}
