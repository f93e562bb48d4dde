//! What goes out: the exact bytes, and that they read back as what went in.

use meshcore_core::calendar::HttpDate;
use meshcore_core::codec::{
    ClientEvent, H1Client, H1Server, HeaderOps, Limits, Outgoing, OutgoingReply, RequestRules,
    ResponseRules, ServerEvent, Tunnel, encode_informational, encode_reply, encode_request,
    encode_response, strip_vouched,
};
use meshcore_core::head::{BodyLength, RequestHead, ResponseHead, TunnelKind, Version};
use meshcore_core::snapshot::FieldOps;
use proptest::prelude::*;

use crate::record::{fetch, serve, text};

const ID: &[u8] = b"0190163d8694739b9ea2acd60ad8d7e1";

fn request(bytes: &str) -> RequestHead {
    match H1Server::new(Limits::default()).receive(bytes.as_bytes()) {
        Ok(Some(ServerEvent::Head { head, .. })) => head,
        other => panic!("{other:?}"),
    }
}

fn response(bytes: &str, head: bool) -> ResponseHead {
    let mut client = H1Client::new(Limits::default());
    client.sent(head, false);
    match client.receive(bytes.as_bytes()) {
        Ok(Some(ClientEvent::Head { head, .. }) | Some(ClientEvent::Informational(head))) => head,
        other => panic!("{other:?}"),
    }
}

fn rules<'a>(head: &RequestHead, ops: &'a HeaderOps) -> RequestRules<'a> {
    RequestRules {
        via: b"1.1 meshcore",
        peer: b"10.0.0.9",
        request_id: ID,
        ops,
        path: None,
        authority: None,
        framing: head.body,
        tunnel: None,
        left: None,
        max_forwards: None,
        as_written: false,
        trace: None,
    }
}

fn forwarded(bytes: &str, trusted: bool) -> String {
    let mut head = request(bytes);
    if !trusted {
        strip_vouched(&mut head.headers);
    }
    let ops = HeaderOps::default();
    let mut out = Vec::new();
    encode_request(&mut out, &head, &rules(&head, &ops));
    text(&out)
}

#[test]
fn a_request_from_a_stranger() {
    let got = forwarded(
        "GET /a/./b?c HTTP/1.1\r\nHost: Ex.com\r\nAccept: */*\r\nConnection: keep-alive, X-Drop, Host, Traceparent, X-Forwarded-For\r\nX-Drop: 1\r\nTraceparent: 00-1\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX_Forwarded_For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Mesh-Identity: root\r\nProxy: evil\r\nProxy-Connection: close\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nTE: gzip\r\nTrailer: x\r\nVia: 1.0 a\r\n\r\n",
        false,
    );
    assert_eq!(
        got,
        "GET /a/b?c HTTP/1.1\r\nhost: ex.com\r\naccept: */*\r\ntraceparent: 00-1\r\nvia: 1.0 a\r\n\
         via: 1.1 meshcore\r\nx-forwarded-for: 10.0.0.9\r\nx-forwarded-proto: http\r\n\
         x-forwarded-host: ex.com\r\nx-request-id: 0190163d8694739b9ea2acd60ad8d7e1\r\n\r\n"
    );
}

#[test]
fn a_request_from_a_trusted_proxy() {
    let got = forwarded(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nX-Forwarded-For: 3.3.3.3\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nForwarded: for=1.1.1.1\r\nX-Mesh-Deadline-Ms: 5\r\nX-Request-Id: mine\r\n\r\n",
        true,
    );
    assert_eq!(
        got,
        "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-proto: https\r\nx-forwarded-host: b\r\n\
         forwarded: for=1.1.1.1\r\nx-mesh-deadline-ms: 5\r\nx-request-id: mine\r\n\
         via: 1.1 meshcore\r\nx-forwarded-for: 1.1.1.1, 2.2.2.2, 3.3.3.3, 10.0.0.9\r\n\r\n"
    );
}

#[test]
fn framing_is_written_anew() {
    let framing = |bytes: &str| {
        let out = forwarded(bytes, false);
        let keep = |l: &&str| l.starts_with("content-length") || l.starts_with("transfer-encoding");
        out.lines().filter(keep).map(str::to_owned).collect::<Vec<_>>()
    };
    let with = |line: &str| format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(framing(&with("GET /")), Vec::<String>::new());
    assert_eq!(framing(&with("POST /")), ["content-length: 0"]);
    let get = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 000\r\n\r\n";
    assert_eq!(framing(get), ["content-length: 0"]);
    let put = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n\r\n";
    assert_eq!(framing(put), ["content-length: 7"]);
    let chunked = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n";
    assert_eq!(framing(chunked), ["transfer-encoding: chunked"]);
}

#[test]
fn te_trailers_and_open_expectations_pass() {
    let got = forwarded(
        "PUT / HTTP/1.1\r\nHost: a\r\nTE: gzip, Trailers\r\nConnection: TE\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
        false,
    );
    assert!(got.contains("\r\nte: trailers\r\nconnection: te\r\n"));
    assert!(got.contains("\r\nexpect: 100-continue\r\n"));
    let bodiless = forwarded("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", false);
    assert!(!bodiless.contains("expect"));
}

#[test]
fn a_route_rewrites_and_overrides_what_we_add() {
    let head = request("GET /v1/x?q HTTP/1.1\r\nHost: a\r\nCookie: c\r\nX-T: 1\r\n\r\n");
    let own = |s: &str| s.to_owned();
    let ops = HeaderOps::compile(&FieldOps {
        remove: vec![own("Cookie"), own("via"), own("X-Forwarded-Host"), own("x-request-id")],
        set: vec![(own("X-T"), own("2")), (own("X-Forwarded-For"), own("none"))],
        add: vec![(own("X-T"), own("3"))],
    })
    .unwrap();
    let mut rules = rules(&head, &ops);
    rules.path = Some(b"/x");
    rules.authority = Some(b"api.internal:8080");
    let mut out = Vec::new();
    encode_request(&mut out, &head, &rules);
    assert_eq!(
        text(&out),
        "GET /x?q HTTP/1.1\r\nhost: api.internal:8080\r\nx-forwarded-proto: http\r\nx-t: 2\r\n\
         x-forwarded-for: none\r\nx-t: 3\r\n\r\n"
    );
}

#[test]
fn a_forwarded_request_reads_the_same_and_again() {
    for bytes in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://A:80/x//y?z HTTP/1.1\r\nHost: a:80\r\nAccept: q\r\n\r\n",
        "POST /p%2d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /old HTTP/1.0\r\nHost: a\r\n\r\n",
    ] {
        let first = forwarded(bytes, true);
        let head = request(&first);
        let before = request(bytes);
        for (a, b) in [
            (head.path, before.path),
            (head.raw_path, before.forward_path),
            (head.forward_path, before.forward_path),
            (head.authority, before.authority),
            (head.method, before.method),
        ] {
            assert_eq!(head.slice(a), before.slice(b), "{bytes}");
        }
        assert_eq!(head.body, before.body);
        assert_eq!(serve(first.as_bytes()).error, None);
    }
}

fn relayed(bytes: &str, version: Version, head_request: bool) -> (String, Outgoing) {
    let head = response(bytes, head_request);
    let ops = HeaderOps::default();
    let mut out = Vec::new();
    let framing = head.body;
    let keep_alive = true;
    let rules = ResponseRules {
        version,
        head_request,
        keep_alive,
        framing,
        ops: &ops,
        tunnel: None,
        date: None,
    };
    let outgoing = encode_response(&mut out, &head, &rules);
    (text(&out), outgoing)
}

#[test]
fn a_response_is_relayed() {
    let (got, outgoing) = relayed(
        "HTTP/1.1 200 Fine\r\nContent-Length: 3\r\nServer: s\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 9\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
        Version::Http11,
        false,
    );
    assert_eq!(
        got,
        "HTTP/1.1 200 OK\r\nserver: s\r\nset-cookie: a\r\nset-cookie: b\r\ncontent-length: 3\r\n\r\n"
    );
    assert_eq!(outgoing, Outgoing { chunked: false, has_body: true, keep_alive: true });
}

#[test]
fn an_unknown_length_is_chunked_or_closes() {
    for bytes in
        ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
    {
        let (got, outgoing) = relayed(bytes, Version::Http11, false);
        assert_eq!(got, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!(outgoing, Outgoing { chunked: true, has_body: true, keep_alive: true });
        let (got, outgoing) = relayed(bytes, Version::Http10, false);
        assert_eq!(got, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
        assert_eq!(outgoing, Outgoing { chunked: false, has_body: true, keep_alive: false });
    }
    let (got, _) = relayed("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Version::Http10, false);
    assert_eq!(got, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n");
}

#[test]
fn a_426_says_what_its_client_shall_change_to() {
    let sent = "HTTP/1.1 426 x\r\nupgrade: a, b/1\r\nconnection: upgrade, x\r\nx: 1\r\n\
                upgrade: c\r\ncontent-length: 0\r\n\r\n";
    let asks = "upgrade: a, b/1\r\nupgrade: c\r\nconnection: upgrade\r\n";
    let (got, _) = relayed(sent, Version::Http11, false);
    let begins = "HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\n";
    assert_eq!(got, format!("{begins}{asks}\r\n"));
    // RFC 9110 §7.8: no client of HTTP/1.0 changes.
    let (got, _) = relayed(sent, Version::Http10, false);
    assert_eq!(got, format!("{begins}connection: keep-alive\r\n\r\n"));
    for other in ["200", "400", "503"] {
        let (got, _) = relayed(&sent.replace("426", other), Version::Http11, false);
        assert!(!got.contains("upgrade:"), "{got}");
    }
}

#[test]
fn responses_without_a_body() {
    let cases = [
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", false, ""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", false, "content-length: 7\r\n"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", true, "content-length: 7\r\n"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true, ""),
    ];
    for (bytes, head_request, framing) in cases {
        let (got, outgoing) = relayed(bytes, Version::Http11, head_request);
        assert!(got.ends_with(&format!("\r\n{framing}\r\n")), "{got}");
        assert!(!outgoing.has_body && !outgoing.chunked && outgoing.keep_alive);
        assert_eq!(got.matches(": ").count(), usize::from(!framing.is_empty()));
    }
}

#[test]
fn interim_responses_are_not_for_http_1_0() {
    let head = response("HTTP/1.1 103 x\r\nLink: a\r\nConnection: close\r\n\r\n", false);
    let mut out = Vec::new();
    encode_informational(&mut out, &head, Version::Http10, &HeaderOps::default());
    assert!(out.is_empty());
    encode_informational(&mut out, &head, Version::Http11, &HeaderOps::default());
    assert_eq!(text(&out), "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n");
}

#[test]
fn a_local_answer_cannot_be_split() {
    let mut answer = OutgoingReply {
        status: 302,
        headers: &[(b"location", b"/a\r\nset-cookie: x"), (b"x-mesh-reason", b"redirect")],
        body: b"{}",
        version: Version::Http11,
        head_request: false,
        keep_alive: false,
        date: None,
    };
    let mut out = Vec::new();
    encode_reply(&mut out, &answer);
    assert_eq!(
        text(&out),
        "HTTP/1.1 302 Found\r\nx-mesh-reason: redirect\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
    );
    assert_eq!(fetch(&out).messages[0].body, b"{}");
    out.clear();
    answer.head_request = true;
    encode_reply(&mut out, &answer);
    assert!(text(&out).ends_with("content-length: 2\r\nconnection: close\r\n\r\n"));
    out.clear();
    answer.status = 204;
    encode_reply(&mut out, &answer);
    assert!(!text(&out).contains("content-length"));
}

/// RFC 9110 §6.6.1: what has no date gets that of its arrival, in a final response alone.
#[test]
fn dates() {
    const DATE: &str = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let date = Some(HttpDate::new(784_111_777));
    let changes = |ops: FieldOps| HeaderOps::compile(&ops).unwrap();
    let none = HeaderOps::default();
    let removed = changes(FieldOps { remove: vec!["Date".into()], ..FieldOps::default() });
    let set = changes(FieldOps { set: vec![("Date".into(), "x".into())], ..FieldOps::default() });
    for (bytes, ops, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n", &none, DATE),
        ("HTTP/1.1 304 OK\r\n\r\n", &none, DATE),
        ("HTTP/1.1 503 OK\r\n\r\n", &none, DATE),
        ("HTTP/1.1 200 OK\r\nDate: then\r\n\r\n", &none, "date: then\r\n"),
        ("HTTP/1.1 200 OK\r\nDate: then\r\n\r\n", &removed, ""),
        ("HTTP/1.1 200 OK\r\n\r\n", &removed, ""),
        ("HTTP/1.1 200 OK\r\n\r\n", &set, "date: x\r\n"),
    ] {
        let head = response(bytes, false);
        let rules = |tunnel| ResponseRules {
            version: Version::Http11,
            head_request: false,
            keep_alive: true,
            framing: head.body,
            ops,
            tunnel,
            date,
        };
        let written = |tunnel| {
            let mut out = Vec::new();
            encode_response(&mut out, &head, &rules(tunnel));
            text(&out)
        };
        let dates = |text: &str| text.matches("date:").count();
        let connect = Tunnel { kind: TunnelKind::Connect, accept: None };
        for got in [written(None), written(Some(connect))] {
            assert!(got.contains(expected), "{got}");
            assert_eq!(dates(&got), usize::from(!expected.is_empty()), "{got}");
        }
        let upgrade = Tunnel { kind: TunnelKind::Upgrade(b"a"), accept: None };
        assert!(!written(Some(upgrade)).contains(DATE), "a 101 is no final response");
    }
    for (headers, expected) in [
        (&[][..], DATE),
        (&[(&b"Date"[..], &b"then"[..])], "Date: then\r\n"),
        (&[(b"date", b"a\nb")], DATE),
    ] {
        let answer = OutgoingReply {
            status: 404,
            headers,
            body: b"",
            version: Version::Http11,
            head_request: false,
            keep_alive: true,
            date,
        };
        let mut out = Vec::new();
        encode_reply(&mut out, &answer);
        assert_eq!(
            text(&out),
            format!("HTTP/1.1 404 Not Found\r\n{expected}content-length: 0\r\n\r\n")
        );
    }
}

#[test]
fn a_replayed_body_gets_its_length() {
    let head = request("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let ops = HeaderOps::default();
    let mut rules = rules(&head, &ops);
    rules.framing = BodyLength::Known(12);
    let mut out = Vec::new();
    encode_request(&mut out, &head, &rules);
    assert!(text(&out).contains("\r\ncontent-length: 12\r\n"));
    assert!(!text(&out).contains("transfer-encoding"));
}

/// A name in some case, and a value.
fn written() -> impl Strategy<Value = (String, String)> {
    let known =
        "host|te|connection|content-length|transfer-encoding|via|x-forwarded-for|x-request-id";
    let cased = |name: String| {
        let len = name.len();
        (Just(name), prop::collection::vec(any::<bool>(), len)).prop_map(|(name, upper)| {
            let cased = |(c, up): (char, bool)| if up { c.to_ascii_uppercase() } else { c };
            name.chars().zip(upper).map(cased).collect::<String>()
        })
    };
    let own = "[a-z][a-z0-9-]{0,8}".prop_filter("none of ours", move |name| !known.contains(name));
    (own.prop_flat_map(cased), "[A-Za-z0-9]{0,6}")
}

proptest! {
    #[test]
    fn names_as_written_are_all_that_differs(
        fields in prop::collection::vec(written(), 0..12),
        chunked: bool,
        removed in 0..12_usize,
    ) {
        let framing = if chunked { "Transfer-ENCODING: chunked" } else { "CONTENT-length: 5" };
        let ours = if chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 5" };
        let lines: String = fields.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        let bytes = format!("POST / HTTP/1.1\r\nHOST: a\r\n{framing}\r\n{lines}\r\n");
        let limits = Limits { keep_case: true, ..Limits::default() };
        let Ok(Some(ServerEvent::Head { mut head, .. })) =
            H1Server::new(limits).receive(bytes.as_bytes()) else { panic!("{bytes}") };
        let gone = fields.get(removed).map(|(name, _)| name.to_ascii_lowercase());
        if let Some(gone) = &gone {
            head.headers.remove(gone.as_bytes());
        }
        let ops = HeaderOps::default();
        let (mut plain, mut cased) = (Vec::new(), Vec::new());
        encode_request(&mut plain, &head, &rules(&head, &ops));
        encode_request(&mut cased, &head, &RequestRules { as_written: true, ..rules(&head, &ops) });
        prop_assert_eq!(cased.to_ascii_lowercase(), plain.to_ascii_lowercase());
        let (plain, cased) = (text(&plain), text(&cased));
        prop_assert!(cased.contains("\r\nHost: a\r\n") && cased.contains(ours));
        let stays = |name: &str| Some(name.to_ascii_lowercase()) != gone;
        let sent = fields.iter().filter(|(name, _)| stays(name));
        let expected: String = sent.map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        prop_assert!(cased.contains(&expected), "{} in {}", expected, cased);
        prop_assert!(!plain.contains("Host"));
    }
}
