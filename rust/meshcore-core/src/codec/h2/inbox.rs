//! What a stream received: the parts of a body that came in one read, as one.

use std::task::{Context, Poll};

use h2::RecvStream;
use smallvec::SmallVec;

use super::super::error::CodecError;
use super::super::event::{BodyPart, Bytes};
use super::fields::receive_trailers;
use crate::error::Reason;

/// Why a body ends before its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// The stream was reset, or the connection is gone.
    Stream(h2::Error),
    /// It may not pass.
    Refused(CodecError),
}

/// The receiving side of one stream.
#[derive(Debug)]
pub(super) struct Inbox {
    recv: RecvStream,
    /// Bytes so far, beside what is allowed.
    received: u64,
    max_bytes: Option<u64>,
    max_trailers: usize,
    /// It is a response: NO_ERROR ends it.
    pub(super) response: bool,
    /// Nothing is taken: what comes fills the stream's window, and no further.
    pub(super) paused: bool,
}

impl Inbox {
    pub(super) fn new(recv: RecvStream, max_bytes: Option<u64>, max_trailers: usize) -> Self {
        Self { recv, received: 0, max_bytes, max_trailers, response: false, paused: false }
    }

    /// Takes what is there. What is taken is credited to the peer: the caller hands it on at once
    /// or says [`paused`](Self::paused).
    pub(super) fn take(&mut self, cx: &mut Context<'_>) -> Result<BodyPart, Broken> {
        let mut pieces: SmallVec<[bytes::Bytes; 1]> = SmallVec::new();
        let mut part = BodyPart::default();
        loop {
            match self.recv.poll_data(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(data))) => {
                    self.received += data.len() as u64;
                    if self.max_bytes.is_some_and(|max| self.received > max) {
                        let error = CodecError::new(Reason::BodyTooLarge, "body too large");
                        return Err(Broken::Refused(error));
                    }
                    let _ = self.recv.flow_control().release_capacity(data.len());
                    if !data.is_empty() {
                        pieces.push(data);
                    }
                }
                // RFC 9113 §8.1: a whole response, and the wish to read no more of the request.
                Poll::Ready(Some(Err(error))) if self.is_no_error(&error) => {
                    part.end = true;
                    break;
                }
                Poll::Ready(Some(Err(error))) => return Err(Broken::Stream(error)),
                Poll::Ready(None) => {
                    part.end = self.take_trailers(cx, &mut part)?;
                    break;
                }
            }
        }
        if !pieces.is_empty() {
            part.bytes = Bytes::Shared(pieces);
        }
        Ok(part)
    }

    fn is_no_error(&self, error: &h2::Error) -> bool {
        let clean = error.is_remote() && error.is_reset();
        self.response && clean && error.reason() == Some(h2::Reason::NO_ERROR)
    }

    /// Whether the stream is at its end.
    fn take_trailers(&mut self, cx: &mut Context<'_>, part: &mut BodyPart) -> Result<bool, Broken> {
        match self.recv.poll_trailers(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(error)) => Err(Broken::Stream(error)),
            Poll::Ready(Ok(None)) => Ok(true),
            Poll::Ready(Ok(Some(map))) => {
                let trailers = receive_trailers(&map, self.max_trailers);
                part.trailers = Some(Box::new(trailers.map_err(Broken::Refused)?));
                Ok(true)
            }
        }
    }
}
