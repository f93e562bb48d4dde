//! The events of a stream, and how one ends that went wrong.

use super::engine::Over;
use super::frame::{code, write_window_update};
use super::frames::{Broken, Checked, broken};
use super::signal::{Flood, Signal};
use super::{Engine, Phase, Side};
use crate::codec::error::CodecError;

/// What is wrong with a frame behind the end of its stream.
pub(super) const FRAME_ON_CLOSED: &str = "frame on closed stream";

impl<S: Side> Engine<S> {
    /// Something came for the stream: it is emitted when the read is parsed, in one piece.
    pub(super) fn touch(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !std::mem::replace(&mut stream.touched, true)
        {
            self.touched.push(id);
        }
    }

    /// Tells what waits, and gives its window back.
    pub(super) fn deliver(&mut self, id: u32) {
        let read_len = self.read_len;
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.touched = false;
        if stream.left || stream.unwanted {
            return self.remove_if_over(id);
        }
        let paused = stream.inbox.paused;
        let body = if paused {
            stream.inbox.keep();
            None
        } else {
            Some(stream.inbox.take(read_len))
        };
        let message = match (stream.head.take(), body) {
            (Some(head), body) => Some(S::head_event(*head, body.unwrap_or_default())),
            (None, Some(body)) if body.end || !body.bytes.is_empty() => Some(S::body_event(body)),
            (None, _) => None,
        };
        let credit = if paused || !stream.receiving { None } else { stream.inbox.credit() };
        if let Some(message) = message {
            self.signals.push((id, Signal::Message(message)));
        }
        if let Some(bytes) = credit {
            write_window_update(self.out(), id, bytes);
        }
        self.remove_if_over(id);
    }

    /// Emits what waits; of a response that is whole all, for there is no later.
    pub(super) fn deliver_whole(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id).filter(|s| !S::SERVER && !s.receiving) {
            stream.inbox.paused = false;
        }
        self.deliver(id);
    }

    /// The peer broke the rules of a stream (RFC 9113 §5.4.2): the stream ends, the others go on.
    ///
    /// A response that was whole before the fault is delivered: it is its client's.
    pub(super) fn fail_stream(&mut self, id: u32, code: u32, detail: &'static str) -> Checked {
        let whole = !S::SERVER && self.streams.get(&id).is_some_and(|s| !s.receiving);
        if whole {
            self.deliver_whole(id);
        }
        match self.remove(id, Over::Ours) {
            None => return self.fail_closed(id, code),
            Some(stream) if stream.left => self.signals.push((id, Signal::Sent)),
            Some(stream) if whole && !stream.tunnel => {}
            Some(_) => {
                let (refused, malformed) = (false, true);
                self.signals.push((id, Signal::Reset { code, refused, malformed, detail }));
            }
        }
        self.write_reset(id, code);
        self.end_if_done();
        self.fault()
    }

    /// The same of a stream that is not open. RFC 9113 §5.4.2 lets us reset it once more, §5.1 lets
    /// us drop what comes for it: so it is, when an endpoint has heard many resets of us.
    fn fail_closed(&mut self, id: u32, code: u32) -> Checked {
        self.remember(id, Over::Ours);
        if S::SERVER || self.resets.left(self.streams.len()) != Some(0) {
            self.write_reset(id, code);
        }
        self.end_if_done();
        self.fault()
    }

    /// A client's fault costs it credit. An endpoint's does not: each answers a request of ours, and
    /// its connection is shared by those who have no part in it.
    fn fault(&mut self) -> Checked {
        let counted = if S::SERVER { self.meter.fault(self.now) } else { Ok(()) };
        self.check_flood(counted)
    }

    /// A RST_STREAM that ends nothing; an endpoint may send one behind each of its responses.
    pub(super) fn reset_of_closed(&mut self) -> Checked {
        let counted = if S::SERVER { Ok(()) } else { self.meter.reset_of_closed(self.now) };
        self.check_flood(counted)
    }

    /// What the meter found ends the connection.
    pub(super) fn check_flood(&mut self, counted: Result<(), Flood>) -> Checked {
        counted.map_err(|flood| {
            self.flood = Some(flood);
            Broken { code: code::ENHANCE_YOUR_CALM, detail: flood.name() }
        })
    }

    /// A message may not pass: the stream is open for an answer, the rest is not wanted.
    pub(super) fn refuse(&mut self, id: u32, error: CodecError) {
        if let Some(stream) = self.streams.get_mut(&id) {
            let is_known = std::mem::replace(&mut stream.unwanted, true) || stream.left;
            let asked = stream.head.take().and_then(|head| S::asked(&head));
            if !is_known {
                self.signals.push((id, Signal::Refused(error, asked)));
            }
        }
    }

    /// As [`refuse`](Self::refuse), of a message that was emitted in part: work on it has begun, and
    /// that costs as much as a reset (CVE-2025-8671).
    pub(super) fn refuse_rest(&mut self, id: u32, error: CodecError) -> Checked {
        self.refuse(id, S::blame(error));
        self.fault()
    }

    /// DATA, or an endpoint's HEADERS, for a stream that is not open (RFC 9113 §5.1).
    ///
    /// Behind the peer's own RST_STREAM or END_STREAM it is an error: STREAM_CLOSED. §5.1 permits
    /// to make it the connection's; it is the stream's here, because an endpoint's connection is
    /// shared by clients that have no part in the mistake, and a stream error tells it as much.
    pub(super) fn frame_of_no_stream(&mut self, id: u32) -> Checked {
        if S::is_idle(self, id) {
            return broken(code::PROTOCOL_ERROR, "frame on an idle stream");
        }
        let beyond = matches!(self.phase, Phase::Last(last) if id > last);
        match self.recall(id) {
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
