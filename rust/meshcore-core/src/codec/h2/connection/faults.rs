//! How a stream ends that went wrong (RFC 9113 §5.1, §5.4.2).

use super::Connection;
use super::closing::Phase;
use crate::codec::error::CodecError;
use crate::codec::h2::Side;
use crate::codec::h2::errors::{Checked, FRAME_ON_CLOSED, StreamError, broken};
use crate::codec::h2::frame::code;
use crate::codec::h2::signal::Signal;
use crate::codec::h2::streams::Over;

impl<S: Side> Connection<S> {
    /// What came on a stream is wrong: the stream ends, or its message does; the others go on.
    pub(super) fn stream_error(&mut self, id: u32, error: StreamError) -> Checked {
        match error {
            StreamError::Broken(code, detail) => self.fail_stream(id, code, detail),
            StreamError::Refused(error) => self.refuse_rest(id, error),
        }
    }

    /// The peer broke the rules of a stream (§5.4.2): the stream ends, the others go on.
    ///
    /// A response that was whole before the fault is delivered: it is its client's.
    pub(super) fn fail_stream(&mut self, id: u32, code: u32, detail: &'static str) -> Checked {
        let whole = !S::SERVER && self.streams.get(id).is_some_and(|s| !s.receiving);
        if whole {
            self.deliver_whole(id);
        }
        match self.remove(id, Over::Ours) {
            None => return self.fail_closed(id, code),
            Some(stream) if stream.left => self.streams.tell(id, Signal::Sent),
            Some(stream) if whole && !stream.tunnel => {}
            Some(_) => {
                let (refused, malformed) = (false, true);
                self.streams.tell(id, Signal::Reset { code, refused, malformed, detail });
            }
        }
        self.sending.reset(id, code);
        self.end_if_done();
        self.receiving.fault()
    }

    /// The same of a stream that is not open. RFC 9113 §5.4.2 lets us reset it once more, §5.1 lets
    /// us drop what comes for it: so it is, when an endpoint has heard many resets of us.
    fn fail_closed(&mut self, id: u32, code: u32) -> Checked {
        self.streams.remember(id, Over::Ours);
        if self.sending.resets_left(self.streams.len()) != Some(0) {
            self.sending.reset(id, code);
        }
        self.end_if_done();
        self.receiving.fault()
    }

    /// The rest of a message may not pass. Work on it has begun, and that costs as much as a reset
    /// (CVE-2025-8671).
    fn refuse_rest(&mut self, id: u32, error: CodecError) -> Checked {
        self.streams.refuse(id, S::blame(error));
        self.receiving.fault()
    }

    /// DATA, or an endpoint's HEADERS, for a stream that is not open (RFC 9113 §5.1).
    ///
    /// Behind the peer's own RST_STREAM or END_STREAM it is an error: STREAM_CLOSED. §5.1 permits
    /// to make it the connection's; it is the stream's here, because an endpoint's connection is
    /// shared by clients that have no part in the mistake, and a stream error tells it as much.
    pub(super) fn frame_of_no_stream(&mut self, id: u32) -> Checked {
        if self.side.is_idle(id) {
            return broken(code::PROTOCOL_ERROR, "frame on an idle stream");
        }
        let beyond = matches!(self.phase, Phase::Last(last) if id > last);
        match self.streams.recall(id) {
            // We ended it, or never began it, and the peer did not know yet.
            Some(Over::Ours) => Ok(()),
            _ if beyond => Ok(()),
            Some(Over::Peers | Over::Whole) => {
                self.fail_stream(id, code::STREAM_CLOSED, FRAME_ON_CLOSED)
            }
            // A stream of ours that is forgotten may have been reset by us.
            None if !S::SERVER => Ok(()),
            None => self.fail_stream(id, code::STREAM_CLOSED, FRAME_ON_CLOSED),
        }
    }
}
