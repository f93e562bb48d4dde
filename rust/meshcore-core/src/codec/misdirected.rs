//! What came to the wrong door: the first bytes of a protocol that is not spoken there.

/// Type of a record and the first byte of its version (RFC 8446 §5.1).
const TLS_HANDSHAKE: &[u8] = b"\x16\x03";
const PROXY_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const PROXY_1: [&[u8]; 3] = [b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN"];

/// What these bytes begin, where HTTP without TLS was expected; for logs. Only what is no HTTP is
/// known here: ask of what was refused.
#[must_use]
pub fn misdirected(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(TLS_HANDSHAKE) {
        Some("TLS on a listener without tls")
    } else if bytes.starts_with(PROXY_2) || PROXY_1.iter().any(|line| bytes.starts_with(line)) {
        Some("a PROXY header on a listener without proxy_protocol")
    } else {
        None
    }
}
