//! Which fields pass from one connection to the next.
//!
//! RFC 9110 §7.6.1: fields about one connection stop here, and so does whatever `Connection`
//! lists. But a peer must not use that list to strip what proxies rely on (CVE-2021-33197,
//! CVE-2024-45410), and a peer that is not trusted must not say what only proxies may say.
//!
//! A received head is cleaned once, by [`clean`], before any other code looks at it: what a layer
//! or a route adds later no peer's words take away.

use super::field::{is_token_byte, list};
use super::header_class::{Class, classify, is_alike, is_mesh};
use crate::head::Headers;

/// What is known of a head that is cleaned.
#[derive(Clone, Copy)]
pub(super) struct Received {
    /// `Connection` lists something beside `close` and `keep-alive`.
    pub(super) nominates: bool,
    /// `upgrade` is kept although it steers the connection: of a request a route may match by it, and
    /// a 426 says with it what its client has to do (RFC 9110 §15.5.22).
    pub(super) upgrade: bool,
}

/// What is left of a request's fields.
#[derive(Clone, Copy, Default)]
pub(super) struct Left {
    /// Something that only a trusted peer may say.
    pub(super) vouched: bool,
    /// `via`.
    pub(super) via: bool,
    /// Credentials that authenticate a connection.
    pub(super) binds: bool,
}

/// Takes out of a request what was for us alone, and every spelling of what we write that is not
/// ours. O(bytes).
pub(super) fn clean_request(headers: &mut Headers, received: Received) -> Left {
    let (mut left, mut has_id) = (Left::default(), false);
    strip(headers, received, |class, _, value| match class {
        Class::Twin => false,
        // One, so that all who log it tell the same.
        Class::RequestId => is_request_id(value) && !std::mem::replace(&mut has_id, true),
        _ => {
            left.vouched |= class.is_vouched();
            left.via |= class == Class::Via;
            left.binds |= class == Class::Credentials && binds(value);
            true
        }
    });
    left
}

/// Whether credentials are of a scheme that authenticates the connection they come on, not the
/// request (RFC 4559 §6; NTLM does the same). Whatever follows the scheme: what an endpoint takes for
/// credentials is up to the endpoint.
fn binds(value: &[u8]) -> bool {
    let value = value.trim_ascii_start();
    let end = value.iter().position(|&b| !is_token_byte(b)).unwrap_or(value.len());
    let scheme = &value[..end];
    scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
}

/// Whether a client's id is kept: it is forwarded, echoed and logged all the way. 128 characters hold
/// two UUIDs, a `traceparent` or a SHA-512 in hexadecimal digits; blanks would part a log's words.
fn is_request_id(value: &[u8]) -> bool {
    (1..=128).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic)
}

/// The same of a response; `mesh`: the endpoint is a proxy of this kind, and may say so. Whether it
/// authenticates the connection that it came on.
pub(super) fn clean_response(headers: &mut Headers, received: Received, mesh: bool) -> bool {
    let mut authenticates = false;
    strip(headers, received, |class, name, value| {
        authenticates |= class == Class::Challenge && asks(name, value);
        mesh || !is_mesh(name)
    });
    authenticates
}

/// Whether an endpoint asks for credentials of a connection, goes on with them (a 200 with the last
/// token of Negotiate, too) or says that it remembers them. A list is cut at each comma, also within
/// quotes: a server that writes such a realm is taken for one that does.
fn asks(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"www-authenticate" => list(value).any(binds),
        _ => value.eq_ignore_ascii_case(b"true"),
    }
}

/// Takes out what only a trusted peer may say.
pub fn strip_vouched(headers: &mut Headers) {
    headers.retain(|name, _| !classify(name).is_vouched());
}

/// Takes every field called `gone` (lower case) out, in any spelling; says whether there was one.
pub fn take_out(headers: &mut Headers, gone: &[u8]) -> bool {
    let before = headers.len();
    headers.retain(|name, _| !is_alike(name, gone));
    headers.len() != before
}

/// `passes` decides by class, name and value.
fn strip(
    headers: &mut Headers,
    received: Received,
    mut passes: impl FnMut(Class, &[u8], &[u8]) -> bool,
) {
    let nominated = if received.nominates { Nominated::of(headers) } else { Nominated::default() };
    headers.retain(|name, value| match classify(name) {
        Class::Hop => received.upgrade && name == b"upgrade",
        Class::Plain | Class::Credentials | Class::Challenge if nominated.has(name) => false,
        class => passes(class, name, value),
    });
}

/// The names that a message's `Connection` fields list, in lower case.
#[derive(Default)]
struct Nominated(Vec<Vec<u8>>);

impl Nominated {
    fn of(headers: &Headers) -> Self {
        let listed = headers.get_all(b"connection").flat_map(list);
        let names = listed.map(<[u8]>::to_ascii_lowercase);
        Self(names.filter(|name| !matches!(&name[..], b"close" | b"keep-alive")).collect())
    }

    /// Whether `name` (lower case) is listed.
    fn has(&self, name: &[u8]) -> bool {
        self.0.iter().any(|listed| listed == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Received = Received { nominates: false, upgrade: false };

    fn names(headers: &Headers) -> Vec<&str> {
        headers.iter().map(|(name, _)| std::str::from_utf8(name).unwrap()).collect()
    }

    fn headers(fields: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::default();
        fields.iter().for_each(|(name, value)| headers.push(name.as_bytes(), value.as_bytes()));
        headers
    }

    #[test]
    fn what_connection_lists_is_taken_out_but_for_what_proxies_rely_on() {
        let mut got = headers(&[
            ("connection", "close, X-One,, keep-alive, via, x-request-id"),
            ("connection", "two"),
            ("x-one", "1"),
            ("two", "2"),
            ("via", "1.1 a"),
            ("x-request-id", "a"),
            ("three", "3"),
        ]);
        let received = Received { nominates: true, upgrade: false };
        let left = clean_request(&mut got, received);
        assert!(!left.vouched && left.via);
        assert_eq!(names(&got), ["via", "x-request-id", "three"]);
    }

    #[test]
    fn credentials_of_a_connection() {
        for (sent, bound) in [
            (&["NTLM TlRMTVNTUAAB"][..], true),
            (&["Negotiate YII="], true),
            (&["ntlm a"], true),
            (&["nEgOtIaTe a"], true),
            (&["NTLM"], true),
            (&["Negotiate"], true),
            (&["NTLM   a"], true),
            (&["NTLM\ta"], true),
            (&[" \tNTLM a"], true),
            (&["Negotiate:Kerberos a"], true),
            (&["NTLM,a"], true),
            (&["Basic a", "NTLM a"], true),
            (&["NTLM a", "Basic a"], true),
            (&["NTLMx a"], false),
            (&["xNTLM a"], false),
            (&["NTL"], false),
            (&["Negotiate2 a"], false),
            (&["Basic NTLM"], false),
            (&["Bearer negotiate"], false),
            (&[""], false),
            (&[], false),
        ] {
            let fields: Vec<_> = sent.iter().map(|value| ("authorization", *value)).collect();
            let mut got = headers(&fields);
            let left = clean_request(&mut got, NOTHING);
            assert_eq!(left.binds, bound, "{sent:?}");
            assert_eq!(got.len(), sent.len(), "they pass");
        }
        for name in ["proxy-authorization", "x-authorization", "www-authenticate"] {
            let mut got = headers(&[(name, "NTLM a")]);
            let left = clean_request(&mut got, NOTHING);
            assert!(!left.binds, "{name}");
        }
        let mut got = headers(&[("connection", "authorization"), ("authorization", "NTLM a")]);
        let left = clean_request(&mut got, Received { nominates: true, upgrade: false });
        assert!(got.is_empty() && !left.binds, "what goes no further binds nothing");
    }

    #[test]
    fn an_endpoint_shows_that_it_authenticates_connections() {
        for (name, value, shown) in [
            ("www-authenticate", "NTLM", true),
            ("www-authenticate", "NTLM TlRMTVNTUAACAAAA", true),
            ("www-authenticate", "Negotiate oYG1", true),
            ("www-authenticate", "Basic realm=\"a\", negotiate", true),
            ("www-authenticate", "Basic realm=\"NTLM\"", false),
            ("www-authenticate", "Bearer", false),
            ("www-authenticate", "", false),
            ("persistent-auth", "true", true),
            ("Persistent-Auth", "True", true),
            ("persistent-auth", "false", false),
            ("authorization", "NTLM a", false),
            // A client that asks so never has an answer: `proxy-authorization` goes no further.
            ("proxy-authenticate", "NTLM", false),
        ] {
            let mut got = headers(&[("date", "now"), (name, value), ("a", "b")]);
            assert_eq!(clean_response(&mut got, NOTHING, false), shown, "{name}: {value}");
        }
        let mut got = headers(&[("connection", "persistent-auth"), ("persistent-auth", "true")]);
        assert!(
            !clean_response(&mut got, Received { nominates: true, ..NOTHING }, false),
            "the client does not hear of it"
        );
    }

    #[test]
    fn a_request_id_is_one_word_of_bounded_length() {
        let most = "x".repeat(128);
        for (sent, kept) in [
            (vec!["a"], vec!["a"]),
            (vec![&most[..]], vec![&most[..]]),
            (vec!["!~\"%<>"], vec!["!~\"%<>"]),
            (vec![&"x".repeat(129)], vec![]),
            (vec![""], vec![]),
            (vec!["a b"], vec![]),
            (vec!["a\tb"], vec![]),
            (vec!["é"], vec![]),
            (vec!["a", "b"], vec!["a"]),
            (vec!["", "b", ""], vec!["b"]),
        ] {
            let fields: Vec<_> = sent.iter().map(|id| ("x-request-id", *id)).collect();
            let mut got = headers(&fields);
            clean_request(&mut got, NOTHING);
            let found: Vec<_> =
                got.iter().map(|(_, id)| std::str::from_utf8(id).unwrap()).collect();
            assert_eq!(found, kept);
        }
    }

    #[test]
    fn an_upgrade_is_kept_for_routes_alone() {
        for (upgrade, kept) in [(true, vec!["upgrade"]), (false, vec![])] {
            let mut got = headers(&[("connection", "upgrade"), ("upgrade", "a"), ("te", "b")]);
            clean_request(&mut got, Received { nominates: true, upgrade });
            assert_eq!(names(&got), [kept, vec!["te"]].concat());
        }
    }

    #[test]
    fn what_is_vouched_for_and_its_twins() {
        let all = [
            ("x-forwarded-for", "1"),
            ("x_forwarded_for", "2"),
            ("x-mesh-identity", "3"),
            ("x-mesh_identity", "4"),
            ("forwarded", "5"),
            ("a_b", "6"),
        ];
        let mut got = headers(&all);
        let left = clean_request(&mut got, NOTHING);
        assert!(left.vouched && !left.via);
        assert_eq!(names(&got), ["x-forwarded-for", "x-mesh-identity", "forwarded", "a_b"]);
        strip_vouched(&mut got);
        assert_eq!(names(&got), ["a_b"]);
        assert!(take_out(&mut got, b"a-b") && !take_out(&mut got, b"a-b"));
        assert!(got.is_empty());
        got = headers(&[("a-b-c", "1"), ("a_b-c", "2"), ("a_b_c", "3"), ("a.b_c", "4")]);
        assert!(take_out(&mut got, b"a_b_c"));
        assert_eq!(names(&got), ["a.b_c"]);
        for (mesh, left) in [(true, 6), (false, 4)] {
            let mut got = headers(&all);
            clean_response(&mut got, NOTHING, mesh);
            assert_eq!(got.len(), left);
        }
    }
}
