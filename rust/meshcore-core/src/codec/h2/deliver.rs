//! What is told of a stream, and how one ends that went wrong.

use super::frame::{code, write_reset, write_window_update};
use super::frames::Checked;
use super::signal::{Flood, Signal};
use super::{Engine, Phase, Side};
use crate::codec::error::CodecError;

impl<S: Side> Engine<S> {
    /// Something came for the stream: it is told when the read is parsed, in one piece.
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
            (Some(head), body) => Some(S::begins(*head, body.unwrap_or_default())),
            (None, Some(body)) if body.end || !body.bytes.is_empty() => Some(S::goes_on(body)),
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

    /// Tells what waits; of a response that is whole all, for there is no later.
    pub(super) fn deliver_whole(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id).filter(|s| !S::SERVER && !s.receiving) {
            stream.inbox.paused = false;
        }
        self.deliver(id);
    }

    /// The peer broke the rules of a stream (RFC 9113 §5.4.2): the stream ends, the others go on.
    pub(super) fn fail_stream(&mut self, id: u32, code: u32) -> Checked {
        write_reset(self.out(), id, code);
        match self.remove(id, true) {
            None => self.remember(id, true),
            Some(stream) if stream.left => self.signals.push((id, Signal::Sent)),
            Some(_) => {
                let signal = Signal::Reset { code, refused: false, malformed: true };
                self.signals.push((id, signal));
            }
        }
        self.end_if_done();
        self.fault()
    }

    /// A client's fault costs it credit. An endpoint's does not: each answers a request of ours, and
    /// its connection is shared by those who have no part in it.
    fn fault(&mut self) -> Checked {
        let counted = if S::SERVER { self.meter.fault(self.now) } else { Ok(()) };
        self.calm_if(counted)
    }

    /// A RST_STREAM that ends nothing; an endpoint may send one behind each of its responses.
    pub(super) fn reset_of_no_stream(&mut self) -> Checked {
        let counted = if S::SERVER { Ok(()) } else { self.meter.stray(self.now) };
        self.calm_if(counted)
    }

    /// What the meter found ends the connection.
    pub(super) fn calm_if(&mut self, counted: Result<(), Flood>) -> Checked {
        counted.map_err(|flood| {
            self.flood = Some(flood);
            code::ENHANCE_YOUR_CALM
        })
    }

    /// A message may not pass: the stream is open for an answer, the rest is not wanted.
    pub(super) fn refuse(&mut self, id: u32, error: CodecError) {
        if let Some(stream) = self.streams.get_mut(&id) {
            let told = std::mem::replace(&mut stream.unwanted, true) || stream.left;
            stream.head = None;
            if !told {
                self.signals.push((id, Signal::Refused(error)));
            }
        }
    }

    /// As [`refuse`](Self::refuse), of a message that was told in part: somebody works on it, and
    /// that costs as much as a reset (CVE-2025-8671).
    pub(super) fn refuse_rest(&mut self, id: u32, error: CodecError) -> Checked {
        self.refuse(id, S::blame(error));
        self.fault()
    }

    /// A frame for a stream that is not open.
    pub(super) fn frame_of_no_stream(&mut self, id: u32, code: u32) -> Checked {
        if S::is_idle(self, id) {
            return Err(code::PROTOCOL_ERROR);
        }
        let beyond = matches!(self.phase, Phase::Last(last) if id > last);
        // We ended it, or never began it, and the peer did not know yet. Streams of ours that are
        // over are so by our doing, or an endpoint's mistake is not worth its connection.
        if !S::SERVER || beyond || self.recall(id) == Some(true) {
            return Ok(());
        }
        self.fail_stream(id, code)
    }
}
