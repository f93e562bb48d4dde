//! What is wrong with what came: an error of the connection, or of one stream (RFC 9113 §5.4).

use super::HeadError;
use super::frame::code;
use crate::codec::error::CodecError;

/// What is wrong with a frame behind the end of its stream.
pub(super) const FRAME_ON_CLOSED: &str = "frame on closed stream";

/// An error of the connection (§5.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionError {
    /// §7.
    pub(super) code: u32,
    /// Which rule was broken, in few words.
    pub(super) detail: &'static str,
}

/// The result of what may be an error of the connection.
pub(super) type Checked = Result<(), ConnectionError>;

/// An error of the connection, as a result.
pub(super) const fn broken<T>(code: u32, detail: &'static str) -> Result<T, ConnectionError> {
    Err(ConnectionError { code, detail })
}

/// An error of a stream (§5.4.2).
#[derive(Clone, Copy, Debug)]
pub(super) enum StreamError {
    /// The peer broke its rules: the stream ends. A code of §7, and which rule, in few words.
    Broken(u32, &'static str),
    /// The rest of a message may not pass; the stream is open for an answer.
    Refused(CodecError),
}

impl From<HeadError> for StreamError {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Malformed(detail) => Self::Broken(code::PROTOCOL_ERROR, detail),
            HeadError::Refused(error) => Self::Refused(error),
        }
    }
}
