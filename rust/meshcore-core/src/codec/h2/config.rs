//! What one connection allows and asks for, each number with its reason.

use super::receiving::FrameRate;
use super::settings::DEFAULT_WINDOW;

/// The settings of one connection, of our side.
#[derive(Clone, Copy, Debug)]
pub struct H2Config {
    /// Streams at one time: 100, what RFC 9113 §6.5.2 recommends as the least.
    pub streams: u32,
    /// Bytes that a peer may send on a stream before they are taken, once it was seen that they are:
    /// 256 KiB, one read of the loop's. Each begins with 64 KiB at the most.
    pub stream_window: u32,
    /// The same for all streams together; those that are not taken from do not count.
    pub connection_window: u32,
    /// How often the peer may reset what it opened.
    pub resets: FrameRate,
    /// How often it may send frames that carry nothing.
    pub control_frames: FrameRate,
}

impl H2Config {
    /// The first window of a stream.
    pub(super) fn first_window(&self) -> u32 {
        self.stream_window.min(DEFAULT_WINDOW)
    }
}

impl Default for H2Config {
    fn default() -> Self {
        Self {
            streams: 100,
            stream_window: 256 << 10,
            connection_window: 1 << 20,
            // Twice the streams: a client that cancels all it has is no attacker.
            resets: FrameRate { per_second: 100, burst: 200 },
            control_frames: FrameRate { per_second: 100, burst: 1000 },
        }
    }
}
