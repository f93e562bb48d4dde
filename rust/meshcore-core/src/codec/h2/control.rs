//! Frames that are the connection's, or its streams' windows (RFC 9113 §6.5, §6.7 to §6.9).

use super::frame::{FrameHead, code, flag, write_ping, write_settings_ack};
use super::frames::{Checked, broken};
use super::settings::MAX_WINDOW;
use super::{Engine, Side};

const EMPTY_UPDATE: &str = "WINDOW_UPDATE of nothing";
const WINDOW_OVERFLOW: &str = "WINDOW_UPDATE beyond the largest window";

impl<S: Side> Engine<S> {
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
        for id in self.stream_ids() {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.outbox.window += change;
                if stream.outbox.window > MAX_WINDOW {
                    return broken(code::FLOW_CONTROL_ERROR, "SETTINGS overflow a window");
                }
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
            write_ping(self.out(), flag::ACK, payload);
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
        let more = i64::from(more & 0x7FFF_FFFF);
        if id == 0 {
            self.send_window += more;
            return match more {
                0 => broken(code::PROTOCOL_ERROR, EMPTY_UPDATE),
                _ if self.send_window > MAX_WINDOW => {
                    broken(code::FLOW_CONTROL_ERROR, WINDOW_OVERFLOW)
                }
                _ => Ok(()),
            };
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return match S::is_idle(self, id) {
                true => broken(code::PROTOCOL_ERROR, "WINDOW_UPDATE of an idle stream"),
                false => Ok(()),
            };
        };
        stream.outbox.window += more;
        match more {
            0 => self.fail_stream(id, code::PROTOCOL_ERROR, EMPTY_UPDATE),
            _ if stream.outbox.window > MAX_WINDOW => {
                self.fail_stream(id, code::FLOW_CONTROL_ERROR, WINDOW_OVERFLOW)
            }
            _ => {
                self.start(id);
                Ok(())
            }
        }
    }
}
