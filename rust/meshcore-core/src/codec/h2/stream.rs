//! One open stream.

use super::inbox::Inbox;
use super::outbox::Outbox;

/// `H` is the head of what the peer sends: a request, or a response.
#[derive(Debug)]
pub(super) struct Stream<H> {
    pub(super) inbox: Inbox,
    pub(super) outbox: Outbox,
    /// The peer's head, until it is emitted with what of the body came in the same read.
    pub(super) head: Option<Box<H>>,
    /// The peer's (final) head has come.
    pub(super) headed: bool,
    /// The peer has not ended its message.
    pub(super) receiving: bool,
    /// What the peer still sends is not wanted.
    pub(super) unwanted: bool,
    /// Our (final) head is out.
    pub(super) answered: bool,
    /// The owner is done with it; what is queued goes out, and no event but that is emitted any more.
    pub(super) left: bool,
    /// It is among those with something to emit.
    pub(super) touched: bool,
    /// The request was HEAD: a length in the response is that of no body.
    pub(super) head_request: bool,
    /// The request, ours, asked for a tunnel: a client that has all of the response may still have
    /// something to say, and hears whether it is said.
    pub(super) tunnel: bool,
    /// Interim responses so far.
    pub(super) informational: u8,
    /// Bytes of the body so far, and those that its head declared.
    pub(super) received: u64,
    pub(super) declared: Option<u64>,
}

impl<H> Stream<H> {
    pub(super) fn new(inbox: Inbox, send_window: i64) -> Self {
        Self {
            inbox,
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

    /// Whether both sides have ended, and all was emitted.
    pub(super) fn is_over(&self) -> bool {
        !self.receiving && self.outbox.is_ended() && self.head.is_none() && !self.waits()
    }

    /// Whether there is something to emit that waits because it is paused.
    fn waits(&self) -> bool {
        !self.unwanted && !self.left && self.inbox.waits()
    }

    /// Whether the body is not as long as it was declared (RFC 9113 §8.1.1).
    pub(super) fn is_torn(&self) -> bool {
        self.declared.is_some_and(|n| n != self.received)
    }
}
