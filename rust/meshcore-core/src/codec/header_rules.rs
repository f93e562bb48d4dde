//! Which fields pass from one connection to the next.
//!
//! RFC 9110 §7.6.1: fields about one connection stop here, and so does whatever `Connection`
//! lists. But a peer must not use that list to strip what proxies rely on (CVE-2021-33197,
//! CVE-2024-45410), and a peer that is not trusted must not say what only proxies may say.

use smallvec::SmallVec;

use super::field::list;
use crate::head::Headers;

/// What kind of field a name is, seen by a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Passes unless `Connection` lists it.
    Plain,
    /// Passes even if `Connection` lists it.
    Kept,
    /// About one connection: stops here.
    Hop,
    /// Written anew from the head.
    Host,
    /// Written anew from the framing.
    ContentLength,
    /// Reduced to `trailers`.
    Te,
    /// Passes if it is an expectation that is still open.
    Expect,
    /// Passes, or is made.
    RequestId,
    /// `x-forwarded-for`: appended to or replaced.
    ForwardedFor,
    /// `x-forwarded-proto`: kept from trusted peers or replaced.
    ForwardedProto,
    /// `x-forwarded-host`: kept from trusted peers or replaced.
    ForwardedHost,
    /// Passes from trusted peers only: what else proxies tell each other, and every spelling of
    /// it that a gateway interface would read as the same variable.
    Guarded,
}

/// The class of a field name (lower case). A few comparisons: most names fall out on the first
/// byte or the length.
pub(super) fn classify(name: &[u8]) -> Class {
    match (name.first(), name.len()) {
        (Some(b'x'), 6..) => classify_x(name),
        (Some(b'h'), 4) if name == b"host" => Class::Host,
        (Some(b'c'), 14) if name == b"content-length" => Class::ContentLength,
        (Some(b'c'), 10) if name == b"connection" => Class::Hop,
        (Some(b'k'), 10) if name == b"keep-alive" => Class::Hop,
        // `Proxy` becomes HTTP_PROXY in a gateway interface (CVE-2016-5385).
        (Some(b'p'), _) if is_proxy_hop(name) => Class::Hop,
        (Some(b't'), _) => classify_t(name),
        (Some(b'u'), 7) if name == b"upgrade" => Class::Hop,
        (Some(b'h'), 14) if name == b"http2-settings" => Class::Hop,
        (Some(b'e'), 6) if name == b"expect" => Class::Expect,
        (Some(b'f'), 9) if name == b"forwarded" => Class::Guarded,
        (Some(b'v'), 3) if name == b"via" => Class::Kept,
        _ => Class::Plain,
    }
}

fn is_proxy_hop(name: &[u8]) -> bool {
    matches!(name, b"proxy" | b"proxy-connection" | b"proxy-authorization" | b"proxy-authenticate")
}

fn classify_t(name: &[u8]) -> Class {
    match name {
        b"te" => Class::Te,
        b"trailer" | b"transfer-encoding" => Class::Hop,
        b"traceparent" | b"tracestate" => Class::Kept,
        _ => Class::Plain,
    }
}

fn classify_x(name: &[u8]) -> Class {
    match name {
        b"x-request-id" => Class::RequestId,
        b"x-forwarded-for" => Class::ForwardedFor,
        b"x-forwarded-proto" => Class::ForwardedProto,
        b"x-forwarded-host" => Class::ForwardedHost,
        _ if begins(name, b"x-forwarded") || begins(name, b"x-mesh-") => Class::Guarded,
        _ => Class::Plain,
    }
}

/// Whether `name` begins with `prefix`, underscores read as hyphens.
fn begins(name: &[u8], prefix: &[u8]) -> bool {
    name.len() >= prefix.len()
        && name.iter().zip(prefix).all(|(&a, &b)| a == b || (a == b'_' && b == b'-'))
}

/// The names that a message's `Connection` fields list.
pub(super) struct Nominated<'a>(SmallVec<[&'a [u8]; 4]>);

impl<'a> Nominated<'a> {
    pub(super) fn of(headers: &'a Headers) -> Self {
        let mut names = SmallVec::new();
        for value in headers.get_all(b"connection") {
            names.extend(list(value).filter(|option| {
                !option.eq_ignore_ascii_case(b"close")
                    && !option.eq_ignore_ascii_case(b"keep-alive")
            }));
        }
        Self(names)
    }

    /// Whether `name` (lower case) is listed.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.0.iter().any(|listed| listed.eq_ignore_ascii_case(name))
    }
}

/// Whether a field may come behind the body (RFC 9110 §6.5.1: nothing that frames, routes,
/// authenticates or says how to read the content).
pub(super) fn may_be_trailer(name: &[u8]) -> bool {
    classify(name) == Class::Plain
        && !matches!(
            name,
            b"age"
                | b"authorization"
                | b"cache-control"
                | b"content-encoding"
                | b"content-range"
                | b"content-type"
                | b"cookie"
                | b"date"
                | b"expires"
                | b"location"
                | b"max-forwards"
                | b"pragma"
                | b"range"
                | b"retry-after"
                | b"set-cookie"
                | b"vary"
                | b"warning"
                | b"www-authenticate"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        for (name, class) in [
            ("accept", Class::Plain),
            ("x-a", Class::Plain),
            ("x-forwarder", Class::Plain),
            ("x-meshes", Class::Plain),
            ("proxy-status", Class::Plain),
            ("proxy", Class::Hop),
            ("te", Class::Te),
            ("x_forwarded_for", Class::Guarded),
            ("x-forwarded_for", Class::Guarded),
            ("x-forwarded-port", Class::Guarded),
            ("x-forwarded", Class::Guarded),
            ("x_mesh_identity", Class::Guarded),
            ("x-mesh-deadline-ms", Class::Guarded),
            ("forwarded", Class::Guarded),
            ("", Class::Plain),
        ] {
            assert_eq!(classify(name.as_bytes()), class, "{name}");
        }
    }

    #[test]
    fn what_connection_lists() {
        let mut headers = Headers::default();
        headers.push(b"connection", b"close, X-One,, keep-alive");
        headers.push(b"connection", b"two");
        let nominated = Nominated::of(&headers);
        assert_eq!(nominated.0.len(), 2);
        assert!(nominated.has(b"x-one") && nominated.has(b"two") && !nominated.has(b"close"));
    }
}
