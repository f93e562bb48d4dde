//! Requests: from the crate's to a head, and from a head to the crate's (RFC 9113 §8.3.1).

use http::uri::{Parts, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version as HttpVersion};

use super::super::encode::Fields;
use super::super::encode_request::{RequestRules, declared_length, made_fields, received_fields};
use super::super::error::CodecError;
use super::super::framing::{Role, facts};
use super::super::h1_server::ServerRules;
use super::super::limits::Limits;
use super::super::parse::RequestBlock;
use super::super::request_head::{body_length, locate_host, place};
use super::super::target::{self, Allowed, Target};
use super::fields::{FieldList, receive};
use crate::error::Reason;
use crate::head::{BodyLength, Headers, RequestHead, Span, Version};

/// A head from what the crate has validated: pseudo fields, lower case, nothing about a connection.
///
/// # Errors
/// As for a request of HTTP/1.1: what may not pass, with the status to answer it with.
pub(super) fn head<T>(
    request: &Request<T>,
    ended: bool,
    limits: &Limits,
    rules: &ServerRules,
) -> Result<RequestHead, CodecError> {
    let uri = request.uri();
    let protocol = request.extensions().get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str);
    let plain_connect = request.method() == Method::CONNECT && protocol.is_none();
    let path =
        if plain_connect { "" } else { uri.path_and_query().map_or("", PathAndQuery::as_str) };
    if path.len() > limits.target {
        return Err(CodecError::new(Reason::UriTooLong, "target too long"));
    }
    let authority = uri.authority().map_or("", |a| a.as_str());
    let (block, mut parsed) = block(request, path, authority);
    receive(request.headers(), &mut parsed.headers, limits.headers)?;
    let facts = facts(&parsed.headers, Version::Http2, Role::Request)?;
    let body = match body_length(&facts, limits)? {
        BodyLength::Empty if !ended => BodyLength::Streamed,
        length => length,
    };
    let method = request.method().as_str();
    let target = split(method, path, plain_connect, rules)?;
    let given = (!authority.is_empty()).then(|| Span {
        start: parsed.target.start + parsed.target.len,
        len: authority.len() as u32,
    });
    let (authority, host) = locate_host(&block, &mut parsed, given, &facts)?;
    if plain_connect && authority.len == host.len {
        return Err(CodecError::bad("CONNECT without a port"));
    }
    let place = place(&mut parsed, path.as_bytes(), &target, &rules.paths)?;
    Ok(RequestHead {
        version: Version::Http2,
        method: parsed.method,
        scheme: rules.scheme,
        authority,
        host,
        path: place.path,
        match_path: place.match_path,
        query: place.query,
        body,
        keep_alive: true,
        expect_continue: facts.expect_continue && body != BodyLength::Empty,
        upgrade: protocol.map(|p| parsed.headers.append_lower(p.as_bytes())),
        headers: parsed.headers,
    })
}

/// Method, target and authority, one behind the other, as the functions of HTTP/1.1 read them.
fn block<T>(request: &Request<T>, path: &str, authority: &str) -> (Vec<u8>, RequestBlock) {
    let method = request.method().as_str();
    let block = [method.as_bytes(), path.as_bytes(), authority.as_bytes()].concat();
    let mut headers = Headers::with_capacity(block.len() + 64 * request.headers().len() + 64);
    headers.append(&block);
    let method = Span { start: 0, len: method.len() as u32 };
    let target = Span { start: method.len, len: path.len() as u32 };
    (block, RequestBlock { version: Version::Http2, method, target, headers })
}

fn split(
    method: &str,
    path: &str,
    plain_connect: bool,
    rules: &ServerRules,
) -> Result<Target, CodecError> {
    let allowed = Allowed { connect: rules.connect, trace: rules.trace };
    if plain_connect {
        return target::split(b"CONNECT", b"", allowed);
    }
    // An extended CONNECT is asked for by path; a target in any other form is for HTTP/1.1 only.
    let method = if method == "CONNECT" { "GET" } else { method };
    match path.as_bytes() {
        [b'/', ..] | b"*" => target::split(method.as_bytes(), path.as_bytes(), allowed),
        _ => Err(CodecError::bad("invalid :path")),
    }
}

/// The request to send, and whether a protocol goes with it.
///
/// # Errors
/// What cannot be said in HTTP/2, such as an authority that is none.
pub(super) fn outgoing(
    head: &RequestHead,
    rules: &RequestRules<'_>,
    scheme: crate::head::Scheme,
) -> Result<Request<()>, CodecError> {
    let mut fields = FieldList::with_capacity(head.headers.len() + 8);
    let met = received_fields(&mut fields, head, rules);
    if rules.upgrade.is_some() {
        fields.0.remove("sec-websocket-key");
    }
    // A length that nobody declared may still be known; it is not the proxy's to say.
    if let Some(n) = declared_length(head, rules.framing, &met).filter(|_| met.content_length) {
        fields.content_length(n);
    }
    if met.te_trailers {
        fields.field(b"te", b"trailers");
    }
    made_fields(&mut fields, head, rules, &met);
    fields.changes(rules.ops);
    let unsayable = |_| CodecError::new(Reason::BadRequest, "not to be said in HTTP/2");
    let protocol = rules.upgrade.filter(|p| *p != b"connect");
    let mut request = Request::new(());
    *request.version_mut() = HttpVersion::HTTP_2;
    let method = if protocol.is_some() { b"CONNECT" } else { head.slice(head.method) };
    *request.method_mut() = Method::from_bytes(method).map_err(|_| unsayable(()))?;
    *request.uri_mut() = uri(head, rules, scheme, protocol.is_some())?;
    *request.headers_mut() = fields.0;
    if let Some(protocol) = protocol.and_then(|p| std::str::from_utf8(p).ok()) {
        request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
    }
    Ok(request)
}

fn uri(
    head: &RequestHead,
    rules: &RequestRules<'_>,
    scheme: crate::head::Scheme,
    extended: bool,
) -> Result<Uri, CodecError> {
    let unsayable = CodecError::new(Reason::BadRequest, "not to be said in HTTP/2");
    let authority = rules.authority.unwrap_or_else(|| head.slice(head.authority));
    let mut parts = Parts::default();
    parts.authority = Some(authority.try_into().map_err(|_| unsayable)?);
    if extended || head.slice(head.method) != b"CONNECT" {
        parts.scheme = Some(match scheme {
            crate::head::Scheme::Http => Scheme::HTTP,
            crate::head::Scheme::Https => Scheme::HTTPS,
        });
        let mut path = rules.path.unwrap_or_else(|| head.slice(head.path)).to_vec();
        if let Some(query) = head.query {
            path.push(b'?');
            path.extend_from_slice(head.slice(query));
        }
        parts.path_and_query = Some(PathAndQuery::from_maybe_shared(path).map_err(|_| unsayable)?);
    }
    Uri::from_parts(parts).map_err(|_| unsayable)
}
