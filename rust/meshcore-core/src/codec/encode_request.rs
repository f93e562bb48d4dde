//! A request to an upstream, written in one pass.
//!
//! Which fields pass and which are made is the same for both protocols; HTTP/1.1 writes them here
//! as lines, [`super::h2`] as a field list.

use super::encode::{AsWritten, Fields, Without};
use super::field::list;
use super::header_class::{Class, classify};
use super::header_ops::HeaderOps;
use super::websocket;
use crate::head::{BodyLength, RequestHead, Scheme, TunnelKind, Version};
use crate::telemetry::trace::{SentContext, is_context};

/// What the exchange decided about the request on its way out.
#[derive(Clone, Copy, Debug)]
pub struct RequestRules<'a> {
    /// The address of the socket's peer, as text, for `x-forwarded-for`.
    pub peer: &'a [u8],
    /// The id to give a request that brings none (32 hexadecimal digits).
    pub request_id: &'a [u8],
    /// The version that was received, and a pseudonym (RFC 9110 §7.6.3).
    pub via: &'a [u8],
    /// The route's changes.
    pub ops: &'a HeaderOps,
    /// The path to ask for instead of the head's, without query.
    pub path: Option<&'a [u8]>,
    /// The authority to name instead of the head's.
    pub authority: Option<&'a [u8]>,
    /// How the body is framed: the head's own [`BodyLength`], or the length of a body that was
    /// collected for a replay.
    pub framing: BodyLength,
    /// The tunnel that the client asks for, where its route allows it.
    pub tunnel: Option<TunnelKind<'a>>,
    /// What is sent instead of the client's deadlines: what is left of them, as `grpc-timeout` and
    /// as `x-mesh-deadline-ms`.
    pub left: Option<(&'a [u8], &'a [u8])>,
    /// What is sent instead of the client's `max-forwards`.
    pub max_forwards: Option<&'a [u8]>,
    /// The context of its trace, in place of the client's.
    pub trace: Option<SentContext>,
    /// Over HTTP/1.1 names go out as the client wrote them, where that was kept, and what the codec
    /// writes as endpoints know it.
    pub as_written: bool,
}

/// What was met on the way through the fields.
#[derive(Default)]
pub(super) struct Met {
    pub(super) te_trailers: bool,
    pub(super) content_length: bool,
    request_id: bool,
    proto: bool,
    host: bool,
}

/// What goes out of a request's body and length fields.
pub(super) fn declared_length(head: &RequestHead, framing: BodyLength, met: &Met) -> Option<u64> {
    match framing {
        BodyLength::Known(n) => Some(n),
        BodyLength::Streamed | BodyLength::UntilClose => None,
        // RFC 9110 §8.6: a method that has a meaning for content says that there is none.
        BodyLength::Empty => {
            match head.slice(head.method) {
                // RFC 9110 §9.3.6: it has none, and some take any length for a body's.
                b"CONNECT" => None,
                b"POST" | b"PUT" | b"PATCH" => Some(0),
                _ => met.content_length.then_some(0),
            }
        }
    }
}

/// Appends the head to `out`; the body follows as `rules.framing` says.
///
/// HTTP/1.1 whatever the client spoke, origin-form with one `host`, hop-by-hop fields gone,
/// forwarding fields added (semantics: "Headers out"). O(bytes); `out` grows at most once.
pub fn encode_request(out: &mut Vec<u8>, head: &RequestHead, rules: &RequestRules<'_>) {
    out.reserve(head.headers.buffer_len() + rules.ops.lines().len() + 256);
    let authority = rules.authority.unwrap_or_else(|| head.slice(head.authority));
    request_line(out, head, rules, authority);
    if rules.as_written {
        fields(&mut AsWritten { out, headers: &head.headers }, head, rules, authority);
    } else {
        fields(out, head, rules, authority);
    }
    out.extend_from_slice(b"\r\n");
}

fn fields<F: Fields>(out: &mut F, head: &RequestHead, rules: &RequestRules<'_>, authority: &[u8]) {
    out.field(b"host", authority);
    let made_key = head.version == Version::Http2
        && rules.tunnel == Some(TunnelKind::Upgrade(websocket::WEBSOCKET));
    let met = if made_key {
        received_fields(&mut Without { out, name: websocket::KEY }, head, rules)
    } else {
        received_fields(out, head, rules)
    };
    let streamed = matches!(rules.framing, BodyLength::Streamed | BodyLength::UntilClose);
    if streamed {
        out.field(b"transfer-encoding", b"chunked");
    } else if let Some(n) = declared_length(head, rules.framing, &met) {
        out.content_length(n);
    }
    match rules.tunnel {
        Some(TunnelKind::Upgrade(protocol)) => {
            if made_key {
                out.field(websocket::KEY, websocket::key(rules.request_id).as_bytes());
            }
            out.field(b"upgrade", protocol);
            out.field(b"connection", b"upgrade");
        }
        // RFC 9110 §10.1.4: a sender of TE lists it.
        None if met.te_trailers => {
            out.field(b"te", b"trailers");
            out.field(b"connection", b"te");
        }
        Some(TunnelKind::Connect) | None => {}
    }
    made_fields(out, head, rules, &met);
    out.changes(rules.ops);
}

fn request_line(out: &mut Vec<u8>, head: &RequestHead, rules: &RequestRules<'_>, authority: &[u8]) {
    let method = head.slice(head.method);
    // An extended CONNECT is an upgrade here (RFC 8441 §5).
    let upgrade = matches!(rules.tunnel, Some(TunnelKind::Upgrade(_)));
    let extended = method == b"CONNECT" && upgrade;
    out.extend_from_slice(if extended { b"GET" } else { method });
    out.push(b' ');
    if method == b"CONNECT" && !extended {
        out.extend_from_slice(authority);
    } else {
        out.extend_from_slice(rules.path.unwrap_or_else(|| head.slice(head.forward_path)));
    }
    if let Some(query) = head.query {
        out.push(b'?');
        out.extend_from_slice(head.slice(query));
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Writes what passes of the fields received.
pub(super) fn received_fields<F: Fields>(
    out: &mut F,
    head: &RequestHead,
    rules: &RequestRules<'_>,
) -> Met {
    let mut met = Met::default();
    for (name, value) in head.headers.iter() {
        let passes = match classify(name) {
            Class::Plain | Class::Kept | Class::Via | Class::Guarded | Class::Twin => true,
            Class::Credentials | Class::Challenge => true,
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
                met.proto = true;
                true
            }
            Class::ForwardedHost => {
                met.host = true;
                true
            }
        };
        let passes = passes && !(rules.trace.is_some() && is_context(name));
        if passes && !rules.ops.drops(name) {
            let value = match (rules.left, rules.max_forwards, name) {
                (Some((timeout, _)), _, b"grpc-timeout") => timeout,
                (Some((_, ms)), _, b"x-mesh-deadline-ms") => ms,
                (_, Some(left), b"max-forwards") => left,
                _ => value,
            };
            out.field(name, value);
        }
    }
    met
}

/// Writes what a proxy adds, unless the route removes or sets it itself.
pub(super) fn made_fields<F: Fields>(
    out: &mut F,
    head: &RequestHead,
    rules: &RequestRules<'_>,
    met: &Met,
) {
    let ops = rules.ops;
    if !ops.drops(b"via") {
        out.field(b"via", rules.via);
    }
    if !ops.drops(b"x-forwarded-for") {
        forwarded_for(out, head, rules);
    }
    if !met.proto && !ops.drops(b"x-forwarded-proto") {
        let scheme: &[u8] = match head.scheme {
            Scheme::Http => b"http",
            Scheme::Https => b"https",
        };
        out.field(b"x-forwarded-proto", scheme);
    }
    if !met.host && head.authority.len > 0 && !ops.drops(b"x-forwarded-host") {
        out.field(b"x-forwarded-host", head.slice(head.authority));
    }
    if let Some(trace) = &rules.trace {
        trace.write(&head.headers, |name, value| {
            if !ops.drops(name) {
                out.field(name, value);
            }
        });
    }
    if !met.request_id && !ops.drops(b"x-request-id") {
        out.field(b"x-request-id", rules.request_id);
    }
}

/// Appends to what a trusted peer or a layer says.
fn forwarded_for<F: Fields>(out: &mut F, head: &RequestHead, rules: &RequestRules<'_>) {
    if !head.headers.contains(b"x-forwarded-for") {
        return out.field(b"x-forwarded-for", rules.peer);
    }
    let mut hops = Vec::with_capacity(64);
    for value in head.headers.get_all(b"x-forwarded-for").filter(|v| !v.is_empty()) {
        hops.extend_from_slice(value);
        hops.extend_from_slice(b", ");
    }
    hops.extend_from_slice(rules.peer);
    out.field(b"x-forwarded-for", &hops);
}
