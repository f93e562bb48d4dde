//! The pieces that every message is written with.

use super::header_class::may_be_trailer;
use super::header_ops::HeaderOps;
use crate::head::Headers;

/// Where the fields of a message are written to: lines of text, or an HTTP/2 field list.
pub(super) trait Fields {
    /// Adds a field whose name is lower case.
    fn field(&mut self, name: &[u8], value: &[u8]);

    /// Adds the fields that a route sets and adds.
    fn changes(&mut self, ops: &HeaderOps);

    /// Adds `content-length`.
    fn content_length(&mut self, n: u64) {
        self.field(b"content-length", itoa::Buffer::new().format(n).as_bytes());
    }
}

/// Lines of HTTP/1.1 that call received fields as their sender wrote them. What frames the message,
/// names its host or steers its connection has one spelling, whatever the sender chose: an endpoint
/// that knows that one alone would miss another. What is added beside them, or set in their place, is
/// called as we write it.
pub(super) struct AsWritten<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) headers: &'a Headers,
}

impl Fields for AsWritten<'_> {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.out.field(codecs_spelling(name).unwrap_or_else(|| self.headers.written(name)), value);
    }

    fn changes(&mut self, ops: &HeaderOps) {
        self.out.changes(ops);
    }
}

/// How a field that the codec writes is spelt in most programs and documents.
fn codecs_spelling(name: &[u8]) -> Option<&'static [u8]> {
    Some(match name {
        b"host" => b"Host",
        b"content-length" => b"Content-Length",
        b"transfer-encoding" => b"Transfer-Encoding",
        b"connection" => b"Connection",
        b"upgrade" => b"Upgrade",
        b"te" => b"TE",
        b"expect" => b"Expect",
        b"sec-websocket-key" => b"Sec-WebSocket-Key",
        _ => return None,
    })
}

/// A list without the fields of one name.
pub(super) struct Without<'a, F> {
    pub(super) out: &'a mut F,
    pub(super) name: &'a [u8],
}

impl<F: Fields> Fields for Without<'_, F> {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        if name != self.name {
            self.out.field(name, value);
        }
    }

    fn changes(&mut self, ops: &HeaderOps) {
        self.out.changes(ops);
    }
}

impl Fields for Vec<u8> {
    #[inline]
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.reserve(name.len() + value.len() + 4);
        self.extend_from_slice(name);
        self.extend_from_slice(b": ");
        self.extend_from_slice(value);
        self.extend_from_slice(b"\r\n");
    }

    fn changes(&mut self, ops: &HeaderOps) {
        self.extend_from_slice(ops.lines());
    }
}

/// Writes a status line. The version is always 1.1: it is the server's own, not the request's
/// (RFC 9110 §2.5).
pub(super) fn status_line(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes the size line of a chunk; its data and [`encode_chunk_end`] follow. Nothing for an
/// empty chunk: that would end the body.
pub fn encode_chunk_header(out: &mut Vec<u8>, len: usize) {
    if len == 0 {
        return;
    }
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4);
    for i in (0..digits).rev() {
        out.push(b"0123456789abcdef"[len >> (4 * i) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes what follows the data of a chunk.
pub fn encode_chunk_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk and the trailers; those that may not be trailers are left out. `as_written`:
/// they are called as they were, where that was kept.
pub fn encode_last_chunk(out: &mut Vec<u8>, trailers: Option<&Headers>, as_written: bool) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        for (name, value) in trailers.iter() {
            if may_be_trailer(name) {
                out.field(if as_written { trailers.written(name) } else { name }, value);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The registered reason phrase (RFC 9110 §15 and the IANA registry), empty for others: clients
/// ignore it, and HTTP/2 has none, so the upstream's own is not passed on.
#[must_use]
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        511 => "Network Authentication Required",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::header_class::is_codecs_own;
    use super::*;

    #[test]
    fn chunk_sizes_are_hexadecimal() {
        for (len, text) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (65_536, "10000\r\n")] {
            let mut out = Vec::new();
            encode_chunk_header(&mut out, len);
            assert_eq!(out, text.as_bytes());
        }
        let mut out = Vec::new();
        encode_chunk_header(&mut out, usize::MAX);
        assert_eq!(out.len(), 2 + usize::BITS as usize / 4);
        out.clear();
        encode_chunk_header(&mut out, 0);
        assert!(out.is_empty());
    }

    #[test]
    fn forbidden_trailers_are_left_out() {
        let mut trailers = Headers::default();
        trailers.push(b"content-length", b"3");
        trailers.push(b"grpc-status", b"0");
        let mut out = Vec::new();
        encode_last_chunk(&mut out, Some(&trailers), false);
        encode_last_chunk(&mut out, None, false);
        assert_eq!(out, b"0\r\ngrpc-status: 0\r\n\r\n0\r\n\r\n");
    }

    #[test]
    fn what_the_codec_writes_has_a_spelling() {
        // Of those that it alone writes these never go on.
        let gone: [&[u8]; 3] = [b"keep-alive", b"trailer", b"proxy-connection"];
        let written: [&[u8]; 7] = [
            b"host",
            b"content-length",
            b"transfer-encoding",
            b"connection",
            b"upgrade",
            b"te",
            b"expect",
        ];
        for name in written.iter().chain(&gone) {
            assert!(is_codecs_own(name), "{name:?}");
            let spelling = codecs_spelling(name).map(<[u8]>::to_ascii_lowercase);
            assert_eq!(spelling.as_deref(), Some(*name).filter(|_| written.contains(name)));
        }
    }

    #[test]
    fn every_reason_of_ours_has_a_phrase() {
        for reason in crate::error::Reason::ALL {
            let status = reason.status();
            assert!(status == 499 || !reason_phrase(status).is_empty(), "{status}");
        }
    }
}
