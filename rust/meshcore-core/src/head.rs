//! Request and response heads: one buffer of bytes, and spans into it.
//!
//! A head owns a copy of what was read, so the read buffer can go; field names are lower case
//! (RFC 9110 §5.1: case-insensitive), so a look-up is a comparison of bytes, and HTTP/2 sees the
//! same shape. Nothing here is validated: codecs validate before they build a head.

use smallvec::SmallVec;

use crate::path::Oddities;

/// A range of bytes in a head's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// How many bytes.
    pub len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: Span,
    value: Span,
}

/// Header fields in arrival order, names in lower case.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    bytes: Vec<u8>,
    /// As many in place as leave a request below the 512 bytes that Python allocates quickly.
    fields: SmallVec<[Field; 12]>,
    /// The block that they were read from, as it was written, at the same places as in `bytes`.
    written: Option<Box<[u8]>>,
}

impl Headers {
    /// An empty list whose buffer holds `bytes` bytes before it grows.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), fields: SmallVec::new(), written: None }
    }

    /// Keeps what was appended so far as it is now, before names in it are lower-cased.
    pub fn keep_written(&mut self) {
        self.written = Some(self.bytes.as_slice().into());
    }

    /// How the name of a field, as [`Self::iter`] gives it, was written; itself where that is not
    /// known, or the field was added later. O(its length).
    #[must_use]
    pub fn written<'a>(&'a self, name: &'a [u8]) -> &'a [u8] {
        let start = (name.as_ptr() as usize).wrapping_sub(self.bytes.as_ptr() as usize);
        let end = start.wrapping_add(name.len());
        let kept = self.written.as_deref().and_then(|written| written.get(start..end));
        kept.filter(|kept| kept.eq_ignore_ascii_case(name)).unwrap_or(name)
    }

    /// Appends raw bytes to the buffer; the span is valid for this list's life.
    pub fn append(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Span { start, len: bytes.len() as u32 }
    }

    /// Appends whatever `write` writes; it must only append.
    pub fn append_with<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> (Span, T) {
        let start = self.bytes.len() as u32;
        let result = write(&mut self.bytes);
        (Span { start, len: self.bytes.len() as u32 - start }, result)
    }

    /// Appends bytes in lower case.
    pub fn append_lower(&mut self, bytes: &[u8]) -> Span {
        let span = self.append(bytes);
        self.bytes[span.start as usize..].make_ascii_lowercase();
        span
    }

    /// The bytes of a span made by [`Self::append`].
    #[must_use]
    pub fn slice(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..(span.start + span.len) as usize]
    }

    /// Adds a field after the others; the name is lower-cased.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let name = self.append_lower(name);
        let value = self.append(value);
        self.fields.push(Field { name, value });
    }

    /// Adds a field whose name is lower case already.
    pub fn push_folded(&mut self, name: &[u8], value: &[u8]) {
        let (name, value) = (self.append(name), self.append(value));
        self.fields.push(Field { name, value });
    }

    /// Adds a field whose bytes are already in the buffer; the name is lower-cased in place.
    pub fn push_spans(&mut self, name: Span, value: Span) {
        self.bytes[name.start as usize..(name.start + name.len) as usize].make_ascii_lowercase();
        self.fields.push(Field { name, value });
    }

    /// The spans of the value of every field, in order.
    pub fn value_spans(&self) -> impl ExactSizeIterator<Item = Span> + '_ {
        self.fields.iter().map(|f| f.value)
    }

    /// The first value of `name` (lower case). O(fields).
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields.iter().find(|f| self.is_named(f, name)).map(|f| self.slice(f.value))
    }

    /// Every value of `name` (lower case), in order.
    pub fn get_all<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.fields.iter().filter(move |f| self.is_named(f, name)).map(|f| self.slice(f.value))
    }

    /// The length alone tells most names apart.
    #[inline]
    fn is_named(&self, field: &Field, name: &[u8]) -> bool {
        field.name.len as usize == name.len() && self.slice(field.name) == name
    }

    /// Whether `name` (lower case) is there.
    #[must_use]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    /// Name and value of every field, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> + ExactSizeIterator + '_ {
        self.fields.iter().map(|f| (self.slice(f.name), self.slice(f.value)))
    }

    /// Removes every field called `name` (lower case); says whether there was one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let before = self.fields.len();
        self.retain(|n, _| n != name);
        self.fields.len() != before
    }

    /// Keeps the fields of which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let bytes = &self.bytes;
        let at = |s: Span| &bytes[s.start as usize..(s.start + s.len) as usize];
        self.fields.retain(|f| keep(at(f.name), at(f.value)));
    }

    /// Replaces every field called `name` by one.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        self.remove(&name.to_ascii_lowercase());
        self.push(name, value);
    }

    /// How many bytes the buffer holds: names, values and whatever else was appended.
    #[must_use]
    pub fn buffer_len(&self) -> usize {
        self.bytes.len()
    }

    /// How many fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// A host's name without the root's dot: `a.` is `a` (RFC 1034 §3.1).
#[must_use]
pub fn without_root(host: &[u8]) -> &[u8] {
    host.strip_suffix(b".").unwrap_or(host)
}

/// The protocol version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

/// `http` or `https`, as the listener saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Over TLS.
    Https,
}

/// How long a message body is (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// No body.
    Empty,
    /// `Content-Length`, more than zero.
    Known(u64),
    /// Chunked, or an HTTP/2 stream without a declared length.
    Streamed,
    /// A response that ends when the connection closes.
    UntilClose,
}

/// A request head, validated by its codec.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The version that the client spoke.
    pub version: Version,
    /// The method as sent (case-sensitive, RFC 9110 §9.1).
    pub method: Span,
    /// The scheme of the connection.
    pub scheme: Scheme,
    /// `Host`, `:authority` or the absolute-form's authority, as forwarded: lower case, with port.
    pub authority: Span,
    /// The authority without port, for routing; an IPv6 literal keeps its brackets.
    pub host: Span,
    /// The path in its normal form ([`crate::path`]): what routes, layers, limits and the log see.
    pub path: Span,
    /// The path as it is sent on: spelt as it came, but for dot segments and slashes at its
    /// beginning. The same span as `path` where that is the same.
    pub forward_path: Span,
    /// The path as it came.
    pub raw_path: Span,
    /// What the target has that a route may refuse although its listener does not.
    pub oddities: Oddities,
    /// The query without `?`; `None` when the target has no `?`.
    pub query: Option<Span>,
    /// The body's framing.
    pub body: BodyLength,
    /// Whether the client's connection may serve another request after this one.
    pub keep_alive: bool,
    /// `Expect: 100-continue` was sent.
    pub expect_continue: bool,
    /// The one protocol that the client asks to change to, in lower case: `upgrade` of HTTP/1.1
    /// (RFC 9110 §7.8), `:protocol` of an extended CONNECT (RFC 8441 §4).
    pub upgrade: Option<Span>,
    /// Something among the fields only a trusted proxy may say.
    pub vouched: bool,
    /// It came through another proxy, which said so in `via`.
    pub via: bool,
    /// It carries credentials that authenticate the connection that brings them: NTLM or Negotiate.
    pub binds: bool,
    /// The fields as received, `host` included, without those about the connection alone.
    pub headers: Headers,
}

/// What a request turns its connection or stream into, if it is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelKind<'a> {
    /// A way to the authority that a plain CONNECT names (RFC 9110 §9.3.6).
    Connect,
    /// A protocol, in lower case: by `upgrade` or by an extended CONNECT.
    Upgrade(&'a [u8]),
}

impl<'a> TunnelKind<'a> {
    /// The protocol that both ends change to; none for a plain CONNECT.
    #[must_use]
    pub fn protocol(self) -> Option<&'a [u8]> {
        match self {
            Self::Connect => None,
            Self::Upgrade(protocol) => Some(protocol),
        }
    }
}

impl RequestHead {
    /// The bytes of one of this head's spans.
    #[must_use]
    pub fn slice(&self, span: Span) -> &[u8] {
        self.headers.slice(span)
    }

    /// What the request would turn its connection or stream into.
    #[must_use]
    pub fn tunnel(&self) -> Option<TunnelKind<'_>> {
        match self.upgrade {
            Some(protocol) => Some(TunnelKind::Upgrade(self.slice(protocol))),
            None => (self.slice(self.method) == b"CONNECT").then_some(TunnelKind::Connect),
        }
    }

    /// Whether it asks for a gRPC call, which is always a POST: a local answer to it is made of
    /// trailers. Whether it *is* one the response's own type says.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        let post = self.slice(self.method) == b"POST";
        post && self.version == Version::Http2 && is_grpc(&self.headers)
    }

    /// Whether its method may be repeated (RFC 9110 §9.2.2), without those that no proxy should
    /// repeat unasked.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        matches!(self.slice(self.method), b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE")
    }
}

/// Whether a message carries gRPC: `application/grpc`, with `+proto` or `;` behind it, but not
/// `application/grpc-web`, which is another protocol.
#[must_use]
pub fn is_grpc(headers: &Headers) -> bool {
    let kind = headers.get(b"content-type").and_then(|v| v.strip_prefix(b"application/grpc"));
    kind.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// A response head, validated by its codec.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// The version that the upstream spoke.
    pub version: Version,
    /// The status code, 100 to 599.
    pub status: u16,
    /// The body's framing.
    pub body: BodyLength,
    /// Whether the upstream's connection may serve another request after this one.
    pub keep_alive: bool,
    /// Its endpoint authenticates the connection that it came on: by NTLM or Negotiate.
    pub authenticates: bool,
    /// The fields as received, without those about the connection alone.
    pub headers: Headers,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_they_were_written() {
        let block = b"GET / HTTP/1.1\r\nHost: a\r\nX-One: X-ONE\r\nx-ONE: 2\r\nHOST: b\r\n\r\n";
        let mut h = Headers::with_capacity(0);
        h.append(block);
        h.keep_written();
        for (at, len) in [(25, 5), (39, 5)] {
            h.push_spans(Span { start: at, len }, Span { start: at + len + 2, len: 1 });
        }
        h.push(b"X-Two", b"3");
        let names = |h: &Headers| h.iter().map(|(n, _)| h.written(n).to_vec()).collect::<Vec<_>>();
        assert_eq!(names(&h), [&b"X-One"[..], b"x-ONE", b"x-two"]);
        assert_eq!(names(&h.clone()), names(&h));
        assert_eq!(
            h.iter().map(|(n, _)| n).collect::<Vec<_>>(),
            [&b"x-one"[..], b"x-one", b"x-two"]
        );
        assert_eq!(h.written(b"x-one"), b"x-one", "of another list");
        h.set(b"X-ONE", b"4");
        assert_eq!(names(&h), [b"x-two", b"x-one"]);
    }

    #[test]
    fn fields_keep_order_and_case_is_folded() {
        let mut h = Headers::with_capacity(64);
        h.push(b"Host", b"A");
        h.push(b"X-One", b"1");
        h.push(b"x-ONE", b"2");
        assert_eq!(h.get_all(b"x-one").collect::<Vec<_>>(), [b"1", b"2"]);
        assert!(h.remove(b"x-one"));
        assert!(!h.remove(b"x-one"));
        h.set(b"HOST", b"b");
        assert_eq!(h.iter().collect::<Vec<_>>(), [(&b"host"[..], &b"b"[..])]);
    }
}
