//! Bodies that are sent: queues into frames, in turns (RFC 9113 §5.2, RFC 9218 §10).

use bytes::Bytes;

use super::Connection;
use crate::codec::h2::Side;
use crate::codec::h2::frame::code;
use crate::codec::h2::signal::Signal;
use crate::codec::h2::streams::Over;
use crate::codec::h2::writer::LARGE_FOR_PEER;
use crate::head::Headers;

impl<S: Side> Connection<S> {
    /// More of a body. Gives the bytes that wait; beyond
    /// [`STREAM_HIGH_WATER`](super::super::STREAM_HIGH_WATER) send no more until [`Signal::Writable`].
    pub fn send_data(&mut self, id: u32, data: Bytes) -> usize {
        self.send(id, data, None)
    }

    /// Data, and its end (with trailers) if it is known: then one frame may carry both.
    pub(super) fn send(&mut self, id: u32, data: Bytes, end: Option<Option<&Headers>>) -> usize {
        let Some(stream) = self.streams.get_mut(id) else { return 0 };
        self.sending.push(&mut stream.outbox, data, end);
        if stream.answered && self.sending.schedule(id, &mut stream.outbox) {
            self.serve();
        }
        let Some(stream) = self.streams.get_mut(id) else { return 0 };
        self.sending.fullness(&mut stream.outbox)
    }

    /// The end of a body.
    pub fn send_end(&mut self, id: u32, trailers: Option<&Headers>) {
        self.send(id, Bytes::new(), Some(trailers));
    }

    /// Sends, or takes a place behind the others who wait.
    pub(super) fn start(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.answered && self.sending.schedule(id, &mut stream.outbox) {
            self.serve();
        }
    }

    /// Gives turns until nothing waits, or as much is written as is sent at once.
    pub(super) fn serve(&mut self) {
        let mut without_window = Vec::new();
        while self.sending.has_room() {
            let Some(id) = self.sending.next_stream() else { break };
            let Some(stream) = self.streams.get_mut(id) else { continue };
            if self.sending.lacks_window(&stream.outbox) {
                without_window.push(id);
                continue;
            }
            let is_sendable = self.sending.turn(id, &mut stream.outbox);
            let has_room = stream.outbox.take_room_notice() && !stream.left;
            if !is_sendable {
                self.give_up(id);
            }
            if has_room && self.streams.contains(id) {
                self.streams.tell(id, Signal::Writable);
            }
            self.after_turn(id);
        }
        for id in without_window {
            if let Some(stream) = self.streams.get(id) {
                self.sending.put_back(id, &stream.outbox);
            }
        }
    }

    /// Ends a stream whose trailers cannot be sent: a message that ends without them would look
    /// whole. To a client a CANCEL would say that it gave up.
    fn give_up(&mut self, id: u32) {
        let code = if S::SERVER { code::INTERNAL_ERROR } else { code::CANCEL };
        if !S::SERVER {
            self.deliver_whole(id); // what came before it counts
        }
        let Some(stream) = self.remove(id, Over::Ours) else { return };
        self.sending.reset(id, code);
        let (refused, malformed, detail) = (false, false, LARGE_FOR_PEER);
        self.streams.tell_reset(id, &stream, Signal::Reset { code, refused, malformed, detail });
        self.end_if_done();
    }

    fn after_turn(&mut self, id: u32) {
        let Some(stream) = self.streams.get(id).filter(|s| s.outbox.is_ended()) else { return };
        let (left, receiving, tunnel) = (stream.left, stream.receiving, stream.tunnel);
        let is_over = stream.is_over();
        if left {
            self.streams.tell(id, Signal::Sent);
            if receiving {
                // RFC 9113 §8.1: the response is whole, the rest of the request is not wanted.
                self.reset(id, code::NO_ERROR);
                return;
            }
        }
        if tunnel {
            self.streams.tell(id, Signal::Sent);
        }
        if is_over {
            self.remove_whole(id);
        }
    }
}
