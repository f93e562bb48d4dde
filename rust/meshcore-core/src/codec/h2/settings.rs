//! SETTINGS of the peer (RFC 9113 §6.5.2, RFC 8441 §3).

use super::errors::{Checked, broken};
use super::frame::code;

pub(super) const HEADER_TABLE_SIZE: u16 = 1;
pub(super) const ENABLE_PUSH: u16 = 2;
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(super) const MAX_FRAME_SIZE: u16 = 5;
pub(super) const MAX_HEADER_LIST_SIZE: u16 = 6;
pub(super) const ENABLE_CONNECT_PROTOCOL: u16 = 8;
/// RFC 9218 §2.1.
pub(super) const NO_RFC7540_PRIORITIES: u16 = 9;

/// The window of a stream that was not set (§6.9.2), and of every connection at first.
pub(super) const DEFAULT_WINDOW: u32 = 65_535;
/// §6.9.1.
pub(super) const MAX_WINDOW: i64 = (1 << 31) - 1;

/// What a peer has said that it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote {
    pub(super) initial_window: i64,
    pub(super) max_streams: usize,
    pub(super) connect_protocol: bool,
    /// Bytes of a field list that it takes (§6.5.2), by the measure of §10.5.1.
    pub(super) list_bytes: usize,
    /// The smallest and the last new size of its table for field blocks, until the encoder has been
    /// told (RFC 7541 §4.2).
    pub(super) table_bytes: Option<(u32, u32)>,
}

impl Default for Remote {
    fn default() -> Self {
        Self {
            initial_window: i64::from(DEFAULT_WINDOW),
            max_streams: usize::MAX,
            connect_protocol: false,
            list_bytes: usize::MAX,
            table_bytes: None,
        }
    }
}

impl Remote {
    /// Takes the payload of a SETTINGS frame; later values of one setting win.
    ///
    /// # Errors
    /// The error of the connection for a value out of its range.
    pub(super) fn apply(&mut self, payload: &[u8]) -> Checked {
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return broken(code::FRAME_SIZE_ERROR, "SETTINGS cut inside a setting");
        }
        for [a, b, value @ ..] in settings {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*a, *b]) {
                HEADER_TABLE_SIZE => {
                    let smallest = self.table_bytes.map_or(value, |(least, _)| least.min(value));
                    self.table_bytes = Some((smallest, value));
                }
                ENABLE_PUSH if value > 1 => {
                    return broken(code::PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1");
                }
                ENABLE_CONNECT_PROTOCOL if value > 1 => {
                    let detail = "ENABLE_CONNECT_PROTOCOL is neither 0 nor 1";
                    return broken(code::PROTOCOL_ERROR, detail);
                }
                // RFC 8441 §3: once it was said it is not taken back.
                ENABLE_CONNECT_PROTOCOL => self.connect_protocol |= value == 1,
                MAX_CONCURRENT_STREAMS => self.max_streams = value as usize,
                INITIAL_WINDOW_SIZE if i64::from(value) > MAX_WINDOW => {
                    return broken(code::FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE too large");
                }
                INITIAL_WINDOW_SIZE => self.initial_window = value.into(),
                MAX_FRAME_SIZE if !(16_384..=16_777_215).contains(&value) => {
                    return broken(code::PROTOCOL_ERROR, "MAX_FRAME_SIZE out of range");
                }
                MAX_HEADER_LIST_SIZE => self.list_bytes = value as usize,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::errors::ConnectionError;
    use super::*;

    fn applied(settings: &[(u16, u32)]) -> Result<Remote, ConnectionError> {
        let mut frame = Vec::new();
        super::super::frame::write_settings(&mut frame, settings);
        let mut remote = Remote::default();
        remote.apply(&frame[9..]).map(|()| remote)
    }

    #[test]
    fn values_and_their_ranges() {
        let remote =
            applied(&[(3, 7), (4, 1), (8, 1), (1, 0), (1, 9), (99, 5), (4, 2), (6, 99)]).unwrap();
        assert_eq!((remote.max_streams, remote.initial_window), (7, 2));
        assert_eq!(remote.list_bytes, 99);
        assert!(remote.connect_protocol && remote.table_bytes == Some((0, 9)));
        for (id, value, code) in [
            (2, 2, code::PROTOCOL_ERROR),
            (8, 2, code::PROTOCOL_ERROR),
            (4, 1 << 31, code::FLOW_CONTROL_ERROR),
            (5, 16_383, code::PROTOCOL_ERROR),
            (5, 1 << 24, code::PROTOCOL_ERROR),
        ] {
            assert_eq!(applied(&[(id, value)]).unwrap_err().code, code, "{id} {value}");
        }
        assert_eq!(Remote::default().apply(&[0; 7]).unwrap_err().code, code::FRAME_SIZE_ERROR);
    }
}
