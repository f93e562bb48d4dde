//! The router beside matchit, on the same paths: `cargo bench --bench routing`.
//!
//! Each look-up of ours includes the host; matchit knows no hosts. The paths asked for are drawn
//! from all routes in a scattered order, so that large tables pay for their cache misses.
#![allow(missing_docs)] // criterion's macros make public items

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
};
use meshcore_core::head::Headers;
use meshcore_core::path::{Oddities, PathRules, normalize};
use meshcore_core::routing::{ListenerId, RequestView, RouteTable};
use meshcore_core::snapshot::{Action, FieldMatch, PathMatch, Route, ValueMatch};
use rustix::time::{ClockId, clock_gettime};

const SIZES: [usize; 3] = [10, 1_000, 100_000];
/// Paths asked for in one round.
const ASKED: usize = 4_096;

fn route(number: usize, path: PathMatch) -> Route {
    Route {
        name: format!("route {number}"),
        listeners: Vec::new(),
        priority: 0,
        order: number as u32,
        path,
        methods: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
        refused: Oddities::NONE,
        action: Action::Respond { status: 200, body: String::new(), content_type: String::new() },
        timeout_ns: 0,
        idle_ns: 0,
        body_bytes_per_second: None,
        trace_sample: None,
        retry: Default::default(),
        layers: Vec::new(),
        request_headers: Default::default(),
        response_headers: Default::default(),
        upgrade: Vec::new(),
    }
}

fn table(routes: impl Iterator<Item = Route>) -> RouteTable<usize> {
    let routes = routes.enumerate().map(|(number, route)| (route, number)).collect();
    let set = [("shop.example.com".to_owned(), routes)];
    RouteTable::default().with_hosts(set, &[]).expect("the routes are sound")
}

/// As APIs have them: a version, a service, a collection.
fn stem(number: usize) -> String {
    format!("/api/v{}/service-{}/items-{number}", number % 3 + 1, number / 64)
}

/// Numbers below `size` in a scattered order.
fn scattered(size: usize) -> impl Iterator<Item = usize> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..ASKED).map(move |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize) % size
    })
}

/// What the thread spends on `iters` rounds: other work on the machine does not count.
fn cpu_time(iters: u64, mut round: impl FnMut()) -> Duration {
    let read = || {
        let t = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
    };
    let begin = read();
    (0..iters).for_each(|_| round());
    read() - begin
}

fn ask_ours(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    table: &RouteTable<usize>,
    paths: &[String],
) {
    let headers = Headers::default();
    let listener = ListenerId::new("edge", false);
    group.bench_function(name, |b| {
        b.iter_custom(|iters| {
            cpu_time(iters, || {
                for path in paths {
                    let request = RequestView {
                        method: b"GET",
                        host: b"shop.example.com",
                        path: path.as_bytes(),
                        query: None,
                        headers: &headers,
                    };
                    black_box(table.find_view(listener, black_box(&request)).map(|f| *f.payload));
                }
            })
        });
    });
}

fn ask_matchit(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    routes: &[String],
    paths: &[String],
) {
    let mut router = matchit::Router::new();
    for (number, route) in routes.iter().enumerate() {
        router.insert(route, number).expect("the routes are distinct");
    }
    group.bench_function(name, |b| {
        b.iter_custom(|iters| {
            cpu_time(iters, || {
                for path in paths {
                    black_box(router.at(black_box(path)).map(|found| *found.value)).ok();
                }
            })
        });
    });
}

fn exact(c: &mut Criterion) {
    let mut group = group(c, "exact");
    for size in SIZES {
        let routes: Vec<_> = (0..size).map(stem).collect();
        let paths: Vec<_> = scattered(size).map(stem).collect();
        let ours = routes.iter().enumerate().map(|(i, p)| route(i, PathMatch::Exact(p.clone())));
        ask_ours(&mut group, &format!("meshcore/{size}"), &table(ours), &paths);
        ask_matchit(&mut group, &format!("matchit/{size}"), &routes, &paths);
    }
}

fn prefix(c: &mut Criterion) {
    let mut group = group(c, "prefix");
    for size in SIZES {
        let paths: Vec<_> = scattered(size).map(|i| stem(i) + "/42/parts").collect();
        let ours = (0..size).map(|i| route(i, PathMatch::Prefix(stem(i))));
        ask_ours(&mut group, &format!("meshcore/{size}"), &table(ours), &paths);
        let routes: Vec<_> = (0..size).map(|i| stem(i) + "/{*rest}").collect();
        ask_matchit(&mut group, &format!("matchit/{size}"), &routes, &paths);
    }
    // Forty lengths of prefixes, as hand-written tables have them.
    let name = |i: usize| format!("/{}/{i}", "x".repeat(i % 40 + 1));
    let paths: Vec<_> = scattered(1_000).map(|i| name(i) + "/42/parts").collect();
    let ours = (0..1_000).map(|i| route(i, PathMatch::Prefix(name(i))));
    ask_ours(&mut group, "meshcore/1000 of 43 lengths", &table(ours), &paths);
}

fn regex(c: &mut Criterion) {
    let mut group = group(c, "regex");
    for size in [10, 1_000] {
        let expression = |i| PathMatch::Regex(format!("{}/[0-9]+/[a-z]+", stem(i)));
        let paths: Vec<_> = scattered(size).map(|i| stem(i) + "/42/parts").collect();
        let ours = (0..size).map(|i| route(i, expression(i)));
        ask_ours(&mut group, &format!("meshcore/{size}"), &table(ours), &paths);
    }
}

fn predicates(c: &mut Criterion) {
    let mut group = group(c, "predicates");
    let paths: Vec<_> = scattered(1_000).map(stem).collect();
    let ours = (0..1_000).map(|i| {
        let mut route = route(i, PathMatch::Exact(stem(i)));
        route.methods = vec!["POST".to_owned(), "GET".to_owned()];
        let value = ValueMatch::Present(false);
        route.headers = vec![FieldMatch { name: "x-canary".to_owned(), value }];
        route.listeners = vec!["edge".to_owned()];
        route
    });
    ask_ours(&mut group, "method, header and listener/1000", &table(ours), &paths);
}

/// A thousand routes of one path, told apart by an expression over a field of 7 KB, of which none
/// matches.
fn fields(c: &mut Criterion) {
    let mut group = group(c, "fields");
    group.throughput(Throughput::Elements(1));
    let table = table((0..1_000).map(|i| {
        let mut route = route(i, PathMatch::Exact("/".to_owned()));
        let value = ValueMatch::Regex(format!(".*/item-{i}/.*"));
        route.headers = vec![FieldMatch { name: "x-tenant".to_owned(), value }];
        route
    }));
    let mut headers = Headers::default();
    headers.push(b"x-tenant", &[b'x'; 7_000]);
    let (method, host, path, query) = (&b"GET"[..], &b"shop.example.com"[..], &b"/"[..], None);
    let request = RequestView { method, host, path, query, headers: &headers };
    let listener = ListenerId::new("edge", false);
    group.bench_function("expressions/1000", |b| {
        b.iter(|| table.find_view(listener, black_box(&request)).is_some());
    });
}

fn hosts(c: &mut Criterion) {
    let mut group = group(c, "hosts");
    group.throughput(Throughput::Elements(1));
    let one = |i: usize| {
        let host = format!("tenant-{i}.example.com");
        (host, vec![(route(i, PathMatch::Prefix("/".to_owned())), i)])
    };
    let table = RouteTable::default().with_hosts((0..100_000).map(one), &[]).expect("sound");
    group.bench_function("change one of 100000", |b| {
        b.iter_batched(
            || one(4_711),
            |host| table.with_hosts([host], &[]).expect("sound"),
            BatchSize::SmallInput,
        );
    });
    let names: Vec<_> = scattered(100_000).map(|i| one(i).0).collect();
    let headers = Headers::default();
    let listener = ListenerId::new("edge", false);
    group.throughput(Throughput::Elements(ASKED as u64));
    group.bench_function("find one of 100000", |b| {
        b.iter(|| {
            for name in &names {
                let (method, path) = (&b"GET"[..], &b"/x/y"[..]);
                let host = name.as_bytes();
                let request = RequestView { method, host, path, query: None, headers: &headers };
                black_box(table.find_view(listener, black_box(&request)).map(|f| *f.payload));
            }
        });
    });
}

fn build(c: &mut Criterion) {
    let mut group = group(c, "build");
    group.throughput(Throughput::Elements(10_000));
    let routes = |hosts: usize| {
        let per_host = 10_000 / hosts;
        (0..hosts).map(move |host| {
            let routes = (0..per_host).map(|i| (route(i, PathMatch::Prefix(stem(i))), i)).collect();
            (format!("tenant-{host}.example.com"), routes)
        })
    };
    for hosts in [1, 100, 10_000] {
        group.bench_function(format!("10000 routes of {hosts} hosts"), |b| {
            b.iter_batched(
                || routes(hosts).collect::<Vec<(String, Vec<(Route, usize)>)>>(),
                |set| RouteTable::default().with_hosts(set, &[]).expect("sound"),
                BatchSize::LargeInput,
            );
        });
    }
}

fn normal(c: &mut Criterion) {
    let mut group = group(c, "normalize");
    group.throughput(Throughput::Elements(1));
    let rules = PathRules::default();
    for (name, path) in [
        ("normal, 37 bytes", "/api/v1/service-12/items-815/42/parts"),
        ("dots, 37 bytes", "/api/v1/x/../service-12/%69tems-815/4"),
    ] {
        let mut out = Vec::with_capacity(128);
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                normalize(black_box(path.as_bytes()), &rules, &mut out).map(|n| n.seen)
            });
        });
    }
}

fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(format!("routing/{name}"));
    group.sample_size(20).warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(ASKED as u64));
    group
}

criterion_group!(benches, exact, prefix, regex, predicates, fields, hosts, build, normal);
criterion_main!(benches);
