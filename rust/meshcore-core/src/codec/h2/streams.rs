//! The open streams of a connection, and the sending on them in the order of their priorities.

use std::task::Context;

use bytes::Bytes;
use h2::{Reason, SendStream};
use hashbrown::HashMap;
use http::HeaderMap;

use super::inbox::{Broken, Inbox};
use super::memory::{HIGH_WATER, waker};
use super::outbox::{Outbox, STREAM_HIGH_WATER, Turn};
use super::priority::{Priority, Schedule};
use super::signal::Signal;

/// Queued bytes of a whole connection beyond which each of its streams counts as full. 100 streams
/// at their own mark would be 6 MiB, and one read of the loop's may add 256 KiB to each.
const CONNECTION_HIGH_WATER: usize = 4 << 20;

/// One open stream; `head` is what is left to do about the head of its response.
#[derive(Debug)]
pub(super) struct Stream<H> {
    pub(super) head: H,
    /// `None`: the peer's message is complete, or nobody wants the rest.
    pub(super) inbox: Option<Inbox>,
    /// `None` before our head is out.
    pub(super) send: Option<SendStream<Bytes>>,
    pub(super) outbox: Outbox,
    /// The peer's head is still to come.
    pub(super) awaited: bool,
    /// The owner is done with it; what is queued goes out, and nothing is told any more but that.
    pub(super) left: bool,
}

impl<H> Stream<H> {
    pub(super) fn new(head: H, inbox: Option<Inbox>, send: Option<SendStream<Bytes>>) -> Self {
        Self { head, inbox, send, outbox: Outbox::default(), awaited: false, left: false }
    }
}

/// What was told, by stream.
pub(super) type Signals<M> = Vec<(u32, Signal<M>)>;

/// The streams of one connection.
#[derive(Debug)]
pub(super) struct Streams<H> {
    map: HashMap<u32, Stream<H>, foldhash::fast::RandomState>,
    schedule: Schedule,
    served: u32,
    queued: usize,
    /// Bytes handed to the crate since the output was taken.
    pub(super) handed: usize,
    /// DATA frames since the meter was told.
    pub(super) data_frames: u32,
}

impl<H> Default for Streams<H> {
    fn default() -> Self {
        Self {
            map: HashMap::default(),
            schedule: Schedule::default(),
            served: 0,
            queued: 0,
            handed: 0,
            data_frames: 0,
        }
    }
}

impl<H> Streams<H> {
    pub(super) fn insert(&mut self, id: u32, stream: Stream<H>) {
        self.map.insert(id, stream);
    }

    pub(super) fn get(&mut self, id: u32) -> Option<&mut Stream<H>> {
        self.map.get_mut(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn ids(&self) -> Vec<u32> {
        self.map.keys().copied().collect()
    }

    /// Bytes that wait for window or for the socket, of all streams.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Stream<H>> {
        let stream = self.map.remove(&id)?;
        self.queued -= stream.outbox.queued();
        Some(stream)
    }

    /// Sets where a stream stands among those that wait.
    pub(super) fn prioritise(&mut self, id: u32, priority: Priority) {
        if let Some(stream) = self.map.get_mut(&id) {
            stream.outbox.priority = priority;
        }
    }

    /// Queues data, and sends at once what nothing stands in front of. Bytes that are queued;
    /// over [`STREAM_HIGH_WATER`] also when the connection as a whole holds too much.
    pub(super) fn push<M>(&mut self, id: u32, data: Bytes, signals: &mut Signals<M>) -> usize {
        let Some(stream) = self.map.get_mut(&id) else { return 0 };
        let before = stream.outbox.queued();
        stream.outbox.push(data);
        self.queued += stream.outbox.queued() - before;
        self.start(id, signals);
        let Some(stream) = self.map.get_mut(&id) else { return 0 };
        let queued = stream.outbox.queued();
        let over = self.queued > CONNECTION_HIGH_WATER && queued > 0;
        let counted = if over { queued.max(STREAM_HIGH_WATER + 1) } else { queued };
        stream.outbox.full |= counted > STREAM_HIGH_WATER;
        counted
    }

    /// Queues the end. True if it is sent.
    pub(super) fn finish<M>(
        &mut self,
        id: u32,
        trailers: Option<HeaderMap>,
        signals: &mut Signals<M>,
    ) -> bool {
        let Some(stream) = self.map.get_mut(&id) else { return true };
        stream.outbox.finish(trailers);
        self.start(id, signals);
        self.map.get(&id).is_none_or(|stream| stream.outbox.is_ended())
    }

    /// The owner wants to hear no more of it. What is queued goes out, or the stream ends here.
    pub(super) fn leave(&mut self, id: u32) {
        if let Some(stream) = self.map.get_mut(&id) {
            stream.inbox = None;
            stream.left = true;
        }
        self.remove_if_over(id);
    }

    /// A stream both of whose sides are over is dropped: that gives its window back.
    pub(super) fn remove_if_over(&mut self, id: u32) {
        let over = |stream: &Stream<H>| {
            stream.outbox.is_ended() && stream.inbox.is_none() && !stream.awaited
        };
        if self.map.get(&id).is_some_and(over) {
            self.remove(id);
        }
    }

    /// Sends, or takes a place behind the others who wait.
    pub(super) fn start<M>(&mut self, id: u32, signals: &mut Signals<M>) {
        let alone = self.schedule.is_empty() && self.handed < HIGH_WATER;
        let Some(stream) = self.map.get_mut(&id) else { return };
        if stream.outbox.scheduled || stream.send.is_none() || !stream.outbox.has_more() {
            return;
        }
        stream.outbox.scheduled = true;
        self.schedule.insert(id, stream.outbox.priority);
        if alone {
            self.serve(signals);
        }
    }

    /// Gives turns until nothing waits, or as much was handed over as is sent at once.
    pub(super) fn serve<M>(&mut self, signals: &mut Signals<M>) {
        while self.handed < HIGH_WATER {
            let Some(id) = self.schedule.next(self.served) else { return };
            self.served = self.served.wrapping_add(1);
            self.turn(id, signals);
        }
    }

    fn turn<M>(&mut self, id: u32, signals: &mut Signals<M>) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        let Some(send) = &mut stream.send else { return };
        stream.outbox.scheduled = false;
        let waker = waker(id);
        let (queued, mut sent) = (stream.outbox.queued(), 0);
        let turn = stream.outbox.turn(send, &mut Context::from_waker(&waker), &mut sent);
        self.queued -= queued - stream.outbox.queued();
        self.handed += sent;
        self.data_frames += sent.div_ceil(16 << 10) as u32;
        if stream.outbox.tells_room() && !stream.left {
            signals.push((id, Signal::Writable));
        }
        match turn {
            Ok(Turn::More) => {
                stream.outbox.scheduled = true;
                self.schedule.insert(id, stream.outbox.priority);
            }
            Ok(Turn::Done) if stream.outbox.is_ended() => {
                signals.push((id, Signal::Sent));
                self.remove_if_over(id);
            }
            // An error is told by the receiving side, or by its reset.
            Ok(Turn::Done | Turn::Blocked) | Err(_) => {}
        }
    }
}

/// What an error of the crate means for one stream.
pub(super) fn reset_signal<M>(error: &h2::Error) -> Signal<M> {
    let reason = error.reason().unwrap_or(Reason::INTERNAL_ERROR);
    // RFC 9113 §6.8, §8.7: above the last stream of a GOAWAY, or refused: nothing was processed.
    let refused = error.is_remote() && (error.is_go_away() || reason == Reason::REFUSED_STREAM);
    let malformed = error.is_library() && error.is_reset();
    Signal::Reset { code: reason.into(), refused, malformed }
}

/// What a broken body means for its stream.
pub(super) fn broken_signal<M>(broken: Broken) -> Signal<M> {
    match broken {
        Broken::Stream(error) => reset_signal(&error),
        Broken::Refused(error) => Signal::Refused(error),
    }
}
