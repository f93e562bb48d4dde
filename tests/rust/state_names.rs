//! What keeps its state over a reload and an upgrade, and what never shares it.

#![cfg(not(feature = "loom"))]
#![allow(clippy::unwrap_used)] // helpers of tests may panic as tests do

use meshcore_core::balance::Rng;
use meshcore_core::error::Reason;
use meshcore_core::exchange::{Arrival, Cause, Compiler, Engine, Peer, Verdict, word_format};
use meshcore_core::head::{BodyLength, Headers, RequestHead, Scheme, Version};
use meshcore_core::segment::{Origin, Segment, SegmentConfig};
use meshcore_core::time::Nanos;
use serde_json::{Value, json};

const T0: Nanos = Nanos::from_secs(1_000);
const HOUR_NS: u64 = 3_600_000_000_000;

/// `tokens` an hour, so that none comes back while a test runs.
fn limit(tokens: u64) -> Value {
    json!({"rate": {"tokens": tokens, "period_ns": HOUR_NS, "burst": tokens}, "clients": 64})
}

fn keyed(tokens: u64, key: &Value) -> Value {
    let mut limit = limit(tokens);
    limit["key"] = key.clone();
    limit
}

/// A breaker that one failure opens for a day.
fn touchy() -> Value {
    json!({"failures": 1, "failure_percent": 0, "open_for_ns": 24 * HOUR_NS,
           "max_open_for_ns": 24 * HOUR_NS})
}

fn upstream(address: &str) -> Value {
    json!({"endpoints": [{"address": address}]})
}

fn guarded(address: &str) -> Value {
    json!({"endpoints": [{"address": address}], "breaker": touchy()})
}

/// A route of its own path.
fn route(name: &str, path: &str, upstream: &str, layers: Value) -> Value {
    json!({"name": name, "path": {"prefix": path}, "action": {"forward": {"upstream": upstream}},
           "retry": {"retries": 0, "connect": false, "reset": false}, "layers": layers})
}

fn delta(version: u64, layers: Value, upstreams: Value, routes: Value) -> Value {
    json!({"config_version": version, "listeners": {"edge": {"layers": layers}},
           "upstreams": upstreams, "hosts": {"*": routes}})
}

fn segment(seed: [u64; 2]) -> Segment {
    let config = SegmentConfig { max_bytes: 16 << 20, worker_slots: 1 };
    let origin = Origin { seed, layout: 0, created_ns: 0 };
    Segment::create(config, origin).unwrap()
}

struct Mesh {
    segment: Segment,
    compiler: Compiler,
    engine: Engine,
    now: Nanos,
}

impl Mesh {
    fn new() -> Self {
        let segment = segment([1, 2]);
        let compiler = Compiler::new(segment.clone(), 0, [1, 2]);
        Self { segment, compiler, engine: Engine::new(1), now: T0 }
    }

    fn apply(&mut self, delta: Value) {
        let delta = serde_json::from_value(delta).unwrap();
        let compiled = self.compiler.apply(&self.engine.compiled(), delta, self.now).unwrap();
        self.engine.swap(compiled);
    }

    fn refused(&mut self, delta: Value) -> Vec<String> {
        let delta = serde_json::from_value(delta).unwrap();
        let refused = self.compiler.apply(&self.engine.compiled(), delta, self.now).unwrap_err();
        refused.iter().map(ToString::to_string).collect()
    }

    /// What becomes of a request, whose endpoint fails if it is asked.
    fn ask(&self, path: &str, client: u8, fails: bool) -> Result<(), Reason> {
        let compiled = self.engine.compiled();
        let listener = compiled.listener_id("edge").unwrap();
        let peer = Peer::new(format!("192.0.2.{client}").parse().ok(), [1, 2]);
        let mut head = get(path);
        let client = compiled.clean(listener, &peer, &mut head);
        let arrival = Arrival { head: &head, now: self.now };
        let (mut ticket, verdict) = self.engine.begin(&compiled, listener, true, client, &arrival);
        match verdict {
            Verdict::Forward(_) if fails => {
                ticket.sent(self.now);
                ticket.failed(
                    Reason::UpstreamConnect,
                    &mut Cause::default(),
                    self.now,
                    &mut Rng::new(1),
                );
                ticket.finish(self.now, 1);
                Ok(())
            }
            Verdict::Forward(_) => {
                ticket.finish(self.now, 1);
                Ok(())
            }
            Verdict::Answer(answer) => Err(answer.reason),
            other => panic!("{other:?}"),
        }
    }
}

fn get(path: &str) -> RequestHead {
    let mut headers = Headers::default();
    let method = headers.append(b"GET");
    let authority = headers.append(b"a.test");
    let path = headers.append(path.as_bytes());
    headers.push(b"x-tenant", b"t");
    RequestHead {
        version: Version::Http2,
        method,
        scheme: Scheme::Http,
        authority,
        host: authority,
        path,
        forward_path: path,
        raw_path: path,
        oddities: meshcore_core::path::Oddities::NONE,
        query: None,
        body: BodyLength::Empty,
        keep_alive: true,
        expect_continue: false,
        upgrade: None,
        vouched: false,
        via: false,
        binds: false,
        headers,
    }
}

/// The order of layers that stand in one list, and what the clients of a list of requests get.
fn list(layers: &[&Value]) -> Value {
    Value::Array(layers.iter().map(|layer| (*layer).clone()).collect())
}

fn one(version: u64, layers: Value) -> Value {
    let routes = json!([route("all", "/", "one", json!([]))]);
    delta(version, layers, json!({"one": upstream("127.0.0.1:1")}), routes)
}

/// Who gets how far: a request of each client.
fn passed(mesh: &Mesh, clients: &[u8]) -> Vec<bool> {
    clients.iter().map(|client| mesh.ask("/", *client, false).is_ok()).collect()
}

#[test]
fn names_with_slashes_share_nothing() {
    let names = ["shop", "shop/api", "shop%2Fapi", "api", "a", "shop/api/a", "balance", "breaker"];
    let mut upstreams = json!({});
    let mut routes = Vec::new();
    for (i, name) in names.iter().enumerate() {
        upstreams[name] = guarded(&format!("unix:/{name}"));
        let path = format!("/up/{i}");
        routes.push(route(&format!("up{i}"), &path, name, json!([])));
        for (k, other) in names.iter().enumerate() {
            let path = format!("/own/{i}/{k}");
            let mut own = route(other, &path, name, json!([{"circuit_breaker": touchy()}]));
            own["name"] = json!(format!("{other}{}", "/".repeat(i)));
            routes.push(own);
        }
    }
    let mut mesh = Mesh::new();
    mesh.apply(delta(1, json!([]), upstreams, Value::Array(routes)));
    let paths = (0..names.len()).flat_map(|i| {
        let own = (0..names.len()).map(move |k| format!("/own/{i}/{k}"));
        own.chain([format!("/up/{i}")])
    });
    for path in paths {
        assert_eq!(mesh.ask(&path, 1, true), Ok(()), "{path}: another's failure opened it");
        assert_eq!(mesh.ask(&path, 1, true), Err(Reason::BreakerOpen), "{path}");
    }
}

#[test]
fn another_order_of_layers_forgives_and_forgets_nothing() {
    let tenant = json!({"header": {"name": "x-tenant"}});
    let client = json!({"client_limit": limit(1)});
    let by_tenant = json!({"limit": keyed(4, &tenant)});
    let by_host = json!({"limit": keyed(3, &json!("host"))});
    let all = json!({"limit": limit(5)});
    let mut named = json!({"limit": limit(6)});
    named["limit"]["name"] = json!("second");
    let cap = json!({"in_flight": {"max": 9}});
    let mut mesh = Mesh::new();
    mesh.apply(one(1, list(&[&client, &by_tenant, &by_host, &all, &named])));
    assert_eq!(passed(&mesh, &[1, 1]), [true, false]);
    mesh.apply(one(2, list(&[&cap, &named, &all, &by_tenant, &client, &by_host])));
    assert_eq!(passed(&mesh, &[1, 2, 3, 4]), [false, true, true, false], "three of one host");
    mesh.apply(one(3, list(&[&all, &client, &named, &by_tenant])));
    assert_eq!(passed(&mesh, &[1, 2, 3, 5, 6]), [false, false, false, true, false], "four tenants");
    mesh.apply(one(4, list(&[&client, &named, &all])));
    assert_eq!(passed(&mesh, &[1, 6, 7]), [false, true, false], "five in all");
    mesh.apply(one(5, list(&[&named])));
    assert_eq!(passed(&mesh, &[1, 1]), [true, false], "six in all");
}

#[test]
fn what_was_spent_stays_spent_at_another_rate() {
    let tenant = json!({"header": {"name": "x-tenant"}});
    let kinds: [&dyn Fn(&Value) -> Value; 3] = [
        &|limit| json!({"limit": limit}),
        &|limit| json!({"client_limit": limit}),
        &|limit: &Value| {
            let mut limit = limit.clone();
            limit["key"] = tenant.clone();
            json!({"limit": limit})
        },
    ];
    let rate = |tokens: u64, period_ns: u64, burst: u64| json!({"rate": {"tokens": tokens, "period_ns": period_ns, "burst": burst}, "clients": 64});
    let second = 1_000_000_000;
    // Before and after, and what is left after three of four were taken.
    let changes = [
        (rate(4, HOUR_NS, 4), rate(4, second, 4), 1),
        (rate(4, second, 4), rate(4, 200 * HOUR_NS, 4), 1),
        (rate(4, HOUR_NS, 4), rate(1_000, second, 8), 5),
        (rate(4, HOUR_NS, 4), rate(4, HOUR_NS, 2), 0),
        (rate(4, HOUR_NS, 4), rate(1, second, 1), 0),
        (rate(4, 1_000, 4), rate(100_000_000, second, 1 << 31), (1 << 31) - 3),
    ];
    for (n, make) in kinds.iter().enumerate() {
        for (before, after, left) in &changes {
            let mut mesh = Mesh::new();
            mesh.apply(one(1, list(&[&make(before)])));
            assert_eq!(passed(&mesh, &[1, 1, 1]), [true; 3]);
            mesh.apply(one(2, list(&[&make(after)])));
            let few = (0..6).take_while(|_| mesh.ask("/", 1, false).is_ok()).count() as u64;
            assert_eq!(few, (*left).min(6), "kind {n}: {before} to {after}");
            // And back, though the first words are there still.
            mesh.apply(one(3, list(&[&make(before)])));
            let spent = after["rate"]["burst"].as_u64().unwrap() - left + (*left).min(6);
            let few = (0..6).take_while(|_| mesh.ask("/", 1, false).is_ok()).count() as u64;
            assert_eq!(few, 4_u64.saturating_sub(spent), "kind {n}: {after} back to {before}");
        }
    }
}

#[test]
fn with_another_number_of_clients_counting_begins_anew() {
    let sized = |tokens: u64, clients: u64| {
        let rate = json!({"tokens": tokens, "period_ns": HOUR_NS, "burst": tokens});
        list(&[&json!({"client_limit": {"rate": rate, "clients": clients}})])
    };
    let all: Vec<u8> = (0..100).collect();
    for (tokens, clients) in [(3, 4096), (4, 4096), (4, 64)] {
        let mut mesh = Mesh::new();
        mesh.apply(one(1, sized(3, 256)));
        for _ in 0..3 {
            passed(&mesh, &all);
        }
        assert_eq!(passed(&mesh, &all), [false; 100]);
        mesh.apply(one(2, sized(tokens, clients)));
        assert_eq!(passed(&mesh, &all[..9]), [true; 9], "{tokens} {clients}");
    }
}

#[test]
fn a_program_that_takes_over_goes_on_at_another_rate() {
    let client = |tokens| json!([{"client_limit": limit(tokens)}, {"limit": limit(10 * tokens)}]);
    let mut old = Mesh::new();
    old.apply(one(1, client(2)));
    assert_eq!(passed(&old, &[1, 1, 2]), [true; 3]);
    for adopts in [false, true] {
        let (segment, mut compiler);
        if adopts {
            let fd =
                Segment::duplicate(std::os::fd::AsRawFd::as_raw_fd(&old.segment.fd().unwrap()));
            segment = Segment::open(fd.unwrap(), 0).unwrap();
            segment.adopt().unwrap();
            compiler = Compiler::new(segment.clone(), 0, [1, 2]);
        } else {
            segment = self::segment([1, 2]);
            compiler = Compiler::new(segment.clone(), 0, [1, 2]);
            compiler.import(&old.segment.export(word_format).unwrap()).unwrap();
        }
        let mut new = Mesh { segment, compiler, engine: Engine::new(1), now: T0 };
        new.apply(one(1, client(3)));
        assert_eq!(passed(&new, &[1, 1, 2, 2, 2]), [true, false, true, true, false], "{adopts}");
    }
}

fn old_upstreams() -> Value {
    json!({"users": upstream("127.0.0.1:1"), "a/b": guarded("unix:/run/a/b.sock"),
           "shop": upstream("127.0.0.1:3"), "shop/api": guarded("127.0.0.1:4")})
}

fn old_routes(first: &[Value]) -> Value {
    let tenant = json!({"header": {"name": "x-tenant"}});
    let mut layers = first.to_vec();
    layers.extend([
        json!({"limit": keyed(2, &tenant)}),
        json!({"circuit_breaker": touchy()}),
        json!({"limit": limit(2)}),
    ]);
    json!([
        route("list", "/list", "users", Value::Array(layers)),
        route("own", "/own", "a/b", json!([])),
        route("api", "/api", "shop", json!([{"circuit_breaker": touchy()}])),
        route("twin", "/twin", "shop/api", json!([])),
    ])
}

/// `tests/data/words-1.bin` is what a program before typed names exported (commit 6e5c19c), that
/// had served these: clients 1 to 3 once and failing at `/list`, `/own` and `/api`, and 11 to 13
/// and two more refused by open breakers there. Its tables of clients are not taken over: clients have
/// other places in them since.
#[test]
fn words_under_the_old_names_are_taken_over_where_they_are_clear() {
    let words = include_bytes!("../data/words-1.bin");
    let mut mesh = Mesh::new();
    assert_eq!(mesh.compiler.import(words).unwrap(), 21);
    let layers = json!([{"client_limit": limit(1)}, {"limit": limit(10)}]);
    mesh.apply(delta(1, layers.clone(), old_upstreams(), old_routes(&[])));
    assert_eq!(mesh.ask("/own", 40, false), Err(Reason::BreakerOpen), "an upstream's own");
    // It may have been either's, so it is neither's.
    assert_eq!(mesh.ask("/twin", 41, false), Ok(()));
    assert_eq!(mesh.ask("/twin", 42, false), Err(Reason::RateLimited), "ten in all");

    // A list that is not what it was: a place means nothing then.
    let mut mesh = Mesh::new();
    mesh.compiler.import(words).unwrap();
    let first = [json!({"in_flight": {"max": 5}})];
    mesh.apply(delta(1, json!([]), old_upstreams(), old_routes(&first)));
    assert_eq!(mesh.ask("/list", 40, false), Err(Reason::BreakerOpen), "a route's own");
}

#[test]
fn a_breaker_is_asked_where_it_is_written() {
    let breaker = json!({"circuit_breaker": touchy()});
    let all = json!({"limit": limit(2)});
    for (layers, charged) in [([&breaker, &all], false), ([&all, &breaker], true)] {
        let mut mesh = Mesh::new();
        let routes = json!([route("all", "/", "one", list(&layers))]);
        mesh.apply(delta(1, json!([]), json!({"one": upstream("127.0.0.1:1")}), routes.clone()));
        assert_eq!(mesh.ask("/", 1, true), Ok(()));
        assert_eq!(mesh.ask("/", 1, true), Err(Reason::BreakerOpen));
        let expected = if charged { Reason::RateLimited } else { Reason::BreakerOpen };
        assert_eq!(mesh.ask("/", 1, true), Err(expected));
    }
}

/// A probe that a layer behind the breaker refuses says nothing, and holds no place.
#[test]
fn a_probe_that_a_later_layer_refuses_is_given_back() {
    let mut mesh = Mesh::new();
    let breaker = json!({"circuit_breaker": {"failures": 1, "open_for_ns": 1, "successes": 1,
                                             "max_open_for_ns": 1}});
    let layers = list(&[&breaker, &json!({"client_limit": limit(1)})]);
    let routes = json!([route("all", "/", "one", layers)]);
    mesh.apply(delta(1, json!([]), json!({"one": upstream("127.0.0.1:1")}), routes));
    assert_eq!(mesh.ask("/", 1, true), Ok(()));
    mesh.now = T0 + Nanos::from_secs(1);
    for _ in 0..10 {
        assert_eq!(mesh.ask("/", 1, true), Err(Reason::RateLimited));
    }
    assert_eq!(mesh.ask("/", 2, false), Ok(()));
    assert_eq!(mesh.ask("/", 3, true), Ok(()));
}

#[test]
fn layers_that_would_share_what_they_count_are_refused() {
    let tenant = json!({"header": {"name": "x-tenant"}});
    let mut skips = tenant.clone();
    skips["header"]["missing"] = json!("skip");
    let one_named = |name: &str| {
        let mut limit = limit(2);
        limit["name"] = json!(name);
        json!({"limit": limit})
    };
    let pairs = [
        ("client_limit", json!({"client_limit": limit(1)}), json!({"client_limit": limit(2)})),
        ("limit", json!({"limit": limit(1)}), json!({"limit": limit(2)})),
        (
            "limit/host",
            json!({"limit": keyed(1, &json!("host"))}),
            json!({"limit": keyed(2, &json!("host"))}),
        ),
        (
            "limit/header/x-tenant",
            json!({"limit": keyed(1, &tenant)}),
            json!({"limit": keyed(1, &skips)}),
        ),
        ("in_flight", json!({"in_flight": {"max": 1}}), json!({"in_flight": {"max": 2}})),
        ("name/a", one_named("a"), json!({"in_flight": {"max": 2, "name": "a"}})),
        ("circuit_breaker", json!({"circuit_breaker": touchy()}), json!({"circuit_breaker": {}})),
    ];
    for (key, first, second) in pairs {
        let mut mesh = Mesh::new();
        let routes = json!([route("all", "/", "one", list(&[&first, &second]))]);
        let change = delta(1, json!([]), json!({"one": upstream("127.0.0.1:1")}), routes);
        let errors = mesh.refused(change);
        let expected = format!(
            "route all: two layers that share what they count: \
                                give them names ({key})"
        );
        assert_eq!(errors, [expected]);
    }
    let mut mesh = Mesh::new();
    let errors = mesh.refused(one(1, json!([{"circuit_breaker": touchy()}])));
    assert_eq!(errors, ["listener edge: a circuit_breaker needs an upstream"]);
    mesh.apply(one(1, list(&[&one_named("a"), &one_named("b"), &json!({"limit": limit(9)})])));
}
