//! The compiled router against a naive scan of the same routes, written from the rules alone.
#![allow(clippy::unwrap_used)] // helpers of tests may panic as tests do

use std::cmp::Reverse;
use std::collections::BTreeMap;

use meshcore_core::head::Headers;
use meshcore_core::path::Oddities;
use meshcore_core::routing::{ListenerId, RequestView, RouteTable};
use meshcore_core::snapshot::{Action, FieldMatch, PathMatch, Route, ValueMatch};
use proptest::prelude::*;
use proptest::sample::select;

type Hosts = BTreeMap<String, Vec<Route>>;

#[derive(Clone, Debug)]
struct Ask {
    listener: &'static str,
    match_first: bool,
    host: String,
    path: String,
    method: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    query: Option<&'static str>,
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    let text = prop::collection::vec(select(vec!["a", "b", "ab"]), 0..4);
    let text = text.prop_map(|segments| format!("/{}", segments.join("/")));
    let regexes = [
        "/a.*",
        "/[ab]/b",
        "/(a|b)+(/ab)?",
        ".*b",
        "/a|/b",
        "(?i)/A",
        "/ab",
        "/a/.*",
        "^/a/b?",
        "/a/b/[abc/]+",
        "/a/(a|b/b)",
        "/a/b/.*|/a/.*",
        "/ab/?",
        r"\*|",
    ];
    prop_oneof![
        1 => Just(PathMatch::Any),
        3 => text.clone().prop_map(PathMatch::Exact),
        3 => text.clone().prop_map(PathMatch::Prefix),
        1 => text.prop_map(|text| PathMatch::Prefix(format!("{text}/"))),
        2 => select(regexes.to_vec()).prop_map(|text| PathMatch::Regex(text.to_owned())),
    ]
}

fn field(names: &'static [&'static str]) -> impl Strategy<Value = FieldMatch> {
    let value = prop_oneof![
        Just(ValueMatch::Exact("1".into())),
        Just(ValueMatch::Prefix("1".into())),
        Just(ValueMatch::Suffix("2".into())),
        Just(ValueMatch::Contains("3".into())),
        Just(ValueMatch::Regex("[12]+".into())),
        any::<bool>().prop_map(ValueMatch::Present),
    ];
    (select(names), value).prop_map(|(name, value)| FieldMatch { name: name.into(), value })
}

fn route() -> impl Strategy<Value = Route> {
    let few = |names: &'static [&'static str]| prop::sample::subsequence(names, 0..=1);
    (
        path_match(),
        few(&["edge", "side"]),
        prop_oneof![4 => Just(0), 1 => -1..2],
        0..4_u32,
        few(&["GET", "POST"]),
        prop::collection::vec(field(&["x-a", "x-b"]), 0..2),
        prop::collection::vec(field(&["q", "r"]), 0..2),
    )
        .prop_map(|(path, listeners, priority, order, methods, headers, query)| Route {
            name: String::new(),
            listeners: listeners.into_iter().map(str::to_owned).collect(),
            priority,
            order,
            path,
            methods: methods.into_iter().map(str::to_owned).collect(),
            headers,
            query,
            refused: Oddities::NONE,
            action: Action::Respond { status: 200, body: String::new(), content_type: "".into() },
            timeout_ns: 0,
            idle_ns: 0,
            body_bytes_per_second: None,
            trace_sample: None,
            retry: Default::default(),
            layers: Vec::new(),
            request_headers: Default::default(),
            response_headers: Default::default(),
            upgrade: Vec::new(),
        })
}

const PATTERNS: [&str; 8] =
    ["a.com", "*.a.com", "b.a.com", "*.com", "*.b.a.com", "a.*", "b.a.*", "*"];

fn hosts() -> impl Strategy<Value = Hosts> {
    let routes = prop::collection::vec(route(), 0..8).prop_map(|mut routes| {
        for (number, route) in routes.iter_mut().enumerate() {
            route.name = format!("route {number}");
        }
        routes
    });
    prop::collection::btree_map(select(PATTERNS.to_vec()).prop_map(str::to_owned), routes, 0..5)
}

fn ask() -> impl Strategy<Value = Ask> {
    let host = select(vec![
        "a.com",
        "b.a.com",
        "c.b.a.com",
        "x.com",
        "com",
        "a.b",
        "b.a.org",
        "b.a.com.",
        ".a.com",
        "a.",
        "a..com",
        "",
        "a",
    ]);
    let path = prop::collection::vec(select(vec!["a", "b", "ab", "c"]), 0..5);
    let path = path.prop_map(|segments| format!("/{}", segments.join("/")));
    let path = prop_oneof![
        8 => path.clone(),
        1 => path.prop_map(|path| format!("{}/", path.trim_end_matches('/'))),
        1 => Just("*".to_owned()),
        1 => Just(String::new()),
    ];
    let header = (select(vec!["x-a", "x-b"]), select(vec!["1", "12", "2", "3", ""]));
    let queries = vec![None, Some("q=1"), Some("q=%31&r=3"), Some("r=2&r=1"), Some("q"), Some("")];
    (
        select(vec!["edge", "side", "other"]),
        any::<bool>(),
        host,
        path,
        select(vec!["GET", "POST", "get"]),
        prop::collection::vec(header, 0..3),
        select(queries),
    )
        .prop_map(|(listener, match_first, host, path, method, headers, query)| Ask {
            listener,
            match_first,
            host: host.to_owned(),
            path,
            method,
            headers,
            query,
        })
}

fn serves(route: &Route, ask: &Ask) -> bool {
    route.listeners.is_empty() || route.listeners.iter().any(|l| l == ask.listener)
}

/// How specific a pattern is for a host that it matches.
fn host_rank(pattern: &str, host: &str) -> Option<(u8, usize)> {
    let name = !host.is_empty() && !host.starts_with('.') && !host.ends_with('.');
    if pattern == "*" {
        Some((0, 0))
    } else if let Some(suffix) = pattern.strip_prefix('*') {
        (name && host.ends_with(suffix)).then_some((2, suffix.len()))
    } else if let Some(prefix) = pattern.strip_suffix('*') {
        (name && host.starts_with(prefix)).then_some((1, prefix.len()))
    } else {
        (host == pattern).then_some((3, 0))
    }
}

fn path_matches(pattern: &PathMatch, path: &str) -> bool {
    match pattern {
        PathMatch::Any => true,
        PathMatch::Exact(text) => text == path,
        PathMatch::Prefix(text) => {
            let want: Vec<_> =
                text.trim_matches('/').split('/').filter(|s| !s.is_empty()).collect();
            let Some(path) = path.strip_prefix('/') else { return false };
            let have: Vec<_> = path.split('/').collect();
            have.starts_with(&want)
        }
        PathMatch::Regex(text) => {
            let found = regex::Regex::new(&format!(r"\A(?:{text})\z")).unwrap();
            found.is_match(path)
        }
    }
}

fn holds(test: &ValueMatch, values: &[&str]) -> bool {
    let any = |check: &dyn Fn(&str) -> bool| values.iter().any(|value| check(value));
    match test {
        ValueMatch::Exact(text) => any(&|v| v == text),
        ValueMatch::Prefix(text) => any(&|v| v.starts_with(text.as_str())),
        ValueMatch::Suffix(text) => any(&|v| v.ends_with(text.as_str())),
        ValueMatch::Contains(text) => any(&|v| v.contains(text.as_str())),
        ValueMatch::Regex(text) => {
            let found = regex::Regex::new(&format!(r"\A(?:{text})\z")).unwrap();
            any(&|v| found.is_match(v))
        }
        ValueMatch::Present(wanted) => values.is_empty() != *wanted,
    }
}

fn matches(route: &Route, ask: &Ask) -> bool {
    let parameters: Vec<(&str, &str)> = ask.query.map_or(Vec::new(), |query| {
        let parts = query.split('&').filter(|part| !part.is_empty());
        parts.map(|p| p.split_once('=').unwrap_or((p, ""))).collect()
    });
    let of = |fields: &[(&'static str, &'static str)], name: &str| -> Vec<&'static str> {
        fields.iter().filter(|(n, _)| *n == name).map(|(_, v)| *v).collect()
    };
    serves(route, ask)
        && path_matches(&route.path, &ask.path)
        && (route.methods.is_empty() || route.methods.iter().any(|m| m == ask.method))
        && route.headers.iter().all(|f| holds(&f.value, &of(&ask.headers, &f.name)))
        && route.query.iter().all(|f| {
            let found = parameters.iter().filter(|(name, _)| *name == f.name);
            // The only escape that the questions use.
            holds(
                &f.value,
                &found.map(|(_, v)| if *v == "%31" { "1" } else { v }).collect::<Vec<_>>(),
            )
        })
}

/// The answer by the rules: (host pattern, place of the route).
fn scan(hosts: &Hosts, ask: &Ask) -> Option<(String, usize)> {
    let (pattern, routes) = hosts
        .iter()
        .filter(|(_, routes)| routes.iter().any(|route| serves(route, ask)))
        .filter_map(|(pattern, routes)| Some((host_rank(pattern, &ask.host)?, pattern, routes)))
        .max_by_key(|(rank, ..)| *rank)
        .map(|(_, pattern, routes)| (pattern, routes))?;
    let candidates = routes.iter().enumerate().filter(|(_, route)| matches(route, ask));
    let (place, _) = candidates.min_by_key(|(place, route)| {
        let specific = match &route.path {
            PathMatch::Exact(_) => (0, Reverse(0)),
            PathMatch::Prefix(text) => (1, Reverse(text.trim_end_matches('/').len())),
            PathMatch::Regex(_) => (2, Reverse(0)),
            PathMatch::Any => (3, Reverse(0)),
        };
        let fields = Reverse(route.headers.len() + route.query.len());
        let specific = (specific, fields, route.methods.is_empty());
        (Reverse(route.priority), (!ask.match_first).then_some(specific), route.order, *place)
    })?;
    Some((pattern.clone(), place))
}

fn find(table: &RouteTable<usize>, ask: &Ask) -> Option<(String, usize)> {
    let mut headers = Headers::default();
    for (name, value) in &ask.headers {
        headers.push(name.as_bytes(), value.as_bytes());
    }
    let view = RequestView {
        method: ask.method.as_bytes(),
        host: ask.host.as_bytes(),
        path: ask.path.as_bytes(),
        query: ask.query.map(str::as_bytes),
        headers: &headers,
    };
    let found = table.find_view(ListenerId::new(ask.listener, ask.match_first), &view)?;
    assert_eq!(found.route.name(), format!("route {}", found.payload));
    Some((found.host.to_owned(), *found.payload))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Also after changes: a derived table answers as one compiled afresh.
    #[test]
    fn the_index_finds_what_a_scan_finds(
        changes in prop::collection::vec((hosts(), select(PATTERNS.to_vec())), 1..4),
        asks in prop::collection::vec(ask(), 1..24),
    ) {
        let mut table = RouteTable::<usize>::default();
        let mut current = Hosts::new();
        for (set, gone) in changes {
            let with_places = set.clone().into_iter().map(|(host, routes)| {
                (host, routes.into_iter().enumerate().map(|(i, r)| (r, i)).collect())
            });
            table = table.with_hosts(with_places, &[gone.to_owned()]).expect("all compile");
            current.remove(gone);
            current.extend(set);
            current.retain(|_, routes| !routes.is_empty());
            prop_assert_eq!(table.hosts(), current.len());
            prop_assert_eq!(table.iter().count(), current.values().map(Vec::len).sum::<usize>());
            for ask in &asks {
                prop_assert_eq!(find(&table, ask), scan(&current, ask), "{:?}", ask);
            }
        }
    }
}
