//! What a read meant.
//!
//! One read gives at most one event: a head carries the body bytes that came with it and says
//! whether they are the last, so a small message costs its driver a single call.

use std::ops::Range;

use smallvec::{SmallVec, smallvec};

use crate::head::{Headers, RequestHead, ResponseHead};

/// Pieces beyond which a chunked body is gathered instead of listed: a body of one-byte chunks
/// would otherwise cost sixteen bytes of list for each byte.
const MAX_PIECES: usize = 32;

/// Body bytes: where they lie in the slice that was passed in, or the bytes themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bytes {
    /// None came.
    #[default]
    None,
    /// One range of the slice: it can be handed on untouched.
    Range(Range<usize>),
    /// Several ranges of the slice, in order.
    Ranges(SmallVec<[Range<usize>; 2]>),
    /// A copy: they were kept from an earlier read, or came in very many pieces.
    Owned(Vec<u8>),
    /// Pieces of their own, in order: payloads of HTTP/2 frames.
    Shared(SmallVec<[bytes::Bytes; 1]>),
}

impl Bytes {
    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Range(r) => r.len(),
            Self::Ranges(list) => list.iter().map(Range::len).sum(),
            Self::Owned(bytes) => bytes.len(),
            Self::Shared(pieces) => pieces.iter().map(bytes::Bytes::len).sum(),
        }
    }

    /// Whether there is no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the bytes to `out`; `data` is the slice that the event came from.
    pub fn append_to(&self, data: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::None => {}
            Self::Range(r) => out.extend_from_slice(&data[r.clone()]),
            Self::Ranges(list) => {
                for r in list {
                    out.extend_from_slice(&data[r.clone()]);
                }
            }
            Self::Owned(bytes) => out.extend_from_slice(bytes),
            Self::Shared(pieces) => pieces.iter().for_each(|piece| out.extend_from_slice(piece)),
        }
    }

    /// Adds a range of `data`.
    pub(super) fn push(&mut self, range: Range<usize>, data: &[u8]) {
        match self {
            _ if range.is_empty() => {}
            Self::None => *self = Self::Range(range),
            Self::Range(first) => *self = Self::Ranges(smallvec![first.clone(), range]),
            Self::Ranges(list) if list.len() < MAX_PIECES => list.push(range),
            Self::Ranges(_) => {
                let mut owned = Vec::with_capacity(self.len() + data.len() - range.start);
                self.append_to(data, &mut owned);
                owned.extend_from_slice(&data[range]);
                *self = Self::Owned(owned);
            }
            Self::Owned(owned) => owned.extend_from_slice(&data[range]),
            Self::Shared(pieces) => pieces.push(bytes::Bytes::copy_from_slice(&data[range])),
        }
    }

    /// The same bytes, no longer tied to `data`.
    pub(super) fn into_owned(self, data: &[u8]) -> Self {
        match self {
            Self::None | Self::Owned(_) | Self::Shared(_) => self,
            ranges => {
                let mut owned = Vec::with_capacity(ranges.len());
                ranges.append_to(data, &mut owned);
                Self::Owned(owned)
            }
        }
    }
}

/// A part of a body.
#[derive(Clone, Debug, Default)]
pub struct BodyPart {
    /// The bytes, without chunk framing.
    pub bytes: Bytes,
    /// Whether the message ends here.
    pub end: bool,
    /// Trailer fields, only with `end`; those that may not be trailers are dropped.
    pub trailers: Option<Box<Headers>>,
}

/// What a server connection received.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most events are heads; a box would cost each an allocation"
)]
pub enum ServerEvent {
    /// A request begins.
    Head {
        /// Its head.
        head: RequestHead,
        /// What of its body came in the same read.
        body: BodyPart,
    },
    /// More of the body.
    Data(BodyPart),
}

/// What a client connection received.
#[derive(Clone, Debug)]
pub enum ClientEvent {
    /// An interim (1xx) response; the final one follows, perhaps in the same read: ask
    /// [`super::H1Client::next_event`] until it says `None`.
    Informational(ResponseHead),
    /// The final response begins.
    Head {
        /// Its head.
        head: ResponseHead,
        /// What of its body came in the same read.
        body: BodyPart,
    },
    /// More of the body.
    Data(BodyPart),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_pieces_become_one_copy() {
        let data: Vec<u8> = (0..200).collect();
        let mut bytes = Bytes::None;
        let mut expected = Vec::new();
        for i in 0..100 {
            bytes.push(2 * i..2 * i + 1, &data);
            expected.push(data[2 * i]);
            assert_eq!(bytes.len(), i + 1);
        }
        assert_eq!(bytes, Bytes::Owned(expected));
    }

    #[test]
    fn an_empty_piece_is_none() {
        let mut bytes = Bytes::None;
        bytes.push(3..3, b"abcd");
        assert!(bytes.is_empty());
        assert_eq!(bytes, Bytes::None);
    }
}
