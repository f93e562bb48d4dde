//! Lines of the access log, from outside.

#![allow(clippy::unwrap_used, missing_docs)]

use std::borrow::Cow;

use meshcore_core::telemetry::AccessLine;
use meshcore_core::telemetry::trace::TraceId;

/// Most bytes of what `allow` is told.
const MOST: usize = 192;
/// The end of what was cut.
const CUT: &str = "…";

const LINE: AccessLine<'_> = AccessLine {
    unix_ms: 1_700_000_000_250,
    listener: "edge",
    client: "192.0.2.1",
    identity: "",
    allow: &[],
    method: b"GET",
    host: b"a.test",
    path: b"/x",
    query: Some(b"y=\"1\n2\""),
    protocol: "1.1",
    status: 503,
    grpc_status: None,
    reason: "breaker_open",
    by: "proxy",
    phase: "layers",
    detail: "",
    route: "api",
    endpoint: "10.0.0.1:80",
    attempts: 1,
    took_ns: 1_234_567,
    request_id: b"id\r\nforged \x7f \xff \xc2\x9b",
    trace_id: None,
    head_bytes: None,
};

#[test]
fn json_is_one_object_a_line() {
    let line = AccessLine { grpc_status: Some(14), ..LINE };
    let text = line.to_text(true);
    assert_eq!(text.matches('\n').count(), 1);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["time"], "2023-11-14T22:13:20.250Z");
    assert_eq!(value["target"], "/x?y=\"1\n2\"");
    assert_eq!(value["grpc_status"], 14);
    assert_eq!(value["duration_ms"], 1.235);
    assert_eq!(value["request_id"], "id\r\nforged \u{7f} \u{fffd} \u{9b}");
    assert_eq!(value["endpoint"], "10.0.0.1:80");
}

#[test]
fn text_is_one_line_whatever_anybody_sends() {
    let text = LINE.to_text(false);
    assert_eq!(
        text,
        "2023-11-14T22:13:20.250Z edge 192.0.2.1 \"GET a.test/x?y=\\\"1\\n2\\\" HTTP/1.1\" 503 \
         - breaker_open proxy layers api 10.0.0.1:80 1 1.235ms \
         \"id\\r\\nforged \\u007f \u{fffd} \\u009b\" \"\"\n"
    );
}

#[test]
fn what_was_no_request_has_no_target() {
    let line = AccessLine { method: b"", host: b"", path: b"", query: None, ..LINE };
    assert!(line.to_text(false).contains(" 192.0.2.1 \"-\" 503 - breaker_open "));
}

#[test]
fn what_is_not_known_of_a_refused_request_is_left_out() {
    let line = AccessLine {
        protocol: "",
        host: b"",
        path: b"/x",
        query: None,
        request_id: b"",
        head_bytes: Some(7),
        ..LINE
    };
    let text = line.to_text(false);
    assert!(text.contains(" 192.0.2.1 \"GET /x\" 503 - "), "{text}");
    assert!(text.ends_with(" 1.235ms \"\" \"\" head_bytes=7\n"), "{text}");
    let value: serde_json::Value = serde_json::from_str(&line.to_text(true)).unwrap();
    assert_eq!((&value["protocol"], &value["head_bytes"]), (&"".into(), &7.into()));
}

#[test]
fn who_has_a_certificate_is_named() {
    let line = AccessLine { identity: "CN=a b", head_bytes: Some(7), ..LINE };
    let text = line.to_text(false);
    assert!(text.ends_with("\" identity=\"CN=a b\" head_bytes=7\n"), "{text}");
    let value: serde_json::Value = serde_json::from_str(&line.to_text(true)).unwrap();
    assert_eq!(value["identity"], "CN=a b");
    assert!(!LINE.to_text(true).contains("identity"));
}

#[test]
fn the_rules_that_let_it_pass_are_named() {
    let rules = ["web", "shadow:none"].map(Cow::from);
    let line = AccessLine { allow: &rules, head_bytes: Some(7), ..LINE };
    let text = line.to_text(false);
    assert!(text.ends_with("\"\" allow=web,shadow:none head_bytes=7\n"), "{text}");
    let value: serde_json::Value = serde_json::from_str(&line.to_text(true)).unwrap();
    assert_eq!(value["allow"], "web,shadow:none");
    assert!(!LINE.to_text(true).contains("allow"));
}

/// What `allow` is told of layers that found this, and whether it was cut.
fn told(rules: &[String]) -> (String, bool) {
    let rules: Vec<Cow<'_, str>> = rules.iter().map(|rule| rule.as_str().into()).collect();
    let line = AccessLine { allow: &rules, ..LINE };
    let value: serde_json::Value = serde_json::from_str(&line.to_text(true)).unwrap();
    let told = value["allow"].as_str().unwrap().to_owned();
    assert!(line.to_text(false).contains(&format!(" allow={told}")));
    (told, value["cut"] == serde_json::json!(["allow"]))
}

#[test]
fn a_long_name_of_a_rule_hides_no_other_layer() {
    let name = "n".repeat(255);
    let (shadowed, none) = (format!("shadow:{name}"), "none".to_owned());
    for (rules, cut) in [
        (vec![name.clone(), "shadow:none".to_owned()], true),
        (vec![shadowed.clone(), none.clone()], true),
        (vec!["n".repeat(100), "n".repeat(80), none.clone()], false),
        ([vec![shadowed.clone(); 14], vec![none.clone()]].concat(), true),
        (vec!["shadow:none".to_owned(); 15], false),
    ] {
        let (told, was_cut) = told(&rules);
        let parts: Vec<&str> = told.split(',').collect();
        assert_eq!((parts.len(), was_cut), (rules.len(), cut), "{told}");
        assert!(told.len() <= MOST, "{told}");
        for (part, rule) in parts.iter().zip(&rules) {
            let begun = part.strip_suffix(CUT).is_some_and(|front| rule.starts_with(front));
            assert!(part == rule || begun && rule.len() > 11, "{part} {rule}");
            assert_eq!(part.starts_with("shadow:"), rule.starts_with("shadow:"), "{part}");
        }
    }
    let (told, cut) = told(&vec!["shadow:none".to_owned(); 16]);
    assert!(cut && told.ends_with("shadow:none,…") && told.len() <= MOST, "{told}");
    // What a short one leaves, a long one has.
    let (told, _) = self::told(&[name.clone(), name, none]);
    assert_eq!(told.len(), MOST - CUT.len() - 1, "{told}");
}

#[test]
fn a_line_fits_into_a_pipes_buffer_whatever_anybody_sends() {
    let letters = "x".repeat(70_000);
    let name = "n".repeat(255);
    let rules = vec![Cow::from(&letters); 40];
    for long in ["x", "\"", "\u{1}", "\u{9b}", "é", "日", "😀"] {
        let long = long.repeat(70_000).into_bytes();
        for long in [&long[..], &[0xff; 70_000], letters.as_bytes()] {
            let line = AccessLine {
                listener: &name,
                client: "2001:db8:1111:2222:3333:4444:5555:6666",
                method: long,
                host: long,
                path: long,
                query: Some(long),
                grpc_status: Some(14),
                reason: "unknown_transfer_coding",
                detail: &letters,
                route: &name,
                endpoint: &name,
                took_ns: u64::MAX / 2,
                request_id: long,
                identity: &letters,
                allow: &rules,
                trace_id: Some(TraceId::of(u128::MAX)),
                head_bytes: Some(usize::MAX),
                ..LINE
            };
            let json = line.to_text(true);
            assert!(json.len() <= 4096, "{}", json.len());
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            let cut = ["method", "host", "target", "detail", "request_id", "identity", "allow"];
            assert_eq!(value["cut"], serde_json::json!(cut));
            for name in cut {
                assert!(value[name].as_str().unwrap().ends_with('…'), "{name}");
            }
            assert!(value["target"].as_str().unwrap().contains("…?"));
            let text = line.to_text(false);
            assert!(text.len() <= 4096, "{}", text.len());
            assert!(text.contains("…\" trace_id=fff"), "{text}");
            assert!(text.contains("fff identity=\"xxx"), "{text}");
            assert!(text.contains("…\" allow=xxx"), "{text}");
            assert!(text.contains("… head_bytes=18446744073709551615 cut="), "{text}");
            assert!(
                text.ends_with(" cut=method,host,target,request_id,detail,identity,allow\n"),
                "{text}"
            );
        }
    }
}

#[test]
fn what_just_fits_is_not_cut() {
    let written = |path: &str| {
        let line = AccessLine { path: path.as_bytes(), query: None, ..LINE };
        let value: serde_json::Value = serde_json::from_str(&line.to_text(true)).unwrap();
        (value["target"].as_str().unwrap().to_owned(), !value["cut"].is_null())
    };
    for (unit, times) in [("x", 936), ("é", 468), ("\"", 468), ("\n", 468)] {
        assert_eq!(written(&unit.repeat(times)), (unit.repeat(times), false));
        let (cut, told) = written(&unit.repeat(times + 1));
        assert!(told && cut.ends_with('…'));
        assert!(unit.repeat(times).starts_with(&cut[..cut.len() - '…'.len_utf8()]));
    }
    // A character that the bound parts is left out whole.
    let parted = format!("x{}", "日".repeat(320));
    assert_eq!(written(&parted).0, format!("x{}…", "日".repeat(310)));
}

#[test]
fn who_writes_the_mark_has_cut_nothing() {
    let line = AccessLine { path: "/a…".as_bytes(), request_id: b"cut=target", ..LINE };
    assert!(!line.to_text(true).contains("\"cut\""));
    assert!(line.to_text(false).ends_with("\" \"\"\n"));
}

#[test]
fn a_line_leads_to_its_trace() {
    let trace_id = Some(TraceId::of(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736));
    let line = AccessLine { trace_id, head_bytes: Some(7), ..LINE };
    let value: serde_json::Value = serde_json::from_str(&line.to_text(true)).unwrap();
    assert_eq!(value["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    let text = line.to_text(false);
    assert!(text.ends_with(" trace_id=4bf92f3577b34da6a3ce929d0e0e4736 head_bytes=7\n"), "{text}");
}
