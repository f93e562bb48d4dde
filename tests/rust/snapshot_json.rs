//! What Python's compiler writes is what the core reads: both sides are held to one file.

#![cfg(not(feature = "loom"))]

use meshcore_core::snapshot::{
    Action, Delta, ForwardedCert, HeaderKey, Layer, LimitKey, Listener, MissingKey, PathMatch,
    Retry, Route, Upstream, ValueMatch, Whose,
};

const FULL: &str = include_str!("../data/full.json");

#[test]
fn every_key_of_the_format_is_read() {
    let delta: Delta = serde_json::from_str(FULL).unwrap();
    assert_eq!(delta.config_version, 7);
    assert_eq!(delta.buffer_total, Some(32 << 20));
    let counts = delta.counts.as_ref().unwrap();
    assert_eq!(counts.upstream[1].name, "meshcore_upstream_connect_failures_total");
    assert_eq!(counts.program[0].help, "Lines of the access log that were not written.");
    assert!(delta.listeners["edge"].match_first);
    assert_eq!(delta.listeners["edge"].body_bytes_per_second, 1_000);
    assert_eq!(delta.listeners["local"].body_bytes_per_second, 500);
    assert_eq!(delta.listeners["edge"].forwarded_client_cert, ForwardedCert::Append);
    assert_eq!(delta.listeners["local"].forwarded_client_cert, ForwardedCert::Sanitize);
    assert_eq!(delta.listeners["edge"].layers.len(), 5);
    assert_eq!(delta.hosts.len(), 4);
    let api = &delta.hosts["*.example.com"][0];
    assert_eq!(api.path, PathMatch::Prefix("/v1".to_owned()));
    assert!(matches!(api.headers[6].value, ValueMatch::Present(false)));
    assert_eq!((api.retry.retries, api.retry.refused, api.retry.reset), (2, false, false));
    assert_eq!(api.retry.per_try_ns, 1_500_000_000);
    assert_eq!(api.body_bytes_per_second, Some(0));
    assert_eq!(delta.hosts["*"][0].body_bytes_per_second, None);
    assert_eq!(api.retry.statuses, [503]);
    assert_eq!(api.retry.grpc_statuses, [1, 4, 8, 13, 14]);
    assert_eq!(api.upgrade, ["websocket", "connect"]);
    assert_eq!(api.request_headers.set, [("x-from".to_owned(), "mesh".to_owned())]);
    let key_of = |layer: &Layer| match layer {
        Layer::Limit { key, .. } => key.clone(),
        _ => None,
    };
    let keys: Vec<_> = api.layers.iter().filter_map(key_of).collect();
    let (missing, join) = (MissingKey::Reject, true);
    let header = LimitKey::Header(HeaderKey { name: "x-tenant".to_owned(), missing, join });
    assert_eq!(keys, [header, LimitKey::Client, LimitKey::Host, LimitKey::Identity]);
    let rules_of = |layer: &Layer| match layer {
        Layer::Allow { rules, shadow } => Some((rules.clone(), *shadow)),
        _ => None,
    };
    let (rules, shadow) = api.layers.iter().find_map(rules_of).unwrap();
    assert!(!shadow);
    assert_eq!(rules[0].methods.as_ref().unwrap().len(), 2);
    assert_eq!(rules[0].networks.as_ref().unwrap().len(), 3);
    assert_eq!(rules[0].paths.as_ref().unwrap().len(), 3);
    assert!(matches!(&rules[0].identities, Some(Whose::Names(names)) if names.len() == 2));
    assert_eq!((&rules[1].identities, &rules[1].paths), (&Some(Whose::Any), &None));
    assert!(delta.listeners["edge"].layers.iter().find_map(rules_of).unwrap().1, "a shadow");
    let moved = &delta.hosts["old.example.com"][0];
    assert!(matches!(moved.action, Action::Redirect { status: 308, .. }));
    assert_eq!(delta.upstreams["api"].endpoints[1].address, "[::1]:9002");
    let breaker = delta.upstreams["api"].breaker.as_ref().unwrap();
    let on = breaker.on.as_ref().unwrap();
    assert_eq!((on.connect, on.reset, on.timeout, on.slow), (true, false, true, true));
    assert_eq!(on.statuses, [500, 502, 503, 504]);
    assert_eq!(on.grpc_statuses, [14, 15]);
    assert_eq!(breaker.slow_call_ns, 2_500_000_000);
    assert_eq!(delta.upstreams["plain"].breaker, None);
    assert_eq!(delta.upstreams["api"].client_share_percent, 60);
    assert_eq!(delta.upstreams["plain"].client_share_percent, 80);
}

#[test]
fn what_is_absent_is_the_default() {
    let route: Route =
        serde_json::from_str(r#"{"name": "r", "action": {"forward": {"upstream": "u"}}}"#).unwrap();
    assert_eq!(route.retry, Retry::default());
    assert!(route.upgrade.is_empty());
    assert_eq!(route.body_bytes_per_second, None);
    let listener: Listener = serde_json::from_str("{}").unwrap();
    assert_eq!(listener.body_bytes_per_second, 500);
    let upstream: Upstream = serde_json::from_str(r#"{"endpoints": []}"#).unwrap();
    assert_eq!(upstream.client_share_percent, 80);
    assert_eq!(serde_json::from_str::<Delta>("{}").unwrap().buffer_total, None);
    let retry: Retry =
        serde_json::from_str(r#"{"retries": 1, "connect": true, "reset": true}"#).unwrap();
    assert_eq!(retry, Retry::default());
    assert!(retry.refused);
}
