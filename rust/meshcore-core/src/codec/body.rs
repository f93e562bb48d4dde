//! The body of one message, by whichever framing its head declared.

use super::chunked::Chunked;
use super::error::CodecError;
use super::event::BodyPart;
use super::limits::Limits;
use crate::head::BodyLength;

/// What a step of a body reader gave.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) part: BodyPart,
    /// Where in the source the body's bytes stop for now.
    pub(super) used: usize,
}

/// Reads one body.
#[derive(Debug)]
pub(super) enum BodyReader {
    /// `n` bytes are left.
    Length(u64),
    /// Chunked.
    Chunked(Chunked),
    /// Everything until the connection closes.
    UntilClose,
}

impl BodyReader {
    /// The reader for a body framed as `length`.
    pub(super) fn new(length: BodyLength, limits: &Limits) -> Self {
        match length {
            BodyLength::Empty => Self::Length(0),
            BodyLength::Known(n) => Self::Length(n),
            BodyLength::Streamed => Self::Chunked(Chunked::new(limits)),
            BodyLength::UntilClose => Self::UntilClose,
        }
    }

    /// Reads `src` from `at` on.
    pub(super) fn read(&mut self, src: &[u8], at: usize) -> Result<Progress, CodecError> {
        let mut part = BodyPart::default();
        let used = match self {
            Self::Chunked(chunked) => return chunked.read(src, at),
            Self::UntilClose => src.len(),
            Self::Length(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(src.len() - at);
                *left -= n as u64;
                part.end = *left == 0;
                at + n
            }
        };
        part.bytes.push(at..used, src);
        Ok(Progress { part, used })
    }
}
