//! Who a request comes from, by what proxies in front of us wrote: one table of what they write, what
//! clients make up, and what is neither.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use meshcore_core::codec::{H1Server, Limits, ServerEvent};
use meshcore_core::exchange::{Arrival, Compiler, Engine, Peer};
use meshcore_core::head::RequestHead;
use meshcore_core::segment::{Segment, SegmentConfig};
use meshcore_core::time::Nanos;
use serde_json::{Value, json};

const T0: Nanos = Nanos::from_secs(1_000);
const PEER: &str = "10.0.0.9";
const NETWORKS: [&str; 4] = ["10.0.0.0/8", "192.0.2.7", "2001:db8:ffff::/48", "fe80::/10"];

fn trusted(header: &str) -> Value {
    json!({"trusted": {"networks": NETWORKS, "header": header}})
}

struct Mesh {
    engine: Engine,
    _compiler: Compiler,
}

impl Mesh {
    fn new(listener: &Value) -> Self {
        let config = SegmentConfig { max_bytes: 4 << 20, worker_slots: 1 };
        let mut compiler = Compiler::new(Segment::anonymous(config).unwrap(), 0, [1, 2]);
        let delta = json!({"config_version": 1, "listeners": {"edge": listener}});
        let engine = Engine::new(1);
        let delta = serde_json::from_value(delta).unwrap();
        engine.swap(compiler.apply(&engine.compiled(), delta, T0).unwrap());
        Self { engine, _compiler: compiler }
    }

    /// The client's address, and the head as those behind us see it.
    fn ask(&self, peer: &str, fields: &[(&str, &str)]) -> (String, RequestHead) {
        let peer = Peer::new(peer.parse().ok(), [1, 2]);
        let mut head = head(fields);
        let compiled = self.engine.compiled();
        let client = compiled.clean(0, &peer, &mut head);
        let arrival = Arrival { head: &head, now: T0 };
        let (mut ticket, _) = self.engine.begin(&compiled, 0, true, client, &arrival);
        let address = ticket.client().text(&peer).into_owned();
        ticket.finish(T0, 0);
        (address, head)
    }
}

fn head(fields: &[(&str, &str)]) -> RequestHead {
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let text = format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n");
    match H1Server::new(Limits::default()).receive(text.as_bytes()) {
        Ok(Some(ServerEvent::Head { head, .. })) => head,
        other => panic!("{other:?}"),
    }
}

/// Name, lines of the field, client.
type Case = (&'static str, &'static [&'static str], &'static str);

/// Name, lines of `x-forwarded-for`, client; asked by [`PEER`], which is trusted.
const FORWARDED_FOR: &[Case] = &[
    ("no field", &[], PEER),
    ("an empty field", &[""], PEER),
    ("blanks", &[" \t "], PEER),
    ("one address", &["1.1.1.1"], "1.1.1.1"),
    ("one IPv6 address", &["2001:db8::1"], "2001:db8::1"),
    ("IPv6 in its long form", &["2001:0DB8:0:0:0:0:0:1"], "2001:db8::1"),
    ("the rightmost of two clients", &["1.1.1.1, 2.2.2.2"], "2.2.2.2"),
    ("no blanks", &["1.1.1.1,2.2.2.2"], "2.2.2.2"),
    ("tabs and blanks", &["1.1.1.1 ,\t 2.2.2.2 \t"], "2.2.2.2"),
    ("a trusted proxy behind the client", &["1.1.1.1, 10.1.2.3"], "1.1.1.1"),
    ("two of them", &["9.9.9.9, 1.1.1.1, 10.1.2.3, 10.3.2.1"], "1.1.1.1"),
    ("a single trusted address", &["1.1.1.1, 192.0.2.7"], "1.1.1.1"),
    ("its neighbour", &["1.1.1.1, 192.0.2.8"], "192.0.2.8"),
    ("a trusted IPv6 proxy", &["1.1.1.1, 2001:db8:ffff::5"], "1.1.1.1"),
    ("a trusted one left of the client", &["10.6.6.6, 1.1.1.1, 10.1.2.3"], "1.1.1.1"),
    ("all are trusted: the first", &["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
    ("two lines", &["1.1.1.1", "2.2.2.2"], "2.2.2.2"),
    ("the client in the line before", &["9.9.9.9, 1.1.1.1", "10.1.2.3"], "1.1.1.1"),
    ("three lines", &["9.9.9.9", "1.1.1.1", "10.1.2.3, 10.3.2.1"], "1.1.1.1"),
    ("an empty line at the end", &["1.1.1.1", ""], PEER),
    ("an empty line at the start", &["", "1.1.1.1"], "1.1.1.1"),
    ("a comma at the end", &["1.1.1.1,"], PEER),
    ("an empty entry behind a proxy", &["1.1.1.1, , 10.1.2.3"], "10.1.2.3"),
    ("an empty entry left of the client", &["6.6.6.6, , 1.1.1.1"], "1.1.1.1"),
    ("only commas", &[",,,"], PEER),
    ("garbage", &["nope"], PEER),
    ("garbage left of the client", &["nope, 1.1.1.1, 10.1.2.3"], "1.1.1.1"),
    ("garbage between proxies hides nobody", &["6.6.6.6, nope, 10.1.2.3"], "10.1.2.3"),
    ("garbage at the end", &["6.6.6.6, nope"], PEER),
    ("unknown", &["6.6.6.6, unknown, 10.1.2.3"], "10.1.2.3"),
    ("a hidden name", &["6.6.6.6, _secret"], PEER),
    ("IPv4 with a port", &["1.1.1.1:80"], "1.1.1.1"),
    ("with port 0", &["1.1.1.1:0"], "1.1.1.1"),
    ("a trusted proxy with a port", &["1.1.1.1:4711, 10.1.2.3:443"], "1.1.1.1"),
    ("IPv6 in brackets", &["[2001:db8::1]"], "2001:db8::1"),
    ("IPv6 with a port", &["[2001:db8::1]:4711"], "2001:db8::1"),
    ("a trusted IPv6 proxy with a port", &["1.1.1.1, [2001:db8:ffff::1]:9"], "1.1.1.1"),
    ("a port too large", &["6.6.6.6:65536"], PEER),
    ("a port with a sign", &["6.6.6.6:+80"], PEER),
    ("no port behind the colon", &["6.6.6.6:"], PEER),
    ("a port of letters", &["6.6.6.6:http"], PEER),
    ("two ports", &["6.6.6.6:80:80"], PEER),
    ("something behind the bracket", &["[2001:db8::1]x"], PEER),
    ("no closing bracket", &["[2001:db8::1"], PEER),
    ("no opening bracket", &["2001:db8::1]"], PEER),
    ("IPv4 in brackets", &["[6.6.6.6]"], PEER),
    ("empty brackets", &["[]"], PEER),
    ("a quoted address", &["\"6.6.6.6\""], PEER),
    ("IPv4 in IPv6", &["::ffff:1.1.1.1"], "1.1.1.1"),
    ("the same in hexadecimal digits", &["::ffff:101:101"], "1.1.1.1"),
    ("with brackets and port", &["[::ffff:1.1.1.1]:80"], "1.1.1.1"),
    ("a trusted proxy in IPv6", &["1.1.1.1, ::ffff:10.1.2.3"], "1.1.1.1"),
    ("an IPv4-compatible address is another", &["1.1.1.1, ::10.1.2.3"], "::a01:203"),
    ("a zone", &["fe80::1%eth0, 2001:db8::2%eth1"], "2001:db8::2"),
    ("a trusted proxy with a zone", &["1.1.1.1, fe80::1%eth0"], "1.1.1.1"),
    ("an empty zone", &["2001:db8::2%"], PEER),
    ("IPv4 with a zone", &["6.6.6.6%eth0"], PEER),
    ("0.0.0.0", &["0.0.0.0"], PEER),
    ("::", &["6.6.6.6, ::"], PEER),
    ("too few octets", &["6.6.6"], PEER),
    ("too many octets", &["6.6.6.6.6"], PEER),
    ("an octet too large", &["6.6.6.256"], PEER),
    ("an octet with a zero before", &["6.6.6.06"], PEER),
    ("a number", &["101058054"], PEER),
    ("a network", &["6.6.6.0/24"], PEER),
    ("a name", &["a.example"], PEER),
    ("a semicolon for a comma", &["6.6.6.6; 10.1.2.3"], PEER),
    ("a blank for a comma", &["6.6.6.6 10.1.2.3"], PEER),
    ("bytes that are no UTF-8", &["6.6.6.6, \u{e9}"], PEER),
    ("loopback, where it is not trusted", &["1.1.1.1, 127.0.0.1"], "127.0.0.1"),
];

const LONG_HOST: &str = concat!(
    "for=1.1.1.1;host=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""
);
const LONG: &str = concat!(
    "for=6.6.6.6, for=\"2001:db8::1%",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\""
);

/// The same of `forwarded`.
const FORWARDED: &[Case] = &[
    ("no field", &[], PEER),
    ("one element", &["for=1.1.1.1"], "1.1.1.1"),
    ("in any case", &["FOR=1.1.1.1"], "1.1.1.1"),
    ("quoted", &["for=\"1.1.1.1\""], "1.1.1.1"),
    ("a port", &["for=\"1.1.1.1:4711\""], "1.1.1.1"),
    ("a port without quotes", &["for=1.1.1.1:4711"], "1.1.1.1"),
    ("IPv6", &["for=\"[2001:db8:cafe::17]\""], "2001:db8:cafe::17"),
    ("IPv6 with a port", &["for=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
    ("IPv6 without brackets", &["for=\"2001:db8:cafe::17\""], "2001:db8:cafe::17"),
    ("a hidden port", &["for=\"1.1.1.1:_x.9\""], "1.1.1.1"),
    ("an empty hidden port", &["for=\"6.6.6.6:_\""], PEER),
    ("IPv4 in IPv6", &["for=\"[::ffff:1.1.1.1]\""], "1.1.1.1"),
    ("further parameters", &["by=3.3.3.3;for=1.1.1.1;proto=http;host=a"], "1.1.1.1"),
    ("blanks at semicolons", &["for=1.1.1.1 ; proto=https"], "1.1.1.1"),
    ("empty parameters", &[";for=1.1.1.1;;proto=http;"], PEER),
    ("a semicolon at the end", &["for=1.1.1.1;proto=http;"], "1.1.1.1"),
    ("a quoted host with a comma", &["for=1.1.1.1;host=\"a,b;c\""], "1.1.1.1"),
    ("a quoted host with a quote", &["for=1.1.1.1;host=\"a\\\",for=6.6.6.6\""], "1.1.1.1"),
    ("escaped digits", &["for=\"1.1.1\\.1\""], "1.1.1.1"),
    ("the rightmost", &["for=9.9.9.9, for=1.1.1.1"], "1.1.1.1"),
    ("a trusted proxy", &["for=1.1.1.1, for=10.1.2.3"], "1.1.1.1"),
    ("without blanks", &["for=1.1.1.1,for=10.1.2.3;by=10.0.0.1"], "1.1.1.1"),
    ("two lines", &["for=1.1.1.1", "for=\"10.1.2.3:80\""], "1.1.1.1"),
    ("all are trusted", &["for=10.1.1.1, for=10.2.2.2"], "10.1.1.1"),
    ("unknown", &["for=6.6.6.6, for=unknown, for=10.1.2.3"], "10.1.2.3"),
    ("a hidden name", &["for=6.6.6.6, for=_hidden"], PEER),
    ("a hidden name in quotes", &["for=6.6.6.6, for=\"_hidden:80\""], PEER),
    ("an element without for", &["for=6.6.6.6, proto=http, for=10.1.2.3"], "10.1.2.3"),
    ("for twice", &["for=6.6.6.6;for=6.6.6.7"], PEER),
    ("an empty value", &["for="], PEER),
    ("an empty quoted value", &["for=\"\""], PEER),
    ("no value", &["for"], PEER),
    ("a bare address", &["6.6.6.6"], PEER),
    ("blanks at the equals sign", &["for = 6.6.6.6"], PEER),
    ("something behind the quotes", &["for=\"6.6.6.6\"x"], PEER),
    ("a quote that a client left open", &["for=\"6.6.6.6, for=1.1.1.1"], "1.1.1.1"),
    ("with a proxy behind", &["for=\"6.6.6.6, for=1.1.1.1, for=10.1.2.3"], "1.1.1.1"),
    ("a proxy's quotes behind it", &["for=\"6.6.6.6, for=\"[2001:db8::1]:80\""], "2001:db8::1"),
    ("an escaped quote left open", &["for=\"6.6.6.6\\\", for=1.1.1.1"], "1.1.1.1"),
    ("a client's open quote alone", &["for=\"6.6.6.6"], PEER),
    ("a backslash at the end", &["for=\"6.6.6.6\\"], PEER),
    ("an empty element", &["for=6.6.6.6, , for=10.1.2.3"], "10.1.2.3"),
    ("longer than any address", &[LONG], PEER),
    ("a long host", &[LONG_HOST], "1.1.1.1"),
    ("0.0.0.0", &["for=6.6.6.6, for=0.0.0.0"], PEER),
];

/// The same of `x-real-ip`.
const REAL_IP: &[Case] = &[
    ("no field", &[], PEER),
    ("an address", &["1.1.1.1"], "1.1.1.1"),
    ("one that is trusted", &["10.1.2.3"], "10.1.2.3"),
    ("IPv6", &["2001:db8::1"], "2001:db8::1"),
    ("a port", &["[2001:db8::1]:80"], "2001:db8::1"),
    ("IPv4 in IPv6", &["::ffff:1.1.1.1"], "1.1.1.1"),
    ("two fields", &["6.6.6.6", "1.1.1.1"], PEER),
    ("a list", &["6.6.6.6, 1.1.1.1"], PEER),
    ("garbage", &["nope"], PEER),
    ("nothing", &[""], PEER),
];

const TABLES: [(&str, &[Case]); 3] =
    [("x-forwarded-for", FORWARDED_FOR), ("forwarded", FORWARDED), ("x-real-ip", REAL_IP)];

#[test]
fn the_client_is_the_last_address_that_is_not_of_a_trusted_proxy() {
    for (header, table) in TABLES {
        let mesh = Mesh::new(&trusted(header));
        for (name, lines, expected) in table {
            let fields: Vec<_> = lines.iter().map(|line| (header, *line)).collect();
            assert_eq!(mesh.ask(PEER, &fields).0, *expected, "{header}: {name}");
        }
    }
}

#[test]
fn a_peer_that_is_not_trusted_speaks_for_itself_alone() {
    for (header, table) in TABLES {
        let mesh = Mesh::new(&trusted(header));
        for (name, lines, _) in table {
            let fields: Vec<_> = lines.iter().map(|line| (header, *line)).collect();
            for peer in ["3.3.3.3", "192.0.2.8", "2001:db8::1", "unix"] {
                let (client, head) = mesh.ask(peer, &fields);
                let own = if peer == "unix" { "unknown" } else { peer };
                assert_eq!(client, own, "{header}: {name}");
                let left = head.headers.get(header.as_bytes());
                assert!(
                    left.is_none_or(|value| String::from_utf8_lossy(value).contains(own)),
                    "{header}: {name}: {left:?}"
                );
            }
        }
    }
}

#[test]
fn a_peer_is_trusted_in_either_form_of_its_address() {
    let mesh = Mesh::new(&trusted("x-forwarded-for"));
    for peer in ["10.0.0.9", "::ffff:10.0.0.9", "2001:db8:ffff::1", "192.0.2.7"] {
        assert_eq!(mesh.ask(peer, &[("x-forwarded-for", "1.1.1.1")]).0, "1.1.1.1");
    }
}

#[test]
fn a_unix_socket_is_trusted_by_its_own_word() {
    for header in ["x-forwarded-for", "forwarded", "x-real-ip"] {
        let listener = json!({"trusted": {"networks": ["unix"], "header": header}});
        let mesh = Mesh::new(&listener);
        let said = if header == "forwarded" { "for=1.1.1.1" } else { "1.1.1.1" };
        assert_eq!(mesh.ask("unix", &[(header, said)]).0, "1.1.1.1");
        assert_eq!(mesh.ask("127.0.0.1", &[(header, said)]).0, "127.0.0.1");
    }
}

#[test]
fn so_many_hops_from_the_end() {
    for (hops, lines, expected) in [
        (0, &["1.1.1.1, 2.2.2.2"][..], PEER),
        (1, &["1.1.1.1, 2.2.2.2"], "2.2.2.2"),
        (2, &["1.1.1.1, 2.2.2.2"], "1.1.1.1"),
        (3, &["9.9.9.9", "1.1.1.1,2.2.2.2"], "9.9.9.9"),
        (2, &["1.1.1.1"], PEER),
        (1, &[], PEER),
        (1, &["unknown"], PEER),
        (1, &["1.1.1.1:x"], PEER),
        (1, &["1.1.1.1, "], PEER),
        (1, &["[2001:db8::1]:80"], "2001:db8::1"),
        (1, &["::ffff:1.1.1.1"], "1.1.1.1"),
    ] {
        let mesh = Mesh::new(&json!({"trusted_hops": hops}));
        let fields: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        assert_eq!(mesh.ask(PEER, &fields).0, expected, "{hops} {lines:?}");
    }
}

fn fields(head: &RequestHead) -> Vec<String> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let fields = head.headers.iter().filter(|(name, _)| *name != b"host");
    fields.map(|(name, value)| format!("{}: {}", text(name), text(value))).collect()
}

/// What a client that knows every name would say.
const SAID: [(&str, &str); 8] = [
    ("x-forwarded-for", "6.6.6.6"),
    ("forwarded", "for=6.6.6.6"),
    ("x-real-ip", "6.6.6.6"),
    ("x_real_ip", "6.6.6.7"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-user", "root"),
    ("x-mesh-deadline-ms", "5"),
    ("x-plain", "1"),
];

#[test]
fn those_behind_us_are_told_the_same_address() {
    let passed = ["x-forwarded-proto: https", "x-forwarded-user: root", "x-mesh-deadline-ms: 5"];
    for (header, of_trusted, of_others) in [
        (
            "x-forwarded-for",
            vec!["x-forwarded-for: 6.6.6.6", "forwarded: for=6.6.6.6", "x-real-ip: 6.6.6.6"],
            vec![],
        ),
        (
            "forwarded",
            vec![
                "forwarded: for=6.6.6.6",
                "x-real-ip: 6.6.6.6",
                "x-forwarded-for: 6.6.6.6",
                "forwarded: for=10.0.0.9;proto=http",
            ],
            vec!["forwarded: for=\"[2001:db8::1]\";proto=http"],
        ),
        (
            "x-real-ip",
            vec!["forwarded: for=6.6.6.6", "x-forwarded-for: 6.6.6.6", "x-real-ip: 6.6.6.6"],
            vec!["x-real-ip: 2001:db8::1"],
        ),
    ] {
        let mesh = Mesh::new(&trusted(header));
        let sorted = |mut lines: Vec<String>| {
            lines.sort();
            lines
        };
        let expected = |own: Vec<&str>, passed: &[&str]| {
            let all = own.iter().chain(passed).chain(&["x-plain: 1"]);
            sorted(all.map(|line| (*line).to_owned()).collect())
        };
        let (client, head) = mesh.ask(PEER, &SAID);
        assert_eq!(client, "6.6.6.6");
        assert_eq!(sorted(fields(&head)), expected(of_trusted, &passed), "{header}");
        let (client, head) = mesh.ask("2001:db8::1", &SAID);
        assert_eq!(client, "2001:db8::1");
        assert_eq!(sorted(fields(&head)), expected(of_others, &[]), "{header}");
    }
}

#[test]
fn what_the_header_does_not_say_is_said_of_the_peer() {
    let mesh = Mesh::new(&trusted("x-real-ip"));
    let (_, head) = mesh.ask(PEER, &[("x-real-ip", "nope"), ("x-forwarded-for", "6.6.6.6")]);
    assert_eq!(fields(&head), ["x-real-ip: 10.0.0.9"]);
    let (_, head) = mesh.ask("unix", &[("x-real-ip", "6.6.6.6")]);
    assert!(fields(&head).is_empty());
}

#[test]
fn a_client_cannot_have_it_taken_away() {
    for (header, said) in
        [("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=1.1.1.1"), ("x-real-ip", "1.1.1.1")]
    {
        let mesh = Mesh::new(&trusted(header));
        // RFC 9110 §7.6.1, through a proxy that passes the field on.
        let fields = [("connection", header), (header, said)];
        assert_eq!(mesh.ask(PEER, &fields).0, "1.1.1.1", "{header}");
    }
}

#[test]
fn a_network_that_is_none_is_told() {
    let config = SegmentConfig { max_bytes: 4 << 20, worker_slots: 1 };
    let mut compiler = Compiler::new(Segment::anonymous(config).unwrap(), 0, [1, 2]);
    let listener = json!({"trusted": {"networks": ["10.0.0.0/8", "ten"]}});
    let delta = json!({"config_version": 1, "listeners": {"edge": listener}});
    let delta = serde_json::from_value(delta).unwrap();
    let errors = compiler.apply(&Engine::new(1).compiled(), delta, T0).unwrap_err();
    assert!(errors[0].to_string().contains("ten is no network"), "{errors:?}");
}
