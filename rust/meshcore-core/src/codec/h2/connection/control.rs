//! Frames that are the connection's, or its streams' windows (RFC 9113 §6.5, §6.7 to §6.9).

use super::Connection;
use crate::codec::h2::Side;
use crate::codec::h2::errors::{Checked, broken};
use crate::codec::h2::frame::{FrameHead, code, flag};

impl<S: Side> Connection<S> {
    /// §6.5.
    pub(super) fn settings(&mut self, head: FrameHead, payload: &[u8]) -> Checked {
        if head.stream != 0 {
            return broken(code::PROTOCOL_ERROR, "SETTINGS on a stream");
        }
        if head.has(flag::ACK) {
            return match payload {
                [] => Ok(()),
                _ => broken(code::FRAME_SIZE_ERROR, "acknowledged SETTINGS with a payload"),
            };
        }
        let change = self.sending.take_settings(payload)?;
        if change != 0 {
            self.move_windows(change)?;
        }
        Ok(())
    }

    /// §6.9.2: a new initial window moves that of every stream.
    fn move_windows(&mut self, change: i64) -> Checked {
        for id in self.streams.ids() {
            if let Some(stream) = self.streams.get_mut(id) {
                stream.outbox.move_window(change)?;
            }
            self.start(id);
        }
        Ok(())
    }

    /// §6.7.
    pub(super) fn ping_frame(&mut self, head: FrameHead, payload: &[u8]) -> Checked {
        if head.stream != 0 {
            return broken(code::PROTOCOL_ERROR, "PING on a stream");
        }
        if payload.len() != 8 {
            return broken(code::FRAME_SIZE_ERROR, "PING of another length than 8");
        }
        if head.has(flag::ACK) {
            self.pong(payload);
        } else {
            self.sending.ping(flag::ACK, payload);
        }
        Ok(())
    }

    /// §6.8.
    pub(super) fn goaway(&mut self, head: FrameHead, payload: &[u8]) -> Checked {
        if head.stream != 0 {
            return broken(code::PROTOCOL_ERROR, "GOAWAY on a stream");
        }
        let Some(last) = payload.first_chunk::<4>().filter(|_| payload.len() >= 8) else {
            return broken(code::FRAME_SIZE_ERROR, "GOAWAY shorter than 8");
        };
        S::goaway(self, u32::from_be_bytes(*last) & 0x7FFF_FFFF);
        Ok(())
    }

    /// §6.9.
    pub(super) fn window_update(&mut self, head: FrameHead, payload: &[u8]) -> Checked {
        let id = head.stream;
        let Ok(more) = payload.try_into().map(u32::from_be_bytes) else {
            return broken(code::FRAME_SIZE_ERROR, "WINDOW_UPDATE of another length than 4");
        };
        let more = more & 0x7FFF_FFFF;
        if id == 0 {
            return self.sending.credit(more);
        }
        let Some(stream) = self.streams.get_mut(id) else {
            return match self.side.is_idle(id) {
                true => broken(code::PROTOCOL_ERROR, "WINDOW_UPDATE of an idle stream"),
                false => Ok(()),
            };
        };
        match stream.outbox.credit(more) {
            Ok(()) => self.start(id),
            Err(error) => return self.stream_error(id, error),
        }
        Ok(())
    }
}
