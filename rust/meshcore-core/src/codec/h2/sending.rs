//! What goes out: queues into frames, in turns (RFC 9113 §5.2, RFC 9218 §10).

use bytes::Bytes;

use super::engine::Over;
use super::frame::{code, flag, kind, write_head};
use super::outbox::{STREAM_HIGH_WATER, Turn};
use super::signal::Signal;
use super::writer::{self, BlockWriter, LARGE_FOR_PEER, ListSize};
use super::{Engine, HIGH_WATER, Side};
use crate::codec::header_rules::may_be_trailer;
use crate::head::Headers;

/// Queued bytes of a whole connection beyond which each of its streams counts as full. 100 streams
/// at their own mark would be 6 MiB, and one read of the loop's may add 256 KiB to each.
const CONNECTION_HIGH_WATER: usize = 4 << 20;

impl<S: Side> Engine<S> {
    /// More of a body. Gives the bytes that wait; beyond [`STREAM_HIGH_WATER`] send no more until
    /// [`Signal::Writable`].
    pub fn send_data(&mut self, id: u32, data: Bytes) -> usize {
        self.send(id, data, None)
    }

    /// Data, and its end (with trailers) if it is known: then one frame may carry both.
    pub(super) fn send(&mut self, id: u32, data: Bytes, end: Option<Option<&Headers>>) -> usize {
        let Some(stream) = self.streams.get_mut(&id) else { return 0 };
        let before = stream.outbox.queued();
        stream.outbox.push(data);
        if let Some(trailers) = end {
            stream.outbox.finish(trailers);
        }
        self.queued += stream.outbox.queued() - before;
        self.start(id);
        let Some(stream) = self.streams.get_mut(&id) else { return 0 };
        let queued = stream.outbox.queued();
        // Also when the connection as a whole holds too much.
        let over = self.queued > CONNECTION_HIGH_WATER && queued > 0;
        let counted = if over { queued.max(STREAM_HIGH_WATER + 1) } else { queued };
        stream.outbox.full |= counted > STREAM_HIGH_WATER;
        counted
    }

    /// The end of a body.
    pub fn send_end(&mut self, id: u32, trailers: Option<&Headers>) {
        self.send(id, Bytes::new(), Some(trailers));
    }

    /// Sends, or takes a place behind the others who wait.
    pub(super) fn start(&mut self, id: u32) {
        let alone = self.schedule.is_empty() && self.out.len() < HIGH_WATER;
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.outbox.scheduled || !stream.answered || !stream.outbox.is_ready() {
            return;
        }
        stream.outbox.scheduled = true;
        self.schedule.insert(id, stream.outbox.priority);
        if alone {
            self.serve();
        }
    }

    /// Gives turns until nothing waits, or as much is written as is sent at once.
    pub(super) fn serve(&mut self) {
        let mut without_window = Vec::new();
        while self.out.len() < HIGH_WATER {
            let Some(id) = self.schedule.next(self.served) else { break };
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            if self.send_window <= 0 && stream.outbox.queued() > 0 {
                without_window.push(id);
                continue;
            }
            self.served = self.served.wrapping_add(1);
            self.turn(id);
        }
        for id in without_window {
            if let Some(stream) = self.streams.get(&id) {
                self.schedule.insert(id, stream.outbox.priority);
            }
        }
    }

    fn turn(&mut self, id: u32) {
        self.out();
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.outbox.scheduled = false;
        let queued = stream.outbox.queued();
        let turn = stream.outbox.turn(id, &mut self.send_window, &mut self.out);
        self.queued -= queued - stream.outbox.queued();
        self.data_frames += 1;
        let (has_room, left) = (stream.outbox.take_room_notice(), stream.left);
        match turn {
            Turn::More => {
                stream.outbox.scheduled = true;
                self.schedule.insert(id, stream.outbox.priority);
            }
            Turn::Trailers(trailers) => self.write_trailers(id, &trailers),
            Turn::Done | Turn::Blocked => {}
        }
        if has_room && !left && self.streams.contains_key(&id) {
            self.signals.push((id, Signal::Writable));
        }
        self.after_turn(id);
    }

    /// Ends a stream with its trailers; without any that may pass, with nothing. With more than the
    /// peer takes (RFC 9113 §6.5.2) it is reset: a message that ends without them would look whole.
    fn write_trailers(&mut self, id: u32, trailers: &Headers) {
        let mut size = ListSize::default();
        writer::write_trailers(&mut size, trailers);
        if size.check(self.remote.list_bytes).is_err() {
            return self.give_up(id);
        }
        if trailers.iter().any(|(name, _)| may_be_trailer(name)) {
            let mut block = BlockWriter::begin(&mut self.encoder, &mut self.out);
            writer::write_trailers(&mut block, trailers);
            block.end(id, true);
        } else {
            write_head(&mut self.out, 0, kind::DATA, flag::END_STREAM, id);
        }
    }

    /// Ends a stream whose trailers cannot be sent. To a client a CANCEL would say that it gave up.
    fn give_up(&mut self, id: u32) {
        let code = if S::SERVER { code::INTERNAL_ERROR } else { code::CANCEL };
        if !S::SERVER {
            self.deliver_whole(id); // what came before it counts
        }
        let Some(stream) = self.remove(id, Over::Ours) else { return };
        self.write_reset(id, code);
        if stream.left {
            self.signals.push((id, Signal::Sent));
        } else if S::SERVER || stream.receiving || stream.tunnel {
            let (refused, malformed, detail) = (false, false, LARGE_FOR_PEER);
            self.signals.push((id, Signal::Reset { code, refused, malformed, detail }));
        }
        self.end_if_done();
    }

    fn after_turn(&mut self, id: u32) {
        let Some(stream) = self.streams.get(&id) else { return };
        if !stream.outbox.is_ended() {
            return;
        }
        if stream.left {
            self.signals.push((id, Signal::Sent));
            if stream.receiving {
                // RFC 9113 §8.1: the response is whole, the rest of the request is not wanted.
                self.reset(id, code::NO_ERROR);
                return;
            }
        }
        if stream.tunnel {
            self.signals.push((id, Signal::Sent));
        }
        self.remove_if_over(id);
    }
}
