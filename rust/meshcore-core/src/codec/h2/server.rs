//! The server side of one HTTP/2 connection.

use bytes::Bytes;

use super::block::Block;
use super::config::H2Config;
use super::engine::Over;
use super::frame::code;
use super::frames::{Checked, SHORT_BODY, broken};
use super::inbox::Inbox;
use super::priority::Priority;
use super::signal::Signal;
use super::stream::Stream;
use super::writer::BlockWriter;
use super::{Engine, HeadError, Phase, Side, heads, request, response};
use crate::codec::asked::Asked;
use crate::codec::encode_response::{OutgoingReply, ResponseRules};
use crate::codec::error::CodecError;
use crate::codec::event::{BodyPart, ServerEvent};
use crate::codec::h1_server::ServerRules;
use crate::codec::header_ops::HeaderOps;
use crate::codec::limits::Limits;
use crate::head::{Headers, RequestHead, ResponseHead};
use crate::time::Nanos;

/// What a server tells.
pub type ServerSignal = Signal<ServerEvent>;

/// Reads the requests of one connection, and writes the responses.
pub type H2Server = Engine<Server>;

/// The server's own part of an [`Engine`].
#[derive(Debug)]
pub struct Server {
    rules: ServerRules,
}

impl H2Server {
    /// A connection of a listener, at time `now`; nothing was read.
    #[must_use]
    pub fn new(limits: Limits, rules: ServerRules, config: &H2Config, now: Nanos) -> Self {
        Self::of(Server { rules }, limits, config, now)
    }

    /// A relayed head; `body` is what came with it, `end` its end and the trailers. Gives the bytes
    /// that wait, as [`send_data`](Self::send_data) does.
    pub fn send_response(
        &mut self,
        id: u32,
        head: &ResponseHead,
        rules: &ResponseRules<'_>,
        body: Bytes,
        end: Option<Option<&Headers>>,
    ) -> usize {
        let whole = body.is_empty() && matches!(end, Some(None));
        let ends = self.send_head(id, |out| response::write(out, head, rules) || whole);
        if ends {
            return 0;
        }
        self.send(id, body, end)
    }

    /// An interim (1xx) head.
    pub fn send_informational(&mut self, id: u32, head: &ResponseHead, ops: &HeaderOps) {
        self.out();
        if self.streams.get(&id).is_some_and(|stream| !stream.answered) {
            let mut block = BlockWriter::begin(&mut self.encoder, &mut self.out);
            response::write_informational(&mut block, head, ops);
            block.end(id, false);
        }
    }

    /// A whole local reply.
    pub fn send_answer(&mut self, id: u32, reply: &OutgoingReply<'_>) {
        if !self.send_head(id, |out| response::write_reply_to(out, reply)) {
            self.send(id, Bytes::copy_from_slice(reply.body), Some(None));
        }
    }

    /// Writes a final head; `write` says whether nothing follows it. True then, or without a stream.
    fn send_head(&mut self, id: u32, write: impl FnOnce(&mut BlockWriter<'_>) -> bool) -> bool {
        self.out();
        let Some(stream) = self.streams.get_mut(&id).filter(|s| !s.answered) else { return true };
        let mut block = BlockWriter::begin(&mut self.encoder, &mut self.out);
        let ends = write(&mut block);
        block.end(id, ends);
        stream.answered = true;
        if ends {
            stream.outbox.close();
            self.remove_if_over(id);
        }
        ends
    }

    /// The owner is done with the stream. What is queued on it goes out first; a request
    /// that is not read to its end is stopped with NO_ERROR behind it (RFC 9113 §8.1). False: the
    /// stream is still there, and [`Signal::Sent`] follows.
    pub fn leave(&mut self, id: u32) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return true };
        stream.left = true;
        stream.inbox.drop_all();
        if !stream.outbox.is_ended() {
            return false;
        }
        if stream.receiving {
            self.reset(id, code::NO_ERROR);
        } else {
            self.remove(id, Over::Whole);
            self.end_if_done();
        }
        true
    }

    /// A request begins.
    fn open(&mut self, id: u32, ends: bool, mut block: Block) -> Checked {
        let mut stream = Stream::new(
            Inbox::new(self.first_window(), self.config.stream_window),
            self.remote.initial_window,
        );
        stream.headed = true;
        stream.receiving = !ends;
        match request::head(&mut block, ends, &self.limits, &self.side.rules) {
            Err(HeadError::Malformed(detail)) => {
                return self.fail_stream(id, code::PROTOCOL_ERROR, detail);
            }
            Err(HeadError::Refused(error)) => {
                stream.unwanted = true;
                self.streams.insert(id, stream);
                let asked = Some(Box::new(block.asked()));
                self.signals.push((id, Signal::Refused(error, asked)));
            }
            Ok((head, declared)) => {
                stream.declared = declared;
                if ends && stream.is_torn() {
                    return self.fail_stream(id, code::PROTOCOL_ERROR, SHORT_BODY);
                }
                if let Some(priority) = head.headers.get(b"priority") {
                    stream.outbox.priority = Priority::parse(priority);
                }
                if ends {
                    stream.inbox.end(None);
                }
                // Nothing of a tunnel passes before there is one (CVE-2026-2833).
                stream.inbox.paused = head.tunnel().is_some() && !ends;
                stream.head = Some(Box::new(head));
                self.streams.insert(id, stream);
                self.touch(id);
            }
        }
        Ok(())
    }
}

impl Side for Server {
    type Head = RequestHead;
    type Message = ServerEvent;
    const SERVER: bool = true;
    const PREFACE: &'static [u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const GREETING: &'static [u8] = b"";

    fn head_event(mut head: RequestHead, body: BodyPart) -> ServerEvent {
        head.body = heads::body_length(head.body, &body);
        ServerEvent::Head { head, body }
    }

    fn body_event(body: BodyPart) -> ServerEvent {
        ServerEvent::Data(body)
    }

    fn asked(head: &RequestHead) -> Option<Box<Asked>> {
        Some(Box::new(Asked::of_head(head)))
    }

    fn blame(error: CodecError) -> CodecError {
        error
    }

    fn is_idle(engine: &Engine<Self>, id: u32) -> bool {
        id > engine.last_begun
    }

    /// RFC 9113 §5.1.1, §5.1.2, §6.8.
    fn head(engine: &mut Engine<Self>, id: u32, ends: bool, block: Block) -> Checked {
        if id <= engine.last_peer {
            // Behind its END_STREAM §5.1 permits an error of the connection, which is this client's
            // alone; a number that was never used, or long ago, is one by §5.1.1.
            return match engine.recall(id) {
                Some(Over::Ours | Over::Peers) => engine.frame_of_no_stream(id),
                Some(Over::Whole) => broken(code::STREAM_CLOSED, "HEADERS on closed stream"),
                None => broken(code::PROTOCOL_ERROR, "HEADERS of an earlier stream"),
            };
        }
        engine.last_begun = engine.last_begun.max(id);
        if matches!(engine.phase, Phase::Last(_)) {
            // Beyond the last one: the client knows that it is not processed (§6.8).
            let counted = engine.meter.padding_only(engine.now);
            return engine.check_flood(counted);
        }
        engine.last_peer = id;
        if engine.streams.len() >= engine.config.streams as usize {
            return engine.fail_stream(id, code::REFUSED_STREAM, "more streams than allowed");
        }
        engine.open(id, ends, block)
    }

    fn goaway(_: &mut Engine<Self>, _: u32) {
        // A client that goes opens no more streams; those that are open go on.
    }
}
