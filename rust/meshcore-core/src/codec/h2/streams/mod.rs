//! The open streams, what they tell, and those that are over. Nothing here knows bytes on the wire.

mod inbox;
mod stream;

use hashbrown::HashMap;

use super::Side;
use super::signal::Signal;
use crate::codec::asked::Asked;
use crate::codec::error::CodecError;

pub(super) use stream::Stream;

/// Streams that are over and remembered: a frame may have been on its way when they ended.
const REMEMBERED: usize = 256;

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// We reset it: what comes for it was on its way.
    Ours,
    /// The peer reset it.
    Peers,
    /// Both sides said their END_STREAM.
    Whole,
}

/// What is to be done when what waited on a stream is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivered {
    /// Bytes of its window that the sender gets back.
    pub(super) credit: Option<u32>,
    pub(super) is_over: bool,
}

/// The streams of one connection.
pub(super) struct Streams<S: Side> {
    open: HashMap<u32, Stream<S::Head>, foldhash::fast::RandomState>,
    /// Those with something to emit.
    touched: Vec<u32>,
    signals: Vec<(u32, Signal<S::Message>)>,
    /// Streams that are over, and how they ended: a ring.
    over: Vec<(u32, Over)>,
    over_at: usize,
}

impl<S: Side> Default for Streams<S> {
    fn default() -> Self {
        Self {
            open: HashMap::default(),
            touched: Vec::new(),
            signals: Vec::new(),
            over: Vec::new(),
            over_at: 0,
        }
    }
}

impl<S: Side> Streams<S> {
    // --- open ones --------------------------------------------------------------------------------

    pub(super) fn get(&self, id: u32) -> Option<&Stream<S::Head>> {
        self.open.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Stream<S::Head>> {
        self.open.get_mut(&id)
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.open.contains_key(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Every stream, the oldest first: the first to come is emitted first and gets room first.
    pub(super) fn ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.open.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub(super) fn insert(&mut self, id: u32, stream: Stream<S::Head>) {
        self.open.insert(id, stream);
    }

    /// Opens a stream with a message that may not pass: it is there for an answer, the rest is not
    /// wanted. `asked` is what it asked for.
    pub(super) fn insert_refused(
        &mut self,
        id: u32,
        mut stream: Stream<S::Head>,
        error: CodecError,
        asked: Asked,
    ) {
        stream.unwanted = true;
        self.open.insert(id, stream);
        self.tell(id, Signal::Refused(error, Some(Box::new(asked))));
    }

    /// A stream is over.
    pub(super) fn remove(&mut self, id: u32, over: Over) -> Option<Stream<S::Head>> {
        let stream = self.open.remove(&id)?;
        self.remember(id, over);
        Some(stream)
    }

    /// The connection is over, and so is every stream; those are told that somebody waits for.
    pub(super) fn end_all(&mut self, code: u32, detail: &'static str) {
        for id in self.ids() {
            let Some(stream) = self.open.remove(&id) else { continue };
            if !stream.left && stream.is_awaited::<S>() {
                let (refused, malformed) = (false, false);
                self.tell(id, Signal::Reset { code, refused, malformed, detail });
            }
        }
    }

    // --- those that are over ----------------------------------------------------------------------

    pub(super) fn remember(&mut self, id: u32, over: Over) {
        match self.over.get_mut(self.over_at) {
            Some(oldest) => *oldest = (id, over),
            None => self.over.push((id, over)),
        }
        self.over_at = (self.over_at + 1) % REMEMBERED;
    }

    /// How a stream ended, if it is remembered: what happened to it last.
    pub(super) fn recall(&self, id: u32) -> Option<Over> {
        let (later, earlier) = (&self.over[..self.over_at], &self.over[self.over_at..]);
        let mut newest = later.iter().rev().chain(earlier.iter().rev());
        newest.find(|(over, _)| *over == id).map(|(_, how)| *how)
    }

    // --- what they tell ---------------------------------------------------------------------------

    /// Something happened; 0 is the connection.
    pub(super) fn tell(&mut self, id: u32, signal: Signal<S::Message>) {
        self.signals.push((id, signal));
    }

    /// A stream ended before its time: who has left it hears that no more of it is sent, and who has
    /// all of its message, and may say no more, hears nothing.
    pub(super) fn tell_reset(
        &mut self,
        id: u32,
        stream: &Stream<S::Head>,
        reset: Signal<S::Message>,
    ) {
        if stream.left {
            self.tell(id, Signal::Sent);
        } else if stream.is_awaited::<S>() {
            self.tell(id, reset);
        }
    }

    pub(super) fn take_signals(&mut self) -> Vec<(u32, Signal<S::Message>)> {
        std::mem::take(&mut self.signals)
    }

    /// Something came for the stream: it is emitted when the read is parsed, in one piece.
    pub(super) fn touch(&mut self, id: u32) {
        if let Some(stream) = self.open.get_mut(&id)
            && !std::mem::replace(&mut stream.touched, true)
        {
            self.touched.push(id);
        }
    }

    pub(super) fn take_touched(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.touched)
    }

    /// Tells what waits on a stream, of a read of `read_len` bytes.
    pub(super) fn deliver(&mut self, id: u32, read_len: usize) -> Option<Delivered> {
        let stream = self.open.get_mut(&id)?;
        stream.touched = false;
        if stream.left || stream.unwanted {
            return Some(Delivered { credit: None, is_over: stream.is_over() });
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
        let is_over = stream.is_over();
        if let Some(message) = message {
            self.signals.push((id, Signal::Message(message)));
        }
        Some(Delivered { credit, is_over })
    }

    /// A message may not pass: the stream is open for an answer, the rest is not wanted.
    pub(super) fn refuse(&mut self, id: u32, error: CodecError) {
        if let Some(stream) = self.open.get_mut(&id) {
            let is_known = std::mem::replace(&mut stream.unwanted, true) || stream.left;
            let asked = stream.head.take().and_then(|head| S::asked(&head));
            if !is_known {
                self.signals.push((id, Signal::Refused(error, asked)));
            }
        }
    }
}
