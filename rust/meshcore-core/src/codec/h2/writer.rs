//! Field lists that are sent: as a block on a connection, or as pairs for another engine.

use super::block::FIELD_BYTES;
use super::frame::{HEAD_BYTES, close_block};
use crate::codec::encode::Fields;
use crate::codec::error::CodecError;
use crate::codec::header_class::may_be_trailer;
use crate::codec::header_ops::HeaderOps;
use crate::codec::hpack::Encoder;
use crate::error::Reason;
use crate::head::Headers;

/// What is wrong with a list beyond SETTINGS_MAX_HEADER_LIST_SIZE.
pub(super) const LARGE_FOR_PEER: &str = "field list larger than the peer takes";

/// A field list to send, pseudo fields first.
pub type FieldPairs = Vec<(Vec<u8>, Vec<u8>)>;

impl Fields for FieldPairs {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.push((name.to_vec(), value.to_vec()));
    }

    fn changes(&mut self, ops: &HeaderOps) {
        ops.fields().for_each(|(name, value)| self.field(name, value));
    }
}

/// What is never put into the table of either side (RFC 7541 §7.1.3): a secret could be guessed
/// from it, and what differs from request to request would push out what does not.
fn is_private(name: &[u8]) -> bool {
    matches!(
        name,
        b"authorization"
            | b"cookie"
            | b"proxy-authorization"
            | b"set-cookie"
            | b"x-forwarded-for"
            | b"x-request-id"
    )
}

/// A block that is being written into a connection's output.
pub(super) struct BlockWriter<'a> {
    encoder: &'a mut Encoder,
    out: &'a mut Vec<u8>,
    from: usize,
}

impl<'a> BlockWriter<'a> {
    pub(super) fn begin(encoder: &'a mut Encoder, out: &'a mut Vec<u8>) -> Self {
        let from = out.len();
        out.extend_from_slice(&[0; HEAD_BYTES]);
        encoder.begin(out);
        Self { encoder, out, from }
    }

    /// Closes the block, in as many frames as it needs.
    pub(super) fn end(self, stream: u32, ends: bool) {
        close_block(self.out, self.from, stream, ends);
    }
}

impl Fields for BlockWriter<'_> {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.encoder.field(self.out, name, value, is_private(name));
    }

    fn changes(&mut self, ops: &HeaderOps) {
        ops.fields().for_each(|(name, value)| self.field(name, value));
    }
}

/// A list that is only measured (RFC 9113 §10.5.1).
#[derive(Debug, Default)]
pub(super) struct ListSize(usize);

impl ListSize {
    /// Whether a peer takes it that takes lists of at most `most` bytes (§6.5.2). It would refuse
    /// the stream, and be blamed for what it had said before.
    ///
    /// # Errors
    /// `headers_too_large`.
    pub(super) fn check(&self, most: usize) -> Result<(), CodecError> {
        match self.0 {
            size if size <= most => Ok(()),
            _ => Err(CodecError::new(Reason::HeadersTooLarge, LARGE_FOR_PEER)),
        }
    }
}

impl Fields for ListSize {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.0 += name.len() + value.len() + FIELD_BYTES;
    }

    fn changes(&mut self, ops: &HeaderOps) {
        ops.fields().for_each(|(name, value)| self.field(name, value));
    }
}

/// Writes trailers; those that may not be trailers are left out.
pub(super) fn write_trailers<F: Fields>(out: &mut F, headers: &Headers) {
    for (name, value) in headers.iter().filter(|(name, _)| may_be_trailer(name)) {
        out.field(name, value);
    }
}
