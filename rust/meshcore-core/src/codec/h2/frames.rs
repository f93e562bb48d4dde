//! What comes in: reads into frames, frames into what they mean (RFC 9113 §4, §5.4, §6).
//!
//! A function here gives `Err(code)` for an error of the connection; one of a stream it deals with
//! itself, by [`Engine::fail_stream`].

use bytes::{Buf, Bytes};

use super::frame::{
    FrameHead, HEAD_BYTES, MAX_PAYLOAD, code, flag, kind, write_ping, write_settings_ack,
    write_window_update,
};
use super::settings::MAX_WINDOW;
use super::signal::{Flood, Signal};
use super::{Engine, HIGH_WATER, HeadError, Side, block::Block};
use crate::codec::error::CodecError;
use crate::error::Reason;

/// Output beyond which no more is parsed: what is parsed makes answers, and nobody takes them.
const STALLED: usize = 2 * HIGH_WATER;
/// Bytes of a field block on the wire beside those of its fields: a block that is longer than this
/// many times the largest list says nothing that could be taken.
const MAX_BLOCK: usize = 2;

/// A field block that has begun.
#[derive(Debug)]
pub(super) struct OpenBlock {
    stream: u32,
    ends: bool,
    depends_on_itself: bool,
    bytes: Vec<u8>,
}

/// The result of what may be an error of the connection.
pub(super) type Checked = Result<(), u32>;

impl<S: Side> Engine<S> {
    /// Parses what was read, and tells what came of it.
    pub(super) fn parse(&mut self, data: Bytes) {
        let parsed = self.frames(data);
        for id in std::mem::take(&mut self.touched) {
            self.deliver(id);
        }
        if let Err(code) = parsed
            && !self.is_closed()
        {
            self.abandon(code);
        }
    }

    fn frames(&mut self, mut data: Bytes) -> Checked {
        while !data.is_empty() && !self.is_closed() {
            if self.out.len() > STALLED {
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
            return Err(code::PROTOCOL_ERROR);
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
            return Err(code::PROTOCOL_ERROR);
        }
        if let Some(block) = &self.block
            && (head.kind != kind::CONTINUATION || head.stream != block.stream)
        {
            return Err(code::PROTOCOL_ERROR);
        }
        match head.kind {
            kind::DATA => self.data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::PRIORITY => self.priority(head, &payload),
            kind::RST_STREAM => self.rst_stream(head, &payload),
            kind::SETTINGS => self.settings(head, &payload),
            kind::PUSH_PROMISE => Err(code::PROTOCOL_ERROR),
            kind::PING => self.ping_frame(head, &payload),
            kind::GOAWAY => self.goaway(head, &payload),
            kind::WINDOW_UPDATE => self.window_update(head, &payload),
            kind::CONTINUATION => self.continuation(head, &payload),
            kind::PRIORITY_UPDATE if head.stream != 0 => Err(code::PROTOCOL_ERROR),
            _ => Ok(()),
        }
    }

    /// §6.1.
    fn data(&mut self, head: FrameHead, mut payload: Bytes) -> Checked {
        let (id, len) = (head.stream, payload.len());
        if id == 0 {
            return Err(code::PROTOCOL_ERROR);
        }
        self.window -= len as i64;
        if self.window < 0 {
            return Err(code::FLOW_CONTROL_ERROR);
        }
        self.credit_connection(len);
        unpad(head, &mut payload)?;
        let ends = head.has(flag::END_STREAM);
        if payload.is_empty() && len > 0 && !ends {
            let counted = self.meter.hollow(self.now);
            self.calm_if(counted)?;
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return self.frame_of_no_stream(id, code::STREAM_CLOSED);
        };
        if !stream.receiving || !stream.headed {
            let code = if stream.headed { code::STREAM_CLOSED } else { code::PROTOCOL_ERROR };
            return self.fail_stream(id, code);
        }
        stream.received += payload.len() as u64;
        let too_long = stream.declared.is_some_and(|n| stream.received > n);
        if too_long || (ends && stream.is_torn()) {
            return self.fail_stream(id, code::PROTOCOL_ERROR);
        }
        let allowed = self.limits.body.is_none_or(|max| stream.received <= max);
        if stream.unwanted || stream.left {
            stream.receiving &= !ends;
            self.remove_if_over(id);
            return Ok(());
        }
        if !stream.inbox.receive(payload, len) {
            return self.fail_stream(id, code::FLOW_CONTROL_ERROR);
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

    /// Each byte of the connection's window is given back when it came: what nobody takes is
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
            return Err(code::PROTOCOL_ERROR);
        }
        unpad(head, &mut payload)?;
        let mut depends_on_itself = false;
        if head.has(flag::PRIORITY) {
            // §5.3.2: what it says means nothing any more, but its form must be right.
            let Some(on) = payload.first_chunk::<4>().filter(|_| payload.len() >= 5) else {
                return Err(code::FRAME_SIZE_ERROR);
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
        let Some(mut block) = self.block.take() else { return Err(code::PROTOCOL_ERROR) };
        if block.bytes.len() + payload.len() > MAX_BLOCK * self.limits.header_bytes {
            return self.calm_if(Err(Flood::Blocks));
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
        decoded.map_err(|_| code::COMPRESSION_ERROR)?;
        if block.is_bomb() {
            return self.calm_if(Err(Flood::Blocks));
        }
        if headed {
            return self.trailers(open.stream, open.ends, block);
        }
        S::head(self, open.stream, open.ends, block)?;
        if open.depends_on_itself && self.streams.contains_key(&open.stream) {
            return self.fail_stream(open.stream, code::PROTOCOL_ERROR);
        }
        Ok(())
    }

    /// §8.1: a second field section ends the message.
    fn trailers(&mut self, id: u32, ends: bool, block: Block) -> Checked {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if !stream.receiving {
            return self.fail_stream(id, code::STREAM_CLOSED);
        }
        if !ends || stream.is_torn() {
            return self.fail_stream(id, code::PROTOCOL_ERROR);
        }
        match block.trailers() {
            Err(HeadError::Malformed) => return self.fail_stream(id, code::PROTOCOL_ERROR),
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
            return Err(code::PROTOCOL_ERROR);
        }
        match payload.first_chunk::<4>() {
            Some(on) if payload.len() == 5 => {
                match u32::from_be_bytes(*on) & 0x7FFF_FFFF == head.stream {
                    true => self.fail_stream(head.stream, code::PROTOCOL_ERROR),
                    false => Ok(()),
                }
            }
            _ => self.fail_stream(head.stream, code::FRAME_SIZE_ERROR),
        }
    }

    /// §6.4.
    fn rst_stream(&mut self, head: FrameHead, payload: &[u8]) -> Checked {
        let id = head.stream;
        let code = u32::from_be_bytes(payload.try_into().map_err(|_| code::FRAME_SIZE_ERROR)?);
        if id == 0 || S::is_idle(self, id) {
            return Err(code::PROTOCOL_ERROR);
        }
        // What came before it counts: a whole response, and the wish for no more of its request.
        self.deliver_whole(id);
        let Some(stream) = self.remove(id, false) else { return self.reset_of_no_stream() };
        if stream.left {
            self.signals.push((id, Signal::Sent));
        } else if S::SERVER || stream.receiving {
            let refused = code == code::REFUSED_STREAM;
            self.signals.push((id, Signal::Reset { code, refused, malformed: false }));
        }
        self.end_if_done();
        Ok(())
    }

    /// §6.5.
    fn settings(&mut self, head: FrameHead, payload: &[u8]) -> Checked {
        if head.stream != 0 {
            return Err(code::PROTOCOL_ERROR);
        }
        if head.has(flag::ACK) {
            return if payload.is_empty() { Ok(()) } else { Err(code::FRAME_SIZE_ERROR) };
        }
        self.greeted = true;
        let before = self.remote.initial_window;
        self.remote.apply(payload)?;
        if let Some((smallest, last)) = self.remote.table_bytes.take() {
            self.encoder.set_max_size(smallest);
            self.encoder.set_max_size(last);
        }
        write_settings_ack(self.out());
        let change = self.remote.initial_window - before;
        if change != 0 {
            self.move_windows(change)?;
        }
        Ok(())
    }

    /// §6.9.2: a new initial window moves that of every stream.
    fn move_windows(&mut self, change: i64) -> Checked {
        let ids: Vec<u32> = self.streams.keys().copied().collect();
        for id in ids {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.outbox.window += change;
                if stream.outbox.window > MAX_WINDOW {
                    return Err(code::FLOW_CONTROL_ERROR);
                }
            }
            self.start(id);
        }
        Ok(())
    }

    /// §6.7.
    fn ping_frame(&mut self, head: FrameHead, payload: &[u8]) -> Checked {
        if head.stream != 0 {
            return Err(code::PROTOCOL_ERROR);
        }
        if payload.len() != 8 {
            return Err(code::FRAME_SIZE_ERROR);
        }
        if head.has(flag::ACK) {
            self.pong(payload);
        } else {
            write_ping(self.out(), flag::ACK, payload);
        }
        Ok(())
    }

    /// §6.8.
    fn goaway(&mut self, head: FrameHead, payload: &[u8]) -> Checked {
        if head.stream != 0 {
            return Err(code::PROTOCOL_ERROR);
        }
        let Some(last) = payload.first_chunk::<4>().filter(|_| payload.len() >= 8) else {
            return Err(code::FRAME_SIZE_ERROR);
        };
        S::goaway(self, u32::from_be_bytes(*last) & 0x7FFF_FFFF);
        Ok(())
    }

    /// §6.9.
    fn window_update(&mut self, head: FrameHead, payload: &[u8]) -> Checked {
        let id = head.stream;
        let bytes = payload.try_into().map_err(|_| code::FRAME_SIZE_ERROR)?;
        let more = i64::from(u32::from_be_bytes(bytes) & 0x7FFF_FFFF);
        if id == 0 {
            self.send_window += more;
            return match more {
                0 => Err(code::PROTOCOL_ERROR),
                _ if self.send_window > MAX_WINDOW => Err(code::FLOW_CONTROL_ERROR),
                _ => Ok(()),
            };
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return if S::is_idle(self, id) { Err(code::PROTOCOL_ERROR) } else { Ok(()) };
        };
        stream.outbox.window += more;
        match more {
            0 => self.fail_stream(id, code::PROTOCOL_ERROR),
            _ if stream.outbox.window > MAX_WINDOW => {
                self.fail_stream(id, code::FLOW_CONTROL_ERROR)
            }
            _ => {
                self.start(id);
                Ok(())
            }
        }
    }
}

/// §4.2.
fn check_size(head: &FrameHead) -> Checked {
    if head.len > MAX_PAYLOAD { Err(code::FRAME_SIZE_ERROR) } else { Ok(()) }
}

/// Takes the padding away (§6.1).
fn unpad(head: FrameHead, payload: &mut Bytes) -> Checked {
    if !head.has(flag::PADDED) {
        return Ok(());
    }
    let Some(&padding) = payload.first() else { return Err(code::FRAME_SIZE_ERROR) };
    payload.advance(1);
    match payload.len().checked_sub(usize::from(padding)) {
        Some(len) => {
            payload.truncate(len);
            Ok(())
        }
        None => Err(code::PROTOCOL_ERROR),
    }
}
