//! Everything that is counted, as families of metrics.

use super::compiled::{Compiled, CompiledListener};
use super::counted;
use super::grpc::STATUSES as GRPC_STATUSES;
use super::handshakes;
use super::stack::RouteStack;
use super::upstream::Upstream;
use crate::admission::{Breaker, BreakerState};
use crate::balance::Endpoint;
use crate::codec::h2::Flood;
use crate::error::Reason;
use crate::telemetry::{Exposition, Family, Format};
use crate::time::Nanos;

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// All metrics of a configuration as text, and families that are kept elsewhere. O(objects).
///
/// Counts are never reset; those of an object that left the configuration leave with it. A route
/// that was never used says nothing: of many most are not.
#[must_use]
pub fn render(compiled: &Compiled, format: Format, now: Nanos, families: &[Family]) -> String {
    let mut listeners: Vec<&CompiledListener> = compiled.listeners().map(AsRef::as_ref).collect();
    listeners.sort_by(|a, b| a.name.cmp(&b.name));
    let mut routes: Vec<&RouteStack> = compiled.routes().map(AsRef::as_ref).collect();
    routes.sort_by(|a, b| a.name.cmp(&b.name));
    // A route may stand under several hosts; its words are the same.
    routes.dedup_by(|a, b| a.name == b.name);
    let used: Vec<&RouteStack> = routes.iter().copied().filter(|r| r.stats.is_used()).collect();
    let mut upstreams: Vec<&Upstream> = compiled.upstreams().map(AsRef::as_ref).collect();
    upstreams.sort_by(|a, b| a.name.cmp(&b.name));

    let text = Exposition::new(format).gauge(
        "meshcore_config_version",
        "Number of the configuration in force.",
        [([], compiled.version)],
    );
    let text = of_listeners(text, &listeners);
    let text = of_routes(text, &used);
    let text = of_upstreams(text, &upstreams);
    let text = of_endpoints(text, &upstreams, now);
    let text = of_rules(text, &listeners, &routes);
    let text = of_python(text, compiled, &upstreams);
    let text = of_breakers(text, &upstreams, &routes, now);
    families.iter().fold(text, Exposition::family).finish()
}

fn of_listeners(text: Exposition, listeners: &[&CompiledListener]) -> Exposition {
    let each = |count: fn(&CompiledListener) -> u64| {
        listeners.iter().map(move |l| ([("listener", l.name.as_str())], count(l)))
    };
    let answers = listeners.iter().flat_map(|l| {
        let given = Reason::ALL.iter().map(|&reason| (reason, l.stats.answers(reason)));
        given
            .filter(|&(_, n)| n > 0)
            .map(|(reason, n)| ([("listener", l.name.as_str()), ("reason", reason.code())], n))
    });
    let cuts = listeners.iter().flat_map(|l| {
        let cut = Reason::ALL.iter().map(|&reason| (reason, l.stats.cuts(reason)));
        cut.filter(|&(_, n)| n > 0).map(|(reason, n)| {
            let labels = [
                ("listener", l.name.as_str()),
                ("reason", reason.code()),
                ("by", reason.by().word()),
            ];
            (labels, n)
        })
    });
    let floods = listeners.iter().flat_map(|l| {
        let each = Flood::ALL.iter().map(|&flood| (flood, l.stats.floods(flood)));
        each.filter(|&(_, n)| n > 0)
            .map(|(flood, n)| ([("listener", l.name.as_str()), ("reason", flood.name())], n))
    });
    let natively = listeners.iter().flat_map(|l| {
        [("upstream", false), ("downstream", true)].map(|(to, to_client)| {
            ([("listener", l.name.as_str()), ("to", to)], l.stats.natively(to_client))
        })
    });
    let text = text
        .gauge(
            "meshcore_listener_connections",
            "Client connections open now.",
            each(|l| l.stats.open_connections()),
        )
        .gauge(
            "meshcore_listener_handshakes",
            "Connections whose TLS is not agreed yet.",
            listeners
                .iter()
                .filter(|l| l.handshakes.is_some())
                .map(|l| ([("listener", l.name.as_str())], l.stats.open_handshakes())),
        )
        .counter(
            "meshcore_listener_connections_total",
            "Client connections accepted.",
            each(|l| l.stats.connections()),
        )
        .counter(
            "meshcore_listener_requests_total",
            "Requests whose head was read.",
            each(|l| l.stats.requests()),
        )
        .counter(
            "meshcore_listener_relayed_at_once_total",
            "Whole responses that passed in one call, with no Python layer to see them.",
            each(|l| l.stats.at_once()),
        )
        .counter(
            "meshcore_listener_sent_natively_total",
            "Requests and whole responses held to be sent natively at the end of the loop's turn.",
            natively,
        )
        .counter("meshcore_local_answers_total", "Answers of the proxy itself, by reason.", answers)
        .counter(
            "meshcore_requests_cut_total",
            "Requests that ended without a whole answer, by reason and by whom.",
            cuts,
        )
        .counter(
            "meshcore_listener_h2_ended_total",
            "HTTP/2 connections ended with ENHANCE_YOUR_CALM, by what they flooded.",
            floods,
        );
    let tls: Vec<_> = listeners
        .iter()
        .filter_map(|l| Some(("listener", l.name.as_str(), l.handshakes.as_ref()?)))
        .collect();
    handshakes::render(
        text,
        ("meshcore_listener_tls_handshakes_total", "meshcore_listener_tls_failures_total"),
        "client",
        &tls,
    )
}

fn of_routes(text: Exposition, routes: &[&RouteStack]) -> Exposition {
    let each = |count: fn(&RouteStack) -> u64| {
        routes.iter().map(move |r| ([("route", &*r.name)], count(r)))
    };
    let responses = routes.iter().flat_map(|r| {
        CLASSES
            .iter()
            .enumerate()
            .map(|(i, class)| ([("route", &*r.name), ("class", *class)], r.stats.class(i + 1)))
    });
    let times = routes.iter().map(|r| ([("route", &*r.name)], r.stats.latency().read()));
    let statuses = (0..GRPC_STATUSES as u8).map(|s| s.to_string()).collect::<Vec<_>>();
    let calls = routes.iter().flat_map(|r| {
        let each = statuses.iter().enumerate().map(|(i, name)| (name, r.stats.grpc(i as u8)));
        each.filter(|&(_, n)| n > 0)
            .map(|(name, n)| ([("route", &*r.name), ("status", name.as_str())], n))
    });
    let tunnels = routes.iter().flat_map(|r| {
        [("upstream", false), ("downstream", true)]
            .map(|(to, down)| ([("route", &*r.name), ("to", to)], r.stats.tunnel_bytes(down)))
            .into_iter()
            .filter(|&(_, bytes)| bytes > 0)
    });
    text.counter("meshcore_route_responses_total", "Requests ended, by class.", responses)
        .counter("meshcore_route_tunnel_bytes_total", "Bytes passed through tunnels.", tunnels)
        .counter("meshcore_route_grpc_total", "gRPC calls ended, by status.", calls)
        .counter(
            "meshcore_route_retries_total",
            "Attempts after a request's first.",
            each(|r| r.stats.retries()),
        )
        .counter(
            "meshcore_route_cancelled_total",
            "Requests without any response: the client left first.",
            each(|r| r.stats.cancellations()),
        )
        .histogram(
            "meshcore_route_duration_seconds",
            "From the request's head to the end of its response.",
            times,
        )
}

fn of_upstreams(text: Exposition, upstreams: &[&Upstream]) -> Exposition {
    let each = |count: fn(&Upstream) -> u64| {
        upstreams.iter().map(move |u| ([("upstream", u.name.as_str())], count(u)))
    };
    let text = text
        .gauge("meshcore_upstream_requests", "Requests in flight.", each(|u| u.in_flight.current()))
        .gauge("meshcore_upstream_retries", "Retries in flight.", each(|u| u.retries.current()));
    let tls: Vec<_> = upstreams
        .iter()
        .filter_map(|u| Some(("upstream", u.name.as_str(), u.handshakes.as_ref()?)))
        .collect();
    handshakes::render(
        text,
        ("meshcore_upstream_tls_handshakes_total", "meshcore_upstream_tls_failures_total"),
        "endpoint",
        &tls,
    )
}

fn of_endpoints(text: Exposition, upstreams: &[&Upstream], now: Nanos) -> Exposition {
    let each = |count: fn(&Endpoint, Nanos) -> u64| {
        upstreams.iter().flat_map(move |u| {
            u.endpoints.iter().map(move |e| {
                let labels = [("upstream", u.name.as_str()), ("endpoint", e.address.as_str())];
                (labels, count(e, now))
            })
        })
    };
    text.gauge(
        "meshcore_endpoint_requests",
        "Attempts in flight.",
        each(|e, _| e.state.in_flight()),
    )
    .gauge(
        "meshcore_endpoint_available",
        "1 unless the endpoint is ejected or draining.",
        each(|e, now| u64::from(e.state.available(now))),
    )
}

fn of_breakers(
    text: Exposition,
    upstreams: &[&Upstream],
    routes: &[&RouteStack],
    now: Nanos,
) -> Exposition {
    let of_upstreams = upstreams.iter().filter_map(|u| Some((u.name.as_str(), "", u.breaker()?)));
    let of_routes = routes.iter().filter_map(|r| {
        Some((r.upstream()?.name.as_str(), &*r.name, &r.own_guard.as_ref()?.breaker))
    });
    let samples = of_upstreams
        .chain(of_routes)
        .map(|(upstream, route, b)| ([("upstream", upstream), ("route", route)], level(b, now)));
    text.gauge("meshcore_breaker_state", "0 closed, 1 half open, 2 open.", samples)
}

fn of_rules(
    text: Exposition,
    listeners: &[&CompiledListener],
    routes: &[&RouteStack],
) -> Exposition {
    let of_listeners = listeners.iter().map(|l| ((l.name.as_str(), ""), &l.ops));
    let of_routes = routes.iter().map(|r| (("", &*r.name), &r.ops));
    let mut samples: Vec<_> = of_listeners
        .chain(of_routes)
        .flat_map(|(of, ops)| ops.iter().filter_map(move |op| Some((of, op.allow()?))))
        .flat_map(|((listener, route), allow)| {
            let labels =
                move |outcome| [("listener", listener), ("route", route), ("outcome", outcome)];
            allow.counts().map(move |(outcome, n)| (labels(outcome), n))
        })
        .collect();
    // Those of one stack count together.
    samples.sort_by_key(|(labels, _)| *labels);
    samples.dedup_by_key(|(labels, _)| *labels);
    text.counter(
        "meshcore_allow_total",
        "Requests that allow layers have decided, by outcome.",
        samples,
    )
}

fn of_python(text: Exposition, compiled: &Compiled, upstreams: &[&Upstream]) -> Exposition {
    let owners: Vec<_> =
        upstreams.iter().map(|u| ([("upstream", u.name.as_str())], &u.counted)).collect();
    let text = counted::render(text, &compiled.counts.upstream, &owners);
    counted::render::<0>(text, &compiled.counts.program, &[([], compiled.program())])
}

fn level(breaker: &Breaker, now: Nanos) -> u64 {
    match breaker.state(now) {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    }
}
