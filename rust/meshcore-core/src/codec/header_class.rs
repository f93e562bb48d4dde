//! What kind of field a name is, seen by a proxy.

/// What kind of field a name is, seen by a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Passes unless `Connection` lists it.
    Plain,
    /// Passes even if `Connection` lists it.
    Kept,
    /// The same: who passed it on.
    Via,
    /// A name that a proxy writes, with an underscore for a hyphen: stops here.
    Twin,
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
    /// Passes from trusted peers only: what else proxies tell each other.
    Guarded,
    /// `authorization`: passes unless `Connection` lists it.
    Credentials,
    /// What an endpoint asks credentials with, or says of them: the same.
    Challenge,
}

impl Class {
    /// Whether only proxies say it.
    pub(super) const fn is_vouched(self) -> bool {
        matches!(
            self,
            Self::ForwardedFor | Self::ForwardedProto | Self::ForwardedHost | Self::Guarded
        )
    }
}

/// The class of a field name (lower case). A few comparisons: most names fall out on the first
/// byte or the length.
pub(super) fn classify(name: &[u8]) -> Class {
    match (name.first(), name.len()) {
        (Some(b'x'), 6..) => classify_x(name),
        (Some(b'a'), 13) if name == b"authorization" => Class::Credentials,
        (Some(b'h'), 4) if name == b"host" => Class::Host,
        (Some(b'c'), 14) if name == b"content-length" => Class::ContentLength,
        (Some(b'c'), 10) if name == b"connection" => Class::Hop,
        (Some(b'k'), 10) if name == b"keep-alive" => Class::Hop,
        (Some(b'w'), 16) if name == b"www-authenticate" => Class::Challenge,
        (Some(b'p'), 15) if name == b"persistent-auth" => Class::Challenge,
        // `Proxy` becomes HTTP_PROXY in a gateway interface (CVE-2016-5385).
        (Some(b'p'), _) if begins(name, b"proxy") => classify_proxy(name),
        (Some(b't'), _) => classify_t(name),
        (Some(b'u'), 7) if name == b"upgrade" => Class::Hop,
        (Some(b'h'), 14) if name == b"http2-settings" => Class::Hop,
        (Some(b'e'), 6) if name == b"expect" => Class::Expect,
        (Some(b'f'), 9) if name == b"forwarded" => Class::Guarded,
        (Some(b'g'), 12) if name == b"grpc_timeout" => Class::Twin,
        (Some(b'm'), 12) if name == b"max-forwards" => Class::Kept,
        (Some(b'm'), 12) if name == b"max_forwards" => Class::Twin,
        // What is taken out or written anew must not come in by its other spelling.
        (Some(b'c'), 14) if name == b"content_length" => Class::Twin,
        (Some(b'k'), 10) if name == b"keep_alive" => Class::Twin,
        (Some(b'h'), 14) if name == b"http2_settings" => Class::Twin,
        (Some(b'v'), 3) if name == b"via" => Class::Via,
        _ => Class::Plain,
    }
}

fn classify_proxy(name: &[u8]) -> Class {
    const HOPS: [&[u8]; 4] =
        [b"proxy", b"proxy-connection", b"proxy-authorization", b"proxy-authenticate"];
    if HOPS.contains(&name) {
        Class::Hop
    } else if HOPS.iter().any(|hop| is_twin(name, hop)) {
        Class::Twin
    } else {
        Class::Plain
    }
}

fn classify_t(name: &[u8]) -> Class {
    match name {
        b"te" => Class::Te,
        b"trailer" | b"transfer-encoding" => Class::Hop,
        b"transfer_encoding" => Class::Twin,
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
        // Listeners may find the client in it.
        b"x-real-ip" => Class::Kept,
        _ if begins(name, b"x-request-id") && name.len() == 12 => Class::Twin,
        _ if begins(name, b"x-forwarded") || is_mesh(name) => match memchr::memchr(b'_', name) {
            Some(_) => Class::Twin,
            None => Class::Guarded,
        },
        _ => Class::Plain,
    }
}

/// What meshcore says of itself, in any spelling.
pub(super) fn is_mesh(name: &[u8]) -> bool {
    begins(name, b"x-mesh-")
}

/// Whether `name` begins with `prefix`, underscores read as hyphens.
fn begins(name: &[u8], prefix: &[u8]) -> bool {
    name.len() >= prefix.len()
        && name.iter().zip(prefix).all(|(&a, &b)| a == b || (a == b'_' && b == b'-'))
}

/// Whether `name` is `plain` but for underscores. A gateway interface behind us (CGI, WSGI) reads
/// both spellings as one variable.
pub(super) fn is_twin(name: &[u8], plain: &[u8]) -> bool {
    name.len() == plain.len() && name != plain && begins(name, plain)
}

/// Whether a gateway interface reads `name` and `other` as one variable, or they are the same.
pub(crate) fn is_alike(name: &[u8], other: &[u8]) -> bool {
    let mark = |byte: u8| matches!(byte, b'-' | b'_');
    let same = |(&a, &b): (&u8, &u8)| a == b || (mark(a) && mark(b));
    name.len() == other.len() && name.iter().zip(other).all(same)
}

/// Whether a field (lower case) frames a message, names its host or steers its connection: the
/// codec alone writes those.
#[must_use]
pub fn is_codecs_own(name: &[u8]) -> bool {
    matches!(
        classify(name),
        Class::Hop | Class::Host | Class::ContentLength | Class::Te | Class::Expect
    )
}

/// Why no rule can go by a field of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// The host is said in other ways too, and read from all of them.
    Host,
    /// It is about one connection: taken out first.
    Connection,
    /// Another spelling of what a proxy writes or takes out: taken out first.
    Twin,
}

/// Whether rules cannot go by a field (lower case), and why. `upgrade` is there while a protocol is
/// asked for.
#[must_use]
pub fn unseen(name: &[u8]) -> Option<Unseen> {
    match classify(name) {
        Class::Host => Some(Unseen::Host),
        Class::Hop if name != b"upgrade" => Some(Unseen::Connection),
        Class::Twin => Some(Unseen::Twin),
        _ => None,
    }
}

/// Whether a field (lower case) may come behind the body (RFC 9110 §6.5.1: nothing that frames,
/// routes, authenticates or says how to read the content).
#[must_use]
pub fn may_be_trailer(name: &[u8]) -> bool {
    classify(name) == Class::Plain
        && !matches!(
            name,
            b"age"
                | b"cache-control"
                | b"content-encoding"
                | b"content-range"
                | b"content-type"
                | b"cookie"
                | b"date"
                | b"expires"
                | b"location"
                | b"pragma"
                | b"range"
                | b"retry-after"
                | b"set-cookie"
                | b"vary"
                | b"warning"
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
            ("x_forwarded_for", Class::Twin),
            ("x-forwarded_for", Class::Twin),
            ("x_request_id", Class::Twin),
            ("x-request_id", Class::Twin),
            ("x-request-id", Class::RequestId),
            ("x-real-ip", Class::Kept),
            ("x-real-ips", Class::Plain),
            ("x_request_id2", Class::Plain),
            ("grpc_timeout", Class::Twin),
            ("max_forwards", Class::Twin),
            ("content_length", Class::Twin),
            ("transfer_encoding", Class::Twin),
            ("keep_alive", Class::Twin),
            ("http2_settings", Class::Twin),
            ("proxy_connection", Class::Twin),
            ("proxy_authorization", Class::Twin),
            ("proxy-authorization", Class::Hop),
            ("proxy_status", Class::Plain),
            ("x-forwarded-port", Class::Guarded),
            ("x-forwarded", Class::Guarded),
            ("x_mesh_identity", Class::Twin),
            ("x-mesh-deadline-ms", Class::Guarded),
            ("forwarded", Class::Guarded),
            ("authorization", Class::Credentials),
            ("authorizations", Class::Plain),
            ("www-authenticate", Class::Challenge),
            ("persistent-auth", Class::Challenge),
            ("proxy-authenticate", Class::Hop),
            ("", Class::Plain),
        ] {
            assert_eq!(classify(name.as_bytes()), class, "{name}");
        }
    }
}
