//! One open stream.

use bytes::Bytes;

use super::inbox::Inbox;
use crate::codec::error::CodecError;
use crate::codec::h2::HeadError;
use crate::codec::h2::Side;
use crate::codec::h2::block::Block;
use crate::codec::h2::config::H2Config;
use crate::codec::h2::errors::{FRAME_ON_CLOSED, StreamError};
use crate::codec::h2::frame::code;
use crate::codec::h2::sending::Outbox;
use crate::error::Reason;

/// A body that is not as long as its head said (RFC 9113 §8.1.1).
const SHORT_BODY: StreamError =
    StreamError::Broken(code::PROTOCOL_ERROR, "body shorter than content-length");

/// `H` is the head of what the peer sends: a request, or a response.
#[derive(Debug)]
pub(in super::super) struct Stream<H> {
    pub(super) inbox: Inbox,
    pub(in super::super) outbox: Outbox,
    /// The peer's head, until it is emitted with what of the body came in the same read.
    pub(super) head: Option<Box<H>>,
    /// The peer's (final) head has come.
    headed: bool,
    /// The peer has not ended its message.
    pub(in super::super) receiving: bool,
    /// What the peer still sends is not wanted.
    pub(super) unwanted: bool,
    /// Our (final) head is out.
    pub(in super::super) answered: bool,
    /// The owner is done with it; what is queued goes out, and no event but that is emitted any more.
    pub(in super::super) left: bool,
    /// It is among those with something to emit.
    pub(super) touched: bool,
    /// The request was HEAD: a length in the response is that of no body.
    pub(in super::super) head_request: bool,
    /// The request, ours, asked for a tunnel: a client that has all of the response may still have
    /// something to say, and hears whether it is said.
    pub(in super::super) tunnel: bool,
    /// Interim responses so far.
    informational: u8,
    /// Bytes of the body so far, and those that its head declared.
    received: u64,
    declared: Option<u64>,
}

impl<H> Stream<H> {
    /// Nothing has come yet; the peer takes `send_window` bytes of ours.
    pub(in super::super) fn new(config: &H2Config, send_window: i64) -> Self {
        Self {
            inbox: Inbox::new(config.first_window(), config.stream_window),
            outbox: Outbox::new(send_window),
            head: None,
            headed: false,
            receiving: true,
            unwanted: false,
            answered: false,
            left: false,
            touched: false,
            head_request: false,
            tunnel: false,
            informational: 0,
            received: 0,
            declared: None,
        }
    }

    /// The peer's head came, and it is its last one.
    pub(in super::super) fn is_headed(&self) -> bool {
        self.headed
    }

    /// Whether both sides have ended, and all was emitted.
    pub(in super::super) fn is_over(&self) -> bool {
        !self.receiving && self.outbox.is_ended() && self.head.is_none() && !self.waits()
    }

    /// Whether its owner waits for more: all of a response may be there, and no tunnel behind it.
    pub(in super::super) fn is_awaited<S: Side>(&self) -> bool {
        S::SERVER || self.receiving || self.tunnel
    }

    /// Whether there is something to emit that waits because it is paused.
    fn waits(&self) -> bool {
        !self.unwanted && !self.left && self.inbox.waits()
    }

    /// Whether the body is not as long as it was declared (RFC 9113 §8.1.1).
    fn is_torn(&self) -> bool {
        self.declared.is_some_and(|n| n != self.received)
    }

    /// Takes no more of a body, or takes on: what comes fills its window.
    pub(in super::super) fn pause(&mut self, paused: bool) {
        self.inbox.paused = paused;
    }

    /// The owner is done with it.
    pub(in super::super) fn leave(&mut self) {
        self.left = true;
        self.inbox.drop_all();
    }

    /// An interim head came. False: one too many.
    pub(in super::super) fn take_interim(&mut self, most: u8) -> bool {
        self.informational = self.informational.saturating_add(1);
        self.informational <= most
    }

    /// The (final) head came, of a message with the length that it declares.
    pub(in super::super) fn take_head(
        &mut self,
        head: H,
        declared: Option<u64>,
        ends: bool,
    ) -> Result<(), StreamError> {
        self.declared = declared;
        if ends && self.is_torn() {
            return Err(SHORT_BODY);
        }
        self.take_refused(ends);
        if ends {
            self.inbox.end(None);
        }
        self.head = Some(Box::new(head));
        Ok(())
    }

    /// The (final) head came, of a message that may not pass.
    pub(in super::super) fn take_refused(&mut self, ends: bool) {
        self.headed = true;
        self.receiving = !ends;
    }

    /// §6.1: DATA came, `len` bytes with its padding, of a body of at most `most`. False: nobody
    /// waits for it.
    pub(in super::super) fn take_data(
        &mut self,
        data: Bytes,
        len: usize,
        ends: bool,
        most: Option<u64>,
    ) -> Result<bool, StreamError> {
        if !self.receiving {
            return Err(StreamError::Broken(code::STREAM_CLOSED, FRAME_ON_CLOSED));
        }
        if !self.headed {
            return Err(StreamError::Broken(code::PROTOCOL_ERROR, "DATA before a head"));
        }
        self.received += data.len() as u64;
        if self.declared.is_some_and(|n| self.received > n) {
            return Err(StreamError::Broken(code::PROTOCOL_ERROR, "DATA beyond content-length"));
        }
        if ends && self.is_torn() {
            return Err(SHORT_BODY);
        }
        if self.unwanted || self.left {
            self.receiving &= !ends;
            return Ok(false);
        }
        if !self.inbox.receive(data, len) {
            let detail = "DATA beyond the stream's window";
            return Err(StreamError::Broken(code::FLOW_CONTROL_ERROR, detail));
        }
        if most.is_some_and(|most| self.received > most) {
            return Err(StreamError::Refused(CodecError::new(
                Reason::BodyTooLarge,
                "body too large",
            )));
        }
        if ends {
            self.receiving = false;
            self.inbox.end(None);
        }
        Ok(true)
    }

    /// §8.1: a second field section ends the message.
    pub(in super::super) fn take_trailers(
        &mut self,
        block: Block,
        ends: bool,
    ) -> Result<(), StreamError> {
        if !self.receiving {
            return Err(StreamError::Broken(code::STREAM_CLOSED, FRAME_ON_CLOSED));
        }
        if !ends {
            return Err(StreamError::Broken(code::PROTOCOL_ERROR, "trailers without END_STREAM"));
        }
        if self.is_torn() {
            return Err(SHORT_BODY);
        }
        let trailers = block.trailers();
        self.receiving = matches!(trailers, Err(HeadError::Malformed(_)));
        self.inbox.end(Some(trailers?).filter(|t| !t.is_empty()));
        Ok(())
    }
}
