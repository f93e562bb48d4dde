//! Signs of life, and the end of a connection (RFC 9113 §5.4.1, §6.7, §6.8).

use super::Connection;
use crate::codec::h2::Side;
use crate::codec::h2::errors::ConnectionError;
use crate::codec::h2::frame::{MAX_PAYLOAD, code};
use crate::codec::h2::signal::Signal;

/// The payloads of our PINGs, by what they are for.
const LIVENESS: &[u8; 8] = b"meshping";
const DRAIN: &[u8; 8] = b"meshgone";

/// What has been said about the end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing.
    Open,
    /// Nothing yet; a PING measures how far the peer is.
    Draining,
    /// That no more streams are wanted, but those on their way are taken (RFC 9113 §6.8).
    Warned,
    /// Which stream is the last; when none is open the connection is over.
    Last(u32),
    /// It is over.
    Closed,
}

impl<S: Side> Connection<S> {
    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Asks for a sign of life; [`Signal::Pong`] follows. False: one is asked for already.
    pub fn ping(&mut self) -> bool {
        if self.pinged || self.is_closed() {
            return false;
        }
        self.pinged = true;
        self.sending.ping(0, LIVENESS);
        true
    }

    /// The answer to a PING of ours.
    pub(super) fn pong(&mut self, payload: &[u8]) {
        if payload == LIVENESS && self.pinged {
            self.pinged = false;
            self.streams.tell(0, Signal::Pong);
        } else if payload == DRAIN && self.phase == Phase::Draining {
            self.streams.tell(0, Signal::Heard);
        }
    }

    /// Begins to take no more streams (RFC 9113 §6.8): a PING, which tells how long the way to the
    /// peer is. [`Signal::Heard`] follows, and [`warn`](Self::warn) and
    /// [`send_goaway`](Self::send_goaway) are the next steps. The PING goes first, for peers exist that
    /// take nothing behind a GOAWAY.
    pub fn drain(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
            self.sending.ping(0, DRAIN);
        }
    }

    /// The first GOAWAY: open no more streams. Those that are on their way are taken.
    pub fn warn(&mut self) {
        if matches!(self.phase, Phase::Open | Phase::Draining) {
            self.phase = Phase::Warned;
            self.sending.goaway(0x7FFF_FFFF, code::NO_ERROR, b"");
        }
    }

    /// Says which stream is the last: what begins beyond it is not processed. Once; again only to
    /// give a `reason`, which goes out as debug data of at most some 16 KiB. [`Signal::Closed`]
    /// follows when the last stream is over.
    pub fn send_goaway(&mut self, reason: &[u8]) {
        let last = match self.phase {
            Phase::Closed => return,
            Phase::Last(_) if reason.is_empty() => return,
            // RFC 9113 §6.8: the number must not grow.
            Phase::Last(last) => last,
            Phase::Open | Phase::Draining | Phase::Warned => self.side.last_processed(),
        };
        self.phase = Phase::Last(last);
        let reason = &reason[..reason.len().min(MAX_PAYLOAD - 8)];
        self.sending.goaway(last, code::NO_ERROR, reason);
        self.end_if_done();
    }

    pub(super) fn end_if_done(&mut self) {
        if matches!(self.phase, Phase::Last(_)) && self.streams.is_empty() {
            self.close(code::NO_ERROR, "connection drained");
        }
    }

    /// The peer sends no more: every stream is over.
    pub fn receive_eof(&mut self) {
        if !self.is_closed() {
            self.close(code::CANCEL, "connection closed");
        }
    }

    /// Ends every stream and the connection.
    pub fn abandon(&mut self, code: u32) {
        self.break_off(ConnectionError { code, detail: "connection given up" });
    }

    /// As [`abandon`](Self::abandon), because of what the peer did.
    pub(super) fn break_off(&mut self, error: ConnectionError) {
        if !self.is_closed() {
            self.sending.goaway(self.side.last_processed(), error.code, b"");
            self.close(error.code, error.detail);
        }
    }

    /// The connection is over, and so is every stream that is waited for.
    fn close(&mut self, code: u32, detail: &'static str) {
        self.phase = Phase::Closed;
        self.receiving.take_rest();
        for id in self.streams.ids() {
            if !S::SERVER && self.streams.get(id).is_some_and(|stream| !stream.receiving) {
                self.deliver_whole(id);
            }
        }
        self.sending.forget_all();
        self.streams.end_all(code, detail);
        self.streams.tell(0, Signal::Closed);
    }
}
