//! Frames that came, and what they mean to a stream (RFC 9113 §5.4, §6).
//!
//! A function here gives [`ConnectionError`](super::super::errors::ConnectionError) for an error of
//! the connection; one of a stream goes to [`Connection::stream_error`].

use bytes::Bytes;

use super::Connection;
use crate::codec::h2::Side;
use crate::codec::h2::block::Block;
use crate::codec::h2::errors::{Checked, broken};
use crate::codec::h2::frame::{FrameHead, code, flag, kind};
use crate::codec::h2::receiving::BlockHead;
use crate::codec::h2::signal::Signal;
use crate::codec::h2::streams::Over;

/// §5.3.1 of RFC 7540.
const DEPENDS_ON_ITSELF: &str = "stream that depends on itself";

impl<S: Side> Connection<S> {
    /// Parses what was read, and tells what came of it.
    pub(super) fn parse(&mut self, data: Bytes) {
        let parsed = self.frames(data);
        for id in self.streams.take_touched() {
            self.deliver(id);
        }
        if let Err(error) = parsed {
            self.break_off(error);
        }
    }

    fn frames(&mut self, mut data: Bytes) -> Checked {
        while !data.is_empty() && !self.is_closed() {
            if S::SERVER && self.sending.is_stalled() {
                self.receiving.hold(data);
                return Ok(());
            }
            if let Some((head, payload)) = self.receiving.next_frame(&mut data)? {
                self.frame(head, payload)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, head: FrameHead, payload: Bytes) -> Checked {
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
            kind::CONTINUATION => match self.receiving.continuation(head, &payload)? {
                Some((block, bytes)) => self.block(block, &bytes),
                None => Ok(()),
            },
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
        if let Some(credit) = self.receiving.take_data(len)? {
            self.sending.window_update(0, credit);
        }
        head.unpad(&mut payload)?;
        let ends = head.has(flag::END_STREAM);
        if payload.is_empty() && len > 0 && !ends {
            self.receiving.padding_only()?;
        }
        let Some(stream) = self.streams.get_mut(id) else {
            return self.frame_of_no_stream(id);
        };
        match stream.take_data(payload, len, ends, self.limits.body) {
            Ok(true) => self.streams.touch(id),
            Ok(false) => self.remove_if_over(id),
            Err(error) => return self.stream_error(id, error),
        }
        Ok(())
    }

    /// §6.2.
    fn headers(&mut self, head: FrameHead, payload: Bytes) -> Checked {
        if head.stream == 0 || (S::SERVER && head.stream.is_multiple_of(2)) {
            return broken(code::PROTOCOL_ERROR, "HEADERS on a stream that is not a client's");
        }
        match self.receiving.headers(head, payload)? {
            Some((block, bytes)) => self.block(block, &bytes),
            None => Ok(()),
        }
    }

    /// A field block is whole.
    fn block(&mut self, head: BlockHead, bytes: &[u8]) -> Checked {
        let (id, limits) = (head.stream, &self.limits);
        let headed = self.streams.get(id).is_some_and(|stream| stream.is_headed());
        let max_fields = if headed { limits.trailers } else { limits.headers };
        let mut block = Block::new(limits, max_fields, bytes.len());
        self.receiving.decode(bytes, limits.header_bytes, &mut block)?;
        if headed {
            return self.trailers(id, head.ends, block);
        }
        // What is wrong with an endpoint's frame is so before its head is taken; a client's head
        // must open the stream first.
        if !(head.depends_on_itself && self.streams.contains(id)) {
            S::head(self, id, head.ends, block)?;
        }
        if head.depends_on_itself && self.streams.contains(id) {
            return self.fail_stream(id, code::PROTOCOL_ERROR, DEPENDS_ON_ITSELF);
        }
        Ok(())
    }

    /// §8.1: a second field section ends the message.
    fn trailers(&mut self, id: u32, ends: bool, block: Block) -> Checked {
        let Some(stream) = self.streams.get_mut(id) else { return Ok(()) };
        match stream.take_trailers(block, ends) {
            Ok(()) => self.streams.touch(id),
            Err(error) => return self.stream_error(id, error),
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
        if id == 0 || self.side.is_idle(id) {
            return broken(code::PROTOCOL_ERROR, "RST_STREAM of an idle stream");
        }
        // What came before it counts: a whole response, and the wish for no more of its request.
        self.deliver_whole(id);
        let Some(stream) = self.remove(id, Over::Peers) else {
            return self.receiving.reset_of_closed();
        };
        let refused = code == code::REFUSED_STREAM;
        let (malformed, detail) = (false, "reset by the peer");
        self.streams.tell_reset(id, &stream, Signal::Reset { code, refused, malformed, detail });
        self.end_if_done();
        Ok(())
    }
}
