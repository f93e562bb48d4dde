//! A request to an upstream, written in one pass.

use super::encode::{content_length, field};
use super::field::list;
use super::header_ops::HeaderOps;
use super::header_rules::{Class, Nominated, classify};
use crate::head::{BodyLength, RequestHead, Scheme, Version};

/// What the exchange decided about the request on its way out.
#[derive(Clone, Copy, Debug)]
pub struct RequestRules<'a> {
    /// The address of the socket's peer, as text, for `x-forwarded-for`.
    pub peer: &'a [u8],
    /// Whether the peer is a proxy that we believe.
    pub trusted: bool,
    /// The id to give a request that brings none (32 hexadecimal digits).
    pub request_id: &'a [u8],
    /// The route's changes.
    pub ops: &'a HeaderOps,
    /// The path to ask for instead of the head's, without query.
    pub path: Option<&'a [u8]>,
    /// The authority to name instead of the head's.
    pub authority: Option<&'a [u8]>,
    /// How the body is framed: the head's own [`BodyLength`], or the length of a body that was
    /// collected for a replay.
    pub framing: BodyLength,
}

/// What was met on the way through the fields.
#[derive(Default)]
struct Met {
    te_trailers: bool,
    request_id: bool,
    proto: bool,
    host: bool,
    content_length: bool,
}

/// Appends the head to `out`; the body follows as `rules.framing` says.
///
/// HTTP/1.1 whatever the client spoke, origin-form with one `host`, hop-by-hop fields gone,
/// forwarding fields added (semantics: "Headers out"). O(bytes); `out` grows at most once.
pub fn encode_request(out: &mut Vec<u8>, head: &RequestHead, rules: &RequestRules<'_>) {
    out.reserve(head.headers.buffer_len() + rules.ops.lines().len() + 256);
    let authority = rules.authority.unwrap_or_else(|| head.slice(head.authority));
    request_line(out, head, rules, authority);
    field(out, b"host", authority);
    let met = received_fields(out, head, rules);
    framing(out, head, rules.framing, &met);
    if met.te_trailers {
        // RFC 9110 §10.1.4: whoever sends TE lists it.
        out.extend_from_slice(b"te: trailers\r\nconnection: te\r\n");
    }
    made_fields(out, head, rules, &met);
    out.extend_from_slice(rules.ops.lines());
    out.extend_from_slice(b"\r\n");
}

fn request_line(out: &mut Vec<u8>, head: &RequestHead, rules: &RequestRules<'_>, authority: &[u8]) {
    let method = head.slice(head.method);
    out.extend_from_slice(method);
    out.push(b' ');
    if method == b"CONNECT" {
        out.extend_from_slice(authority);
    } else {
        out.extend_from_slice(rules.path.unwrap_or_else(|| head.slice(head.path)));
    }
    if let Some(query) = head.query {
        out.push(b'?');
        out.extend_from_slice(head.slice(query));
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Writes what passes of the fields received.
fn received_fields(out: &mut Vec<u8>, head: &RequestHead, rules: &RequestRules<'_>) -> Met {
    let nominated = Nominated::of(&head.headers);
    let mut met = Met::default();
    for (name, value) in head.headers.iter() {
        let passes = match classify(name) {
            Class::Plain => !nominated.has(name),
            Class::Kept => true,
            Class::Hop | Class::Host | Class::ForwardedFor => false,
            Class::ContentLength => {
                met.content_length = true;
                false
            }
            Class::Te => {
                met.te_trailers |= list(value).any(|m| m.eq_ignore_ascii_case(b"trailers"));
                false
            }
            Class::Expect => head.expect_continue,
            Class::RequestId => {
                met.request_id = true;
                true
            }
            Class::ForwardedProto => {
                met.proto |= rules.trusted;
                rules.trusted
            }
            Class::ForwardedHost => {
                met.host |= rules.trusted;
                rules.trusted
            }
            Class::Guarded => rules.trusted,
        };
        if passes && !rules.ops.drops(name) {
            field(out, name, value);
        }
    }
    met
}

fn framing(out: &mut Vec<u8>, head: &RequestHead, length: BodyLength, met: &Met) {
    match length {
        BodyLength::Known(n) => content_length(out, n),
        BodyLength::Streamed | BodyLength::UntilClose => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        // RFC 9110 §8.6: a method that has a meaning for content says that there is none.
        BodyLength::Empty => {
            let method = head.slice(head.method);
            if met.content_length || matches!(method, b"POST" | b"PUT" | b"PATCH") {
                content_length(out, 0);
            }
        }
    }
}

/// Writes what a proxy adds, unless the route removes or sets it itself.
fn made_fields(out: &mut Vec<u8>, head: &RequestHead, rules: &RequestRules<'_>, met: &Met) {
    let ops = rules.ops;
    if !ops.drops(b"via") {
        // RFC 9110 §7.6.3: the version that was received, and a pseudonym.
        let version: &[u8] = match head.version {
            Version::Http10 => b"via: 1.0 meshcore\r\n",
            Version::Http11 => b"via: 1.1 meshcore\r\n",
            Version::Http2 => b"via: 2 meshcore\r\n",
        };
        out.extend_from_slice(version);
    }
    if !ops.drops(b"x-forwarded-for") {
        out.extend_from_slice(b"x-forwarded-for: ");
        if rules.trusted {
            for value in head.headers.get_all(b"x-forwarded-for").filter(|v| !v.is_empty()) {
                out.extend_from_slice(value);
                out.extend_from_slice(b", ");
            }
        }
        out.extend_from_slice(rules.peer);
        out.extend_from_slice(b"\r\n");
    }
    if !met.proto && !ops.drops(b"x-forwarded-proto") {
        let scheme: &[u8] = match head.scheme {
            Scheme::Http => b"http",
            Scheme::Https => b"https",
        };
        field(out, b"x-forwarded-proto", scheme);
    }
    if !met.host && head.authority.len > 0 && !ops.drops(b"x-forwarded-host") {
        field(out, b"x-forwarded-host", head.slice(head.authority));
    }
    if !met.request_id && !ops.drops(b"x-request-id") {
        field(out, b"x-request-id", rules.request_id);
    }
}
