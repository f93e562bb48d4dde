//! The two fields by which HTTP/1.1 and HTTP/2 open a WebSocket differently.
//!
//! HTTP/1.1 proves with a key and its hash that both sides mean a WebSocket (RFC 6455 §4);
//! HTTP/2 says `:protocol`, and has neither (RFC 8441 §5). Between the two the proxy makes them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// What is hashed behind the key (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The field that only HTTP/1.1 requests have.
pub const KEY: &[u8] = b"sec-websocket-key";
/// The field that only HTTP/1.1 responses have.
pub(super) const ACCEPT: &[u8] = b"sec-websocket-accept";
/// The protocol's name.
pub const WEBSOCKET: &[u8] = b"websocket";

/// The `sec-websocket-accept` for a client's key.
#[must_use]
pub fn accept(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// A `sec-websocket-key` of our own, from a request's unique id: 16 bytes that no request had
/// before (RFC 6455 §4.1), which need not be secret.
#[must_use]
pub(super) fn key(request_id: &[u8]) -> String {
    let digest = Sha1::digest(request_id);
    STANDARD.encode(&digest[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_6455() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_is_sixteen_bytes() {
        assert_eq!(key(b"0190163d8694739b9ea2acd60ad8d7e1").len(), 24);
        assert_ne!(key(b"a"), key(b"b"));
    }
}
