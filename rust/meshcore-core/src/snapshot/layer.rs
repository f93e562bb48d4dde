//! The layers of a stack, as a configuration says them.

use serde::{Deserialize, Serialize};

use super::PathMatch;

/// `tokens` per `period_ns`, at most `burst` at once.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Tokens per period, at least 1.
    pub tokens: u64,
    /// The period, at least 1.
    pub period_ns: u64,
    /// Most tokens at once, at least 1.
    pub burst: u64,
}

/// One layer of a stack.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Layer {
    /// A bucket for each client.
    ClientLimit {
        /// What tells it from another such layer of its list.
        #[serde(default)]
        name: Option<String>,
        /// The rate of each client.
        rate: Rate,
        /// Slots of the table (rounded up to a power of two).
        #[serde(default = "default_clients")]
        clients: u64,
    },
    /// A bucket shared by all, or one for each value of a key.
    Limit {
        /// What tells it from another layer of its list that counts by the same.
        #[serde(default)]
        name: Option<String>,
        /// The rate.
        rate: Rate,
        /// What tells one bucket from another; one bucket for all when absent.
        #[serde(default)]
        key: Option<LimitKey>,
        /// Slots of the table when there is a key.
        #[serde(default = "default_clients")]
        clients: u64,
    },
    /// The (upstream, route) breaker.
    CircuitBreaker(Breaker),
    /// A cap on requests in flight through this route.
    InFlight {
        /// What tells it from another such layer of its list.
        #[serde(default)]
        name: Option<String>,
        /// The cap.
        max: u64,
    },
    /// Lets pass what one of its rules names, and refuses the rest.
    Allow {
        /// The first that matches lets a request pass; without any nothing does.
        rules: Vec<AllowRule>,
        /// Nothing is refused, and it is told what would have been.
        #[serde(default)]
        shadow: bool,
    },
    /// A Python layer: its index among the layer objects that the proxy holds.
    Python {
        /// `module:Class`.
        name: String,
    },
}

fn default_clients() -> u64 {
    65_536
}

/// Which requests may pass: those of which all that is given holds. At least one is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct AllowRule {
    /// What the log calls it, unique in its layer.
    pub name: String,
    /// By whose certificate the connection was made.
    #[serde(default)]
    pub identities: Option<Whose>,
    /// Where the client's address lies: networks, addresses, `unix`.
    #[serde(default)]
    pub networks: Option<Vec<String>>,
    /// Methods.
    #[serde(default)]
    pub methods: Option<Vec<String>>,
    /// Paths, as routes match them.
    #[serde(default)]
    pub paths: Option<Vec<PathMatch>>,
}

/// Whose a certificate must be.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// Any that was verified.
    Any,
    /// One of these names, as [`identity::Rules`](crate::identity::Rules) are written.
    Names(Vec<String>),
}

/// What a keyed limiter tells apart.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LimitKey {
    /// The value of a header.
    Header(HeaderKey),
    /// The client's address.
    Client,
    /// The host.
    Host,
    /// Who the client is by its certificate; those without one share a bucket.
    Identity,
}

/// A header whose value tells one bucket from another.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct HeaderKey {
    /// Its name, in lower case.
    pub name: String,
    /// What becomes of requests without it.
    #[serde(default)]
    pub missing: MissingKey,
    /// Whether several of them count as one joined value; else such a request is refused, for a
    /// second one would be another bucket at each request.
    #[serde(default)]
    pub join: bool,
}

/// What becomes of requests that lack the field which a limit counts by.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum MissingKey {
    /// They share one bucket.
    #[default]
    Share,
    /// They pass uncounted.
    Skip,
    /// They are refused.
    Reject,
}

/// A circuit breaker's rules.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// Consecutive failures that open it.
    pub failures: u32,
    /// Failure rate in percent that opens it; zero for none.
    pub failure_percent: u8,
    /// Calls within the window before the rate counts.
    pub min_calls: u32,
    /// Length of the window.
    pub window_ns: u64,
    /// The window is this many calls instead, at most 3,008; zero for a time.
    pub last_calls: u32,
    /// Probe successes that close it.
    pub successes: u32,
    /// Probes at one time.
    pub probes: u32,
    /// First time open.
    pub open_for_ns: u64,
    /// Longest time open, after back-off.
    pub max_open_for_ns: u64,
    /// What counts as a failure; the usual when absent.
    pub on: Option<BreakerOn>,
    /// An answer that takes longer is slow; zero for none.
    pub slow_call_ns: u64,
    /// How long a probe that is not heard of keeps its place; from two seconds to a day.
    pub probe_timeout_ns: u64,
}

/// What a breaker counts as failures, and nothing else.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerOn {
    /// A connection that could not be made.
    pub connect: bool,
    /// Cut before the response.
    pub reset: bool,
    /// No response in time.
    pub timeout: bool,
    /// An answer that took longer than `slow_call_ns`.
    pub slow: bool,
    /// These statuses, 400 to 599.
    pub statuses: Vec<u16>,
    /// These gRPC statuses, 1 to 16.
    pub grpc_statuses: Vec<u8>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 5,
            failure_percent: 50,
            min_calls: 20,
            window_ns: 10_000_000_000,
            last_calls: 0,
            successes: 2,
            probes: 1,
            open_for_ns: 30_000_000_000,
            max_open_for_ns: 300_000_000_000,
            on: None,
            slow_call_ns: 0,
            probe_timeout_ns: 30_000_000_000,
        }
    }
}
