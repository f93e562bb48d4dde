//! The plain configuration: named resources that rooms are compiled from, as JSON.
//!
//! Python (YAML or code) and later xDS produce it; control sends workers a [`Delta`] of it. All
//! times are nanoseconds, zero meaning "none" for a timeout; all sizes are bytes.

mod layer;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use layer::{
    AllowRule, Breaker, BreakerOn, HeaderKey, Layer, LimitKey, MissingKey, Rate, Whose,
};

use crate::path::Oddities;

/// A change: what is set (added or replaced, by name) and what is removed.
///
/// The first configuration is a delta against nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Delta {
    /// A number that grows with every configuration.
    pub config_version: u64,
    /// Listeners by name.
    pub listeners: BTreeMap<String, Listener>,
    /// Routes by host pattern: `example.com`, `*.example.com`, `example.*` or `*`.
    pub hosts: BTreeMap<String, Vec<Route>>,
    /// Upstreams by name.
    pub upstreams: BTreeMap<String, Upstream>,
    /// The most bytes of small request bodies that a worker keeps while it awaits their rest,
    /// before these requests take their places at upstreams; `None` leaves it as it is.
    pub buffer_total: Option<u64>,
    /// How traces are taken part in; `None` leaves it as it is.
    pub tracing: Option<Tracing>,
    /// What Python counts; `None` leaves it as it is.
    pub counts: Option<Counts>,
    /// Names that go away.
    pub remove: Removed,
}

/// How traces are taken part in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tracing {
    /// In which forms endpoints are told: `w3c`, `b3`, `b3multi`, `jaeger`; without any, no part is
    /// taken, and what clients say passes as it is.
    pub propagate: Vec<String>,
    /// How many of 2^56 traces are sampled, of those that nobody decided about.
    pub sample: u64,
}

/// Counts that Python names and adds to, by the kind of object that has them. They are the same as
/// long as a program runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Counts {
    /// Of each upstream.
    pub upstream: Vec<Count>,
    /// Of the program itself.
    pub program: Vec<Count>,
}

/// A family of counters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// As Prometheus calls it; ends in `_total`.
    pub name: String,
    /// What it counts, in a sentence.
    pub help: String,
}

/// Names of removed resources.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Removed {
    /// Listeners.
    pub listeners: Vec<String>,
    /// Host patterns.
    pub hosts: Vec<String>,
    /// Upstreams.
    pub upstreams: Vec<String>,
}

/// What the core needs to know of a listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// How many proxies in front of us append to `x-forwarded-for`.
    #[serde(default)]
    pub trusted_hops: u8,
    /// Which proxies are trusted instead.
    #[serde(default)]
    pub trusted: Option<Trusted>,
    /// The balancers that announce connections by the PROXY protocol: networks, addresses, `unix`.
    #[serde(default)]
    pub proxy_protocol: Vec<String>,
    /// What becomes of `x-forwarded-client-cert`.
    #[serde(default)]
    pub forwarded_client_cert: ForwardedCert,
    /// Layers before routing.
    #[serde(default)]
    pub layers: Vec<Layer>,
    /// What the program calls itself in `via`; a random name when absent.
    #[serde(default)]
    pub via: Option<String>,
    /// A request that has the listener's mark in `via` this many times is not passed on.
    #[serde(default = "default_max_visits")]
    pub max_visits: u8,
    /// Envoy's rule: the first route of the file that matches wins, not the most specific.
    #[serde(default)]
    pub match_first: bool,
    /// The least rate of a request's body after its first 20 s, where a route does not say
    /// another; zero for none.
    #[serde(default = "default_body_rate")]
    pub body_bytes_per_second: u64,
    /// Whether clients speak TLS.
    #[serde(default)]
    pub tls: bool,
}

/// Proxies that may say who a request comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trusted {
    /// Their networks, addresses, or `unix`.
    pub networks: Vec<String>,
    /// Where they say it.
    #[serde(default)]
    pub header: ClientHeader,
}

/// What endpoints are told of clients' certificates, in `x-forwarded-client-cert`. What others say of
/// it is believed of proxies that are trusted alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwardedCert {
    /// Nothing.
    #[default]
    Sanitize,
    /// What trusted proxies say.
    Forward,
    /// The same, and this connection's behind it.
    Append,
    /// This connection's alone.
    Set,
}

/// The field in which proxies name a request's client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientHeader {
    /// A list of addresses, to which each proxy appends.
    #[default]
    XForwardedFor,
    /// The same with names (RFC 7239).
    Forwarded,
    /// One address.
    XRealIp,
}

fn default_body_rate() -> u64 {
    500
}
fn default_max_visits() -> u8 {
    3
}

/// One route.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Unique name.
    pub name: String,
    /// Listeners it serves; all when empty.
    #[serde(default)]
    pub listeners: Vec<String>,
    /// Higher wins before anything else is compared.
    #[serde(default)]
    pub priority: i32,
    /// Its place in the file; the last tie-break.
    #[serde(default)]
    pub order: u32,
    /// The path.
    #[serde(default)]
    pub path: PathMatch,
    /// Methods; any when empty.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Header predicates, all of which must hold.
    #[serde(default)]
    pub headers: Vec<FieldMatch>,
    /// Query predicates, all of which must hold.
    #[serde(default)]
    pub query: Vec<FieldMatch>,
    /// What it refuses of targets although its listener may not.
    #[serde(default)]
    pub refused: Oddities,
    /// What is done.
    pub action: Action,
    /// From the request's last byte to the response head, all attempts together.
    #[serde(default)]
    pub timeout_ns: u64,
    /// Between two bytes of a body.
    #[serde(default)]
    pub idle_ns: u64,
    /// The least rate of a request's body after its first 20 s; zero for none, `None` for the
    /// listener's.
    #[serde(default)]
    pub body_bytes_per_second: Option<u64>,
    /// How many of 2^56 traces are sampled; `None`: as all others.
    #[serde(default)]
    pub trace_sample: Option<u64>,
    /// Retry policy.
    #[serde(default)]
    pub retry: Retry,
    /// Protocols that may be upgraded to, in lower case; `connect` is the method.
    #[serde(default)]
    pub upgrade: Vec<String>,
    /// Layers of this route.
    #[serde(default)]
    pub layers: Vec<Layer>,
    /// Changes to the request's fields.
    #[serde(default)]
    pub request_headers: FieldOps,
    /// Changes to the response's fields.
    #[serde(default)]
    pub response_headers: FieldOps,
}

/// How a path is matched.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PathMatch {
    /// Every path.
    #[default]
    Any,
    /// This path.
    Exact(String),
    /// This path and everything below it, by whole segments.
    Prefix(String),
    /// A regular expression over the whole path, linear time.
    Regex(String),
}

/// A predicate on a header field or a query parameter.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldMatch {
    /// The field's name; lower case for headers.
    pub name: String,
    /// What must hold of its value.
    pub value: ValueMatch,
}

/// What must hold of a value.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ValueMatch {
    /// Equal.
    Exact(String),
    /// Starts with.
    Prefix(String),
    /// Ends with.
    Suffix(String),
    /// Contains.
    Contains(String),
    /// Matches as a whole.
    Regex(String),
    /// Is there (`true`) or is absent (`false`).
    Present(bool),
}

/// What a route does.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Forward to an upstream.
    Forward {
        /// Its name.
        upstream: String,
        /// Replaces the matched prefix of the path (or the whole of an exact match).
        #[serde(default)]
        prefix_rewrite: Option<String>,
        /// Replaces the authority.
        #[serde(default)]
        host_rewrite: Option<String>,
    },
    /// Answer with a redirect.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// New scheme.
        #[serde(default)]
        scheme: Option<String>,
        /// New authority.
        #[serde(default)]
        host: Option<String>,
        /// New port.
        #[serde(default)]
        port: Option<u16>,
        /// New path.
        #[serde(default)]
        path: Option<String>,
    },
    /// Answer at once.
    Respond {
        /// 200 to 599.
        status: u16,
        /// The body.
        #[serde(default)]
        body: String,
        /// Its `content-type`.
        #[serde(default)]
        content_type: String,
    },
}

/// Which failures are tried again.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts after the first.
    pub retries: u8,
    /// From the request's last byte to the response head, for each attempt alone.
    #[serde(default)]
    pub per_try_ns: u64,
    /// A connection that could not be made.
    pub connect: bool,
    /// A stream that the endpoint says it has not begun: REFUSED_STREAM, or above GOAWAY's last.
    #[serde(default = "default_refused")]
    pub refused: bool,
    /// Reset before any byte of the response.
    pub reset: bool,
    /// These statuses.
    #[serde(default)]
    pub statuses: Vec<u16>,
    /// These gRPC statuses.
    #[serde(default)]
    pub grpc_statuses: Vec<u8>,
}

fn default_refused() -> bool {
    true
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retries: 1,
            per_try_ns: 0,
            connect: true,
            refused: default_refused(),
            reset: true,
            statuses: Vec::new(),
            grpc_statuses: Vec::new(),
        }
    }
}

/// Changes to header fields, applied in this order.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FieldOps {
    /// Names removed.
    pub remove: Vec<String>,
    /// Fields that replace.
    pub set: Vec<(String, String)>,
    /// Fields added to what is there.
    pub add: Vec<(String, String)>,
}

/// An upstream and its endpoints.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// How endpoints are picked.
    #[serde(default)]
    pub balance: Balance,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
    /// The upstream's own breaker; `None` switches it off.
    #[serde(default)]
    pub breaker: Option<Breaker>,
    /// Ejection of single endpoints; `None` switches it off.
    #[serde(default)]
    pub ejection: Option<Ejection>,
    /// Most requests in flight.
    #[serde(default = "default_cap")]
    pub max_requests: u64,
    /// The part of `max_requests` that is open to every client, in percent; the rest only to
    /// clients that hold little. 100 switches that off.
    #[serde(default = "default_client_share")]
    pub client_share_percent: u8,
    /// Retries as a part of active requests, in percent.
    #[serde(default = "default_budget")]
    pub retry_budget_percent: u32,
    /// Retries that are always allowed at one time.
    #[serde(default = "default_floor")]
    pub retry_budget_floor: u32,
    /// Whether endpoints are spoken to over TLS.
    #[serde(default)]
    pub tls: bool,
}

fn default_cap() -> u64 {
    1_000
}
fn default_client_share() -> u8 {
    80
}
fn default_budget() -> u32 {
    20
}
fn default_floor() -> u32 {
    3
}

/// How endpoints are picked.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// The less loaded of two random ones.
    #[default]
    LeastRequest,
    /// Any, by weight.
    Random,
}

/// One endpoint.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// `host:port`, `[v6]:port` or `unix:/path`; its name too.
    pub address: String,
    /// Share of the traffic, 1 to 65,535.
    #[serde(default = "default_weight")]
    pub weight: u16,
}

fn default_weight() -> u16 {
    1
}

/// When one endpoint is left out.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Ejection {
    /// Consecutive connect, reset or timeout failures.
    pub failures: u32,
    /// First time out.
    pub eject_for_ns: u64,
    /// Longest time out.
    pub max_eject_for_ns: u64,
    /// Most of an upstream's endpoints that may be out, in percent.
    pub max_percent: u8,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            failures: 5,
            eject_for_ns: 30_000_000_000,
            max_eject_for_ns: 300_000_000_000,
            max_percent: 50,
        }
    }
}
