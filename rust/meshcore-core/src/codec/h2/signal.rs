//! What a connection tells: about a stream, or (number 0) about the connection.

use crate::codec::asked::Asked;
use crate::codec::error::CodecError;

/// One thing that happened; it comes with the number of its stream.
#[derive(Clone, Debug)]
pub enum Signal<M> {
    /// A head, or more of a body: the same events as HTTP/1.1 has.
    Message(M),
    /// A request or response that may not pass. The stream is open for an answer. Of a request
    /// that was not told yet, what it asked for.
    Refused(CodecError, Option<Box<Asked>>),
    /// The stream ended without its message: it is gone.
    Reset {
        /// The error code (RFC 9113 §7).
        code: u32,
        /// Nothing of the request was processed: it may be sent again elsewhere (§8.7).
        refused: bool,
        /// What the peer sent made no sense, and the reset is ours.
        malformed: bool,
        /// Why, in few words; for logs, may change.
        detail: &'static str,
    },
    /// What was queued on the stream is nearly sent: it takes more.
    Writable,
    /// All of a stream that was left, or of a client's side of a tunnel, is sent.
    Sent,
    /// The peer opens or takes no more streams; those that are open go on.
    GoAway,
    /// The answer to a PING.
    Pong,
    /// The answer to the PING of [`drain`](super::Connection::drain): the peer reads what it is sent.
    Heard,
    /// The connection is over: send what is left to send, and close.
    Closed,
}

/// Sums of the frames that only cost; a rule of [`super::Meter`] was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Flood {
    /// Streams that the peer opened and reset (CVE-2023-44487).
    Resets,
    /// PING and SETTINGS (CVE-2019-9512, CVE-2019-9515).
    Control,
    /// DATA and HEADERS without a byte (CVE-2019-9518).
    Empty,
    /// WINDOW_UPDATE beyond what was sent could need (CVE-2019-9517).
    WindowUpdates,
    /// PRIORITY and PRIORITY_UPDATE (CVE-2019-9513).
    Priorities,
    /// Frames of unknown types.
    Unknown,
    /// Field blocks that go on and on (CVE-2024-27316), or mean far more than they say
    /// (CVE-2016-6581).
    Blocks,
    /// Streams that end because the peer broke the rules of one, or opened more than it may.
    Faults,
}

impl Flood {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 8] = [
        Self::Resets,
        Self::Control,
        Self::Empty,
        Self::WindowUpdates,
        Self::Priorities,
        Self::Unknown,
        Self::Blocks,
        Self::Faults,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resets => "rapid_reset",
            Self::Control => "control_flood",
            Self::Empty => "empty_frames",
            Self::WindowUpdates => "window_update_flood",
            Self::Priorities => "priority_flood",
            Self::Unknown => "unknown_frames",
            Self::Blocks => "field_block_flood",
            Self::Faults => "stream_errors",
        }
    }
}
