//! Frames as they are written (RFC 9113 §4, §6).

use bytes::{Buf, Bytes};

use super::errors::{Checked, broken};

/// Bytes in front of each payload.
pub(super) const HEAD_BYTES: usize = 9;
/// Where in them a frame's type is.
pub(super) const KIND_AT: usize = 3;
/// The largest payload that is taken, and sent: the least that RFC 9113 §4.2 allows, and a fair
/// turn between streams.
pub(super) const MAX_PAYLOAD: usize = 16_384;

/// Frame types (§6; RFC 9218 §7.1).
pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0;
    pub(in super::super) const HEADERS: u8 = 1;
    pub(in super::super) const PRIORITY: u8 = 2;
    pub(in super::super) const RST_STREAM: u8 = 3;
    pub(in super::super) const SETTINGS: u8 = 4;
    pub(in super::super) const PUSH_PROMISE: u8 = 5;
    pub(in super::super) const PING: u8 = 6;
    pub(in super::super) const GOAWAY: u8 = 7;
    pub(in super::super) const WINDOW_UPDATE: u8 = 8;
    pub(in super::super) const CONTINUATION: u8 = 9;
    pub(in super::super) const PRIORITY_UPDATE: u8 = 0x10;
}

/// Flags (§6.1, §6.2).
pub(super) mod flag {
    pub(in super::super) const END_STREAM: u8 = 0x1;
    pub(in super::super) const ACK: u8 = 0x1;
    pub(in super::super) const END_HEADERS: u8 = 0x4;
    pub(in super::super) const PADDED: u8 = 0x8;
    pub(in super::super) const PRIORITY: u8 = 0x20;
}

/// Error codes (§7).
pub(super) mod code {
    /// No fault.
    pub(in super::super) const NO_ERROR: u32 = 0;
    /// The peer broke the protocol.
    pub(in super::super) const PROTOCOL_ERROR: u32 = 1;
    /// A fault of our own.
    pub(in super::super) const INTERNAL_ERROR: u32 = 2;
    /// More was sent than a window allows.
    pub(in super::super) const FLOW_CONTROL_ERROR: u32 = 3;
    /// A frame for a stream that is over.
    pub(in super::super) const STREAM_CLOSED: u32 = 5;
    /// A frame of the wrong size.
    pub(in super::super) const FRAME_SIZE_ERROR: u32 = 6;
    /// Nothing of the stream was processed.
    pub(in super::super) const REFUSED_STREAM: u32 = 7;
    /// The stream is not waited for any more.
    pub(in super::super) const CANCEL: u32 = 8;
    /// A field block that is no HPACK.
    pub(in super::super) const COMPRESSION_ERROR: u32 = 9;
    /// The peer floods.
    pub(in super::super) const ENHANCE_YOUR_CALM: u32 = 11;
}

/// What stands in front of a payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameHead {
    pub(super) len: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl FrameHead {
    /// Reads the nine bytes.
    pub(super) fn read(bytes: &[u8; HEAD_BYTES]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = *bytes;
        Self {
            len: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7FFF_FFFF,
        }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Takes the padding of a payload away (§6.1).
    pub(super) fn unpad(&self, payload: &mut Bytes) -> Checked {
        if !self.has(flag::PADDED) {
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
}

const fn head(len: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEAD_BYTES] {
    let [_, a, b, c] = (len as u32).to_be_bytes();
    let [s, t, u, v] = stream.to_be_bytes();
    [a, b, c, kind, flags, s, t, u, v]
}

/// Writes the nine bytes.
pub(super) fn write_head(out: &mut Vec<u8>, len: usize, kind: u8, flags: u8, stream: u32) {
    out.extend_from_slice(&head(len, kind, flags, stream));
}

/// Writes a field block that stands in `out` from `from` on, behind room for a frame's head: in as
/// many frames as it needs (§6.10).
pub(super) fn close_block(out: &mut Vec<u8>, from: usize, stream: u32, ends: bool) {
    let ends = if ends { flag::END_STREAM } else { 0 };
    let len = out.len() - from - HEAD_BYTES;
    if len <= MAX_PAYLOAD {
        let head = head(len, kind::HEADERS, ends | flag::END_HEADERS, stream);
        out[from..from + HEAD_BYTES].copy_from_slice(&head);
        return;
    }
    let block = out.split_off(from + HEAD_BYTES);
    out.truncate(from);
    let last = block.len().div_ceil(MAX_PAYLOAD) - 1;
    for (i, part) in block.chunks(MAX_PAYLOAD).enumerate() {
        let (kind, flags) = if i == 0 { (kind::HEADERS, ends) } else { (kind::CONTINUATION, 0) };
        let flags = if i == last { flags | flag::END_HEADERS } else { flags };
        write_head(out, part.len(), kind, flags, stream);
        out.extend_from_slice(part);
    }
}

pub(super) fn write_reset(out: &mut Vec<u8>, stream: u32, code: u32) {
    write_head(out, 4, kind::RST_STREAM, 0, stream);
    out.extend_from_slice(&code.to_be_bytes());
}

pub(super) fn write_window_update(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    write_head(out, 4, kind::WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&bytes.to_be_bytes());
}

pub(super) fn write_ping(out: &mut Vec<u8>, flags: u8, payload: &[u8]) {
    write_head(out, 8, kind::PING, flags, 0);
    out.extend_from_slice(payload);
}

pub(super) fn write_goaway(out: &mut Vec<u8>, last: u32, code: u32, debug: &[u8]) {
    write_head(out, 8 + debug.len(), kind::GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(debug);
}

pub(super) fn write_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    write_head(out, settings.len() * 6, kind::SETTINGS, 0, 0);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn write_settings_ack(out: &mut Vec<u8>) {
    write_head(out, 0, kind::SETTINGS, flag::ACK, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_there_and_back() {
        let mut out = Vec::new();
        write_head(&mut out, 0x01_02_03, 7, 9, 0x7FFF_FFFF);
        let head = FrameHead::read(out[..].try_into().expect("nine bytes"));
        assert_eq!((head.len, head.kind, head.flags), (0x01_02_03, 7, 9));
        assert_eq!(head.stream, 0x7FFF_FFFF);
    }

    #[test]
    fn a_long_block_is_continued() {
        let mut out = vec![1, 2, 3];
        out.extend(vec![0; HEAD_BYTES]);
        out.extend(vec![9; 2 * MAX_PAYLOAD + 1]);
        close_block(&mut out, 3, 5, true);
        let mut at = 3;
        let mut frames = Vec::new();
        while at < out.len() {
            let head = FrameHead::read(out[at..at + 9].try_into().expect("nine bytes"));
            frames.push((head.kind, head.flags, head.len));
            at += 9 + head.len;
        }
        assert_eq!(frames, [(1, 1, MAX_PAYLOAD), (9, 0, MAX_PAYLOAD), (9, 4, 1)]);
    }
}
