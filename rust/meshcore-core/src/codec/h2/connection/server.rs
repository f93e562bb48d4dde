//! The server side of one HTTP/2 connection.

use bytes::Bytes;

use super::Connection;
use super::closing::Phase;
use crate::codec::asked::Asked;
use crate::codec::encode_response::{OutgoingReply, ResponseRules};
use crate::codec::error::CodecError;
use crate::codec::event::{BodyPart, ServerEvent};
use crate::codec::h1_server::ServerRules;
use crate::codec::h2::block::Block;
use crate::codec::h2::config::H2Config;
use crate::codec::h2::errors::{Checked, broken};
use crate::codec::h2::frame::code;
use crate::codec::h2::sending::Priority;
use crate::codec::h2::signal::Signal;
use crate::codec::h2::streams::{Over, Stream};
use crate::codec::h2::writer::BlockWriter;
use crate::codec::h2::{HeadError, Side, heads, request, response};
use crate::codec::header_ops::HeaderOps;
use crate::codec::limits::Limits;
use crate::head::{Headers, RequestHead, ResponseHead};
use crate::time::Nanos;

/// What a server tells.
pub type ServerSignal = Signal<ServerEvent>;

/// Reads the requests of one connection, and writes the responses.
pub type H2Server = Connection<Server>;

/// The server's own part of a [`Connection`].
#[derive(Debug)]
pub struct Server {
    rules: ServerRules,
    /// The last stream that was processed, and the last that the client began.
    last_processed: u32,
    last_begun: u32,
}

impl H2Server {
    /// A connection of a listener, at time `now`; nothing was read.
    #[must_use]
    pub fn new(limits: Limits, rules: ServerRules, config: &H2Config, now: Nanos) -> Self {
        let side = Server { rules, last_processed: 0, last_begun: 0 };
        Self::of(side, limits, config, now)
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
        if self.streams.get(id).is_some_and(|stream| !stream.answered) {
            self.sending.block(id, |block| {
                response::write_informational(block, head, ops);
                false
            });
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
        let Some(stream) = self.streams.get_mut(id).filter(|s| !s.answered) else { return true };
        let ends = self.sending.block(id, write);
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
        let Some(stream) = self.streams.get_mut(id) else { return true };
        stream.leave();
        if !stream.outbox.is_ended() {
            return false;
        }
        if stream.receiving {
            self.reset(id, code::NO_ERROR);
        } else {
            self.remove_whole(id);
        }
        true
    }

    /// A request begins.
    fn open(&mut self, id: u32, ends: bool, mut block: Block) -> Checked {
        let mut stream = Stream::new(&self.config, self.sending.initial_window());
        match request::head(&mut block, ends, &self.limits, &self.side.rules) {
            Err(HeadError::Malformed(detail)) => {
                return self.fail_stream(id, code::PROTOCOL_ERROR, detail);
            }
            Err(HeadError::Refused(error)) => {
                stream.take_refused(ends);
                self.streams.insert_refused(id, stream, error, block.asked());
            }
            Ok((head, declared)) => {
                if let Some(priority) = head.headers.get(b"priority") {
                    stream.outbox.priority = Priority::parse(priority);
                }
                // Nothing of a tunnel passes before there is one (CVE-2026-2833).
                stream.pause(head.tunnel().is_some() && !ends);
                if let Err(error) = stream.take_head(head, declared, ends) {
                    return self.stream_error(id, error);
                }
                self.streams.insert(id, stream);
                self.streams.touch(id);
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

    fn is_idle(&self, id: u32) -> bool {
        id > self.last_begun
    }

    fn last_processed(&self) -> u32 {
        self.last_processed
    }

    /// RFC 9113 §5.1.1, §5.1.2, §6.8.
    fn head(connection: &mut H2Server, id: u32, ends: bool, block: Block) -> Checked {
        let Connection { side, streams, .. } = connection;
        if id <= side.last_processed {
            // Behind its END_STREAM §5.1 permits an error of the connection, which is this client's
            // alone; a number that was never used, or long ago, is one by §5.1.1.
            return match streams.recall(id) {
                Some(Over::Ours | Over::Peers) => connection.frame_of_no_stream(id),
                Some(Over::Whole) => broken(code::STREAM_CLOSED, "HEADERS on closed stream"),
                None => broken(code::PROTOCOL_ERROR, "HEADERS of an earlier stream"),
            };
        }
        side.last_begun = side.last_begun.max(id);
        if matches!(connection.phase, Phase::Last(_)) {
            // Beyond the last one: the client knows that it is not processed (§6.8).
            return connection.receiving.padding_only();
        }
        side.last_processed = id;
        if streams.len() >= connection.config.streams as usize {
            return connection.fail_stream(id, code::REFUSED_STREAM, "more streams than allowed");
        }
        connection.open(id, ends, block)
    }

    fn goaway(_: &mut H2Server, _: u32) {
        // A client that goes opens no more streams; those that are open go on.
    }
}
