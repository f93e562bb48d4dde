//! The route table and the route map by example: hosts, errors, changes, deny rules.
#![allow(clippy::unwrap_used)] // helpers of tests may panic as tests do

use std::sync::atomic::{AtomicBool, Ordering};

use meshcore_core::head::{BodyLength, Headers, RequestHead, Scheme, Version};
use meshcore_core::path::{PathError, PathRules, normalize};
use meshcore_core::routing::{Change, ListenerId, Matched, RouteMap, RouteProblem, RouteTable};
use meshcore_core::snapshot::{PathMatch, Route};

fn route(name: &str, path: PathMatch) -> Route {
    let action = r#"{"respond": {"status": 200}}"#;
    let mut route: Route =
        serde_json::from_str(&format!(r#"{{"name": "{name}", "action": {action}}}"#)).unwrap();
    route.path = path;
    route
}

fn exact(path: &str) -> PathMatch {
    PathMatch::Exact(path.to_owned())
}

fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(path.to_owned())
}

/// A table of hosts, each with routes by name and path; the payload is the name.
fn table(hosts: &[(&str, &[(&'static str, PathMatch)])]) -> RouteTable<&'static str> {
    let set = hosts.iter().map(|(host, routes)| {
        let routes = routes.iter().map(|(name, path)| (route(name, path.clone()), *name));
        ((*host).to_owned(), routes.collect())
    });
    RouteTable::default().with_hosts(set, &[]).unwrap()
}

/// A head as a codec makes it; `None` if the strict rules refuse the path.
fn head(host: &str, raw: &str) -> Option<RequestHead> {
    let mut out = Vec::new();
    let found = normalize(raw.as_bytes(), &PathRules::default(), &mut out).ok()?;
    let mut headers = Headers::default();
    let host = headers.append(host.as_bytes());
    let path = headers.append(found.path.of(raw.as_bytes(), &out));
    Some(RequestHead {
        version: Version::Http11,
        method: headers.append(b"GET"),
        scheme: Scheme::Http,
        authority: host,
        host,
        path,
        forward_path: headers.append(found.forward.of(raw.as_bytes(), &out)),
        raw_path: headers.append(raw.as_bytes()),
        oddities: found.seen,
        query: None,
        body: BodyLength::Empty,
        keep_alive: true,
        expect_continue: false,
        upgrade: None,
        vouched: false,
        via: false,
        binds: false,
        headers,
    })
}

fn find(table: &RouteTable<&'static str>, host: &str, path: &str) -> Option<&'static str> {
    let listener = ListenerId::new("edge", false);
    table.find(listener, &head(host, path).unwrap()).map(|found| *found.payload)
}

#[test]
fn a_deny_rule_cannot_be_walked_around() {
    // CVE-2019-9901, CVE-2021-29492: the rule and the service must read the same place.
    let table = table(&[("*", &[("deny", prefix("/admin")), ("rest", prefix("/"))])]);
    for raw in [
        "/admin",
        "/admin/",
        "/admin/x",
        "//admin",
        "///admin//x",
        "/./admin",
        "/%61dmin",
        "/public/../admin",
        "/a/%2e%2e/admin",
        "/a/b/../../admin",
        "/a/.%2e/admin/x",
        "/../admin",
        "/%2e/admin",
        "/a/..//admin",
    ] {
        assert_eq!(find(&table, "a.com", raw), Some("deny"), "{raw}");
    }
    for raw in [
        "/a%2Fadmin",
        "/a/..%5cadmin",
        "/a\\..\\admin",
        "/a/..;/admin",
        "/a//../admin",
        "/admin#x",
        "/x#/admin",
        "/admin%00",
        "/admin%",
        "/a%2f..%2fadmin",
        "/;/..;x/admin",
    ] {
        assert!(head("a.com", raw).is_none(), "{raw}");
    }
    for raw in ["/administrator", "/ADMIN", "/x/admin", "/%2561dmin"] {
        assert_eq!(find(&table, "a.com", raw), Some("rest"), "{raw}");
    }
}

#[test]
fn the_most_specific_host_owns_the_request() {
    let any = |name| [(name, PathMatch::Any)];
    let table = table(&[
        ("Example.COM", &any("exact")),
        ("*.example.com", &any("suffix")),
        ("*.b.example.com", &any("longer suffix")),
        ("example.*", &any("prefix")),
        ("[::1]", &any("address")),
        ("closed.org", &[("one page", exact("/page"))]),
        ("*", &any("any")),
    ]);
    for (host, expected) in [
        ("example.com", "exact"),
        ("example.com.", "any"), // the codec leaves the root's dot out
        ("a.example.com", "suffix"),
        ("a.a.example.com", "suffix"),
        ("b.example.com", "suffix"),
        ("a.b.example.com", "longer suffix"),
        ("example.org", "prefix"),
        ("example.co.uk", "prefix"),
        ("[::1]", "address"),
        ("badexample.com", "any"),
        (".example.com", "any"),
        ("example.", "any"),
        ("", "any"),
    ] {
        assert_eq!(find(&table, host, "/"), Some(expected), "{host}");
    }
    // No fall-through to `*`.
    assert_eq!(find(&table, "closed.org", "/page"), Some("one page"));
    assert_eq!(find(&table, "closed.org", "/"), None);
}

#[test]
fn a_host_without_routes_for_the_listener_does_not_hide_a_wildcard() {
    let mut inner = route("inner", PathMatch::Any);
    inner.listeners = vec!["inside".to_owned()];
    let set = [
        ("a.com".to_owned(), vec![(inner, "inner")]),
        ("*".to_owned(), vec![(route("any", PathMatch::Any), "any")]),
    ];
    let table = RouteTable::default().with_hosts(set, &[]).unwrap();
    let head = head("a.com", "/").unwrap();
    let found = |listener| *table.find(ListenerId::new(listener, false), &head).unwrap().payload;
    assert_eq!(found("inside"), "inner");
    assert_eq!(found("edge"), "any");
}

#[test]
fn patterns_are_spelt_as_requests_are() {
    let table = table(&[(
        "*",
        &[
            ("escaped", exact("/%61//b c")),
            ("trailing", prefix("/v1/")),
            ("star", exact("*")),
            ("dots", exact("/x/../y")),
        ],
    )]);
    assert_eq!(find(&table, "a.com", "/a/b%20c"), Some("escaped"));
    assert_eq!(find(&table, "a.com", "/v1"), Some("trailing"));
    assert_eq!(find(&table, "a.com", "/v1/x"), Some("trailing"));
    assert_eq!(find(&table, "a.com", "/y"), Some("dots"));
    assert_eq!(find(&table, "a.com", "/v10"), None);
}

#[test]
fn the_matched_part_is_what_a_rewrite_replaces() {
    let table = table(&[(
        "*",
        &[
            ("prefix", prefix("/a/b/")),
            ("exact", exact("/e")),
            ("regex", PathMatch::Regex("/r.*".to_owned())),
            ("any", PathMatch::Any),
        ],
    )]);
    for (path, expected) in [
        ("/a//b/c", Matched::Prefix(4)),
        ("/e", Matched::Whole),
        ("/rx", Matched::Whole),
        ("/z", Matched::Prefix(0)),
    ] {
        let head = head("a.com", path).unwrap();
        let found = table.find(ListenerId::new("edge", false), &head).unwrap();
        assert_eq!(found.route.matched(), expected, "{path}");
    }
}

#[test]
fn every_fault_is_reported_at_once_and_the_old_table_stays() {
    let old = table(&[("a.com", &[("a", PathMatch::Any)])]);
    let bad = |name: &str, path| (route(name, path), "");
    let mut method = route("method", PathMatch::Any);
    method.methods = vec!["GET /".to_owned()];
    let routes = vec![
        bad("twice", PathMatch::Any),
        bad("twice", PathMatch::Any),
        bad("relative", exact("x")),
        bad("fragment", prefix("/a#b")),
        bad("regex", PathMatch::Regex("/(".to_owned())),
        bad("unbalanced", PathMatch::Regex("/a)|(b".to_owned())),
        bad("huge", PathMatch::Regex("(?:a{1000}){1000}".to_owned())),
        bad("long", exact(&format!("/{}", "x".repeat(8192)))),
        bad("fine", exact(&format!("/{}", "x".repeat(8191)))),
        (method, ""),
    ];
    let set = [("a.com".to_owned(), routes), ("*b.com".to_owned(), vec![])];
    let errors = old.with_hosts(set, &[]).unwrap_err();
    let at = |name: &str| {
        let found = errors.iter().find(|e| e.route.as_deref() == Some(name));
        found.map(|e| e.problem.clone()).unwrap_or_else(|| panic!("{name} is reported"))
    };
    assert_eq!(errors.len(), 9, "{errors:#?}");
    assert_eq!(at("twice"), RouteProblem::Twice);
    assert_eq!(at("relative"), RouteProblem::Path(PathError::NotAbsolute));
    assert_eq!(at("fragment"), RouteProblem::Path(PathError::Fragment));
    assert!(matches!(at("regex"), RouteProblem::Regex(_)));
    assert!(matches!(at("unbalanced"), RouteProblem::Regex(_)));
    assert!(matches!(at("huge"), RouteProblem::RegexTooLarge(_)));
    assert_eq!(at("long"), RouteProblem::PathTooLong);
    assert_eq!(at("method"), RouteProblem::Method("GET /".to_owned()));
    let host = errors.iter().find(|e| e.host == "*b.com").unwrap();
    assert_eq!(host.to_string(), r#"host "*b.com": host pattern: `*` must be a whole label"#);
    assert_eq!(find(&old, "a.com", "/"), Some("a"));
}

#[test]
fn host_patterns_that_no_request_could_have_are_refused() {
    let long = format!("{}.com", "a".repeat(64));
    let longer = ["a".repeat(50).as_str(); 5].join(".");
    for host in [
        "",
        ".",
        "a..b",
        ".a",
        "*",
        "*.",
        "*.*",
        "a.*.b",
        "a*",
        "*a",
        "a:80",
        "[::1",
        "[x]",
        "a b",
        "caf\u{e9}.fr",
        &long,
        &longer,
    ] {
        let set = [(host.to_owned(), vec![(route("r", PathMatch::Any), ())])];
        let result = RouteTable::default().with_hosts(set, &[]);
        assert_eq!(result.is_ok(), host == "*", "{host}");
    }
    let set = ["A.com", "a.com."].map(|h| (h.to_owned(), vec![(route("r", PathMatch::Any), ())]));
    let errors = RouteTable::default().with_hosts(set, &[]).unwrap_err();
    assert_eq!(errors[0].problem, RouteProblem::Twice);
}

#[test]
fn a_header_sent_twice_cannot_switch_a_rule_off() {
    let mut deny = route("deny", PathMatch::Any);
    deny.headers =
        serde_json::from_str(r#"[{"name": "X-Role", "value": {"exact": "x"}}]"#).unwrap();
    let set = [("*".to_owned(), vec![(deny, "deny"), (route("rest", PathMatch::Any), "rest")])];
    let table = RouteTable::default().with_hosts(set, &[]).unwrap();
    let mut head = head("a.com", "/").unwrap();
    let listener = ListenerId::new("edge", false);
    assert_eq!(*table.find(listener, &head).unwrap().payload, "rest");
    head.headers.push(b"x-role", b"y");
    head.headers.push(b"X-Role", b"x");
    assert_eq!(*table.find(listener, &head).unwrap().payload, "deny");
}

fn looked_up(map: &RouteMap<u32>, host: &str, target: &str) -> Option<u32> {
    let found = map.lookup(host, target, "GET", &Headers::default()).unwrap();
    found.map(|stored| stored.value)
}

#[test]
fn routes_go_in_and_out_of_a_map_one_at_a_time() {
    let map = RouteMap::default();
    map.insert("a.com", route("v1", prefix("/v1")), 1).unwrap();
    map.insert("a.com", route("v1 x", exact("/v1/x")), 2).unwrap();
    map.insert("*", route("rest", PathMatch::Any), 3).unwrap();
    assert_eq!(looked_up(&map, "A.com", "/v1//x?q=1"), Some(2));
    assert_eq!(looked_up(&map, "A.com.", "/v1/x"), Some(2), "the root's dot is left out");
    assert_eq!(looked_up(&map, "a.com..", "/v1/x"), Some(3));
    assert_eq!(looked_up(&map, "a.com", "/v1/y/../z"), Some(1));
    assert_eq!(looked_up(&map, "a.com", "/"), None);
    assert_eq!(looked_up(&map, "b.com", ""), Some(3));
    let refused = map.lookup("a.com", "/%2f", "GET", &Headers::default());
    assert_eq!(refused.unwrap_err(), PathError::EncodedSlash);

    let twice = map.insert("a.com", route("v1", exact("/other")), 4).unwrap_err();
    assert_eq!(twice[0].to_string(), r#"route "v1" of host "a.com": defined twice"#);
    map.replace("a.com", route("v1", prefix("/v2")), 5).unwrap();
    assert_eq!(looked_up(&map, "a.com", "/v1"), None);
    assert_eq!(looked_up(&map, "a.com", "/v2"), Some(5));
    assert!(map.replace("a.com", route("v1", exact("no")), 6).is_err());
    assert_eq!(looked_up(&map, "a.com", "/v2"), Some(5));

    let before = map.snapshot();
    map.remove("a.com", "v1").unwrap();
    map.remove("a.com", "v1 x").unwrap();
    assert_eq!(looked_up(&map, "a.com", "/v2"), Some(3), "a host without routes is gone");
    assert_eq!(map.remove("a.com", "v1").unwrap_err()[0].problem, RouteProblem::NotThere);
    assert!(map.remove("a..com", "v1").is_err());
    assert_eq!((before.hosts(), map.snapshot().hosts()), (2, 1));
}

#[test]
fn changes_of_a_map_are_made_together_or_not_at_all() {
    let map = RouteMap::default();
    map.insert("a.com", route("old", exact("/old")), 0).unwrap();
    let stored = |name: &str, path, value| {
        std::sync::Arc::new(meshcore_core::routing::Stored {
            route: route(name, path).into(),
            value,
        })
    };
    let swap = |gone: &str| {
        let remove = Change::Remove(gone.to_owned());
        vec![
            ("a.com".to_owned(), vec![remove, Change::Insert(stored("new", exact("/new"), 1))]),
            ("b.com".to_owned(), vec![Change::Replace(stored("b", PathMatch::Any, 2))]),
        ]
    };
    assert!(map.apply(&swap("missing")).is_err());
    assert_eq!(looked_up(&map, "a.com", "/old"), Some(0));
    assert_eq!(looked_up(&map, "b.com", "/"), None);
    map.apply(&swap("old")).unwrap();
    assert_eq!(looked_up(&map, "a.com", "/old"), None);
    assert_eq!(looked_up(&map, "a.com", "/new"), Some(1));
    assert_eq!(looked_up(&map, "b.com", "/"), Some(2));
}

#[test]
fn no_change_of_a_map_is_lost_among_threads_and_readers_always_find() {
    let map = RouteMap::default();
    map.insert("*", route("rest", PathMatch::Any), 0).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(looked_up(&map, "x.com", "/").is_some());
            }
        });
        let writers: Vec<_> = (0..3_u32)
            .map(|writer| {
                let map = &map;
                scope.spawn(move || {
                    for number in 0..50 {
                        let name = format!("{writer} {number}");
                        map.insert("*", route(&name, exact(&format!("/{name}"))), 1).unwrap();
                        if number % 2 == 0 {
                            map.remove("*", &name).unwrap();
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    assert_eq!(map.snapshot().iter().count(), 1 + 3 * 25);
}
