//! What one connection allows and asks for, each number with its reason.

use super::meter::FrameRate;

/// The settings of an engine.
#[derive(Clone, Copy, Debug)]
pub struct H2Config {
    /// Streams at one time: 100, what RFC 9113 §6.5.2 recommends as the least.
    pub streams: u32,
    /// Bytes that a peer may send on a stream before they are taken: 256 KiB, one read of the
    /// loop's; more only helps over long distances.
    pub stream_window: u32,
    /// The same for all streams together.
    pub connection_window: u32,
    /// Bytes of one stream that lie ready for the socket.
    pub send_buffer: usize,
    /// How often the peer may reset what it opened.
    pub resets: FrameRate,
    /// How often it may send frames that carry nothing.
    pub control_frames: FrameRate,
    /// Streams that end because the peer broke the rules of one: beyond it, it is no accident.
    pub error_resets: usize,
}

impl Default for H2Config {
    fn default() -> Self {
        Self {
            streams: 100,
            stream_window: 256 << 10,
            connection_window: 1 << 20,
            send_buffer: 64 << 10,
            // Twice the streams: a client that cancels all it has is no attacker.
            resets: FrameRate { per_second: 100, burst: 200 },
            control_frames: FrameRate { per_second: 100, burst: 1000 },
            error_resets: 100,
        }
    }
}
