//! A listener with a route of each kind, as the tests of the edge send requests through it.

use std::sync::Arc;

use meshcore_core::codec::ServerRules;
use meshcore_core::exchange::{Arrival, Compiled, Compiler, Engine, Peer, RequestTicket, Verdict};
use meshcore_core::head::RequestHead;
use meshcore_core::path::{Oddities, PathRules};
use meshcore_core::segment::{Segment, SegmentConfig};
use meshcore_core::time::Nanos;
use serde_json::json;

pub(crate) const NOW: Nanos = Nanos::from_secs(1_000);
pub(crate) const ID: &[u8] = b"0190163d8694739b9ea2acd60ad8d7e1";

pub(crate) const ENDPOINT: &str = "10.0.0.1:80";

/// What the route `/old` sets, takes out, and asks for instead.
pub(crate) const SET: (&[u8], &[u8]) = (b"x-user", b"mesh");
pub(crate) const REMOVED: &[u8] = b"x-secret";
pub(crate) const REWRITTEN: &[u8] = b"/new/base";
/// What another route is found by.
pub(crate) const JUDGED: &[u8] = b"x-canary";
pub(crate) const JUDGED_UNDERSCORED: &[u8] = b"x_tenant_id";
/// The same of its responses.
pub(crate) const SET_BACK: (&[u8], &[u8]) = (b"x-frame", b"deny");
pub(crate) const REMOVED_BACK: &[u8] = b"x-internal";

pub(crate) struct Mesh {
    engine: Engine,
    compiled: Arc<Compiled>,
    pub(crate) peer: Peer,
    lenient: bool,
}

impl Mesh {
    /// `lenient`: paths may be as odd as a listener's keys allow.
    pub(crate) fn new(lenient: bool) -> Self {
        let segment = SegmentConfig { max_bytes: 4 << 20, worker_slots: 1 };
        let mut compiler = Compiler::new(Segment::anonymous(segment).unwrap(), 0, [1, 2]);
        let engine = Engine::new(7);
        let text = |(name, value): (&[u8], &[u8])| {
            json!([[String::from_utf8_lossy(name), String::from_utf8_lossy(value)]])
        };
        let ops =
            |set, removed| json!({"set": text(set), "remove": [String::from_utf8_lossy(removed)]});
        let upgrade = json!(["websocket", "h2c", "connect"]);
        let delta = json!({
            "config_version": 1,
            "listeners": {"edge": {"via": "edge"}},
            "hosts": {"*": [
                {
                    "name": "old",
                    "path": {"prefix": "/old"},
                    "action": {"forward": {
                        "upstream": "one",
                        "prefix_rewrite": String::from_utf8_lossy(REWRITTEN),
                    }},
                    "request_headers": ops(SET, REMOVED),
                    "response_headers": ops(SET_BACK, REMOVED_BACK),
                },
                {"name": "trace", "methods": ["TRACE"], "action": {"forward": {"upstream": "one"}}},
                {
                    "name": "denied",
                    "path": {"prefix": "/denied"},
                    "headers": [{"name": "x-canary", "value": {"present": true}}],
                    "action": {"respond": {"status": 403}},
                },
                {
                    "name": "tenants",
                    "path": {"prefix": "/denied"},
                    "headers": [{
                        "name": String::from_utf8_lossy(JUDGED_UNDERSCORED),
                        "value": {"present": true},
                    }],
                    "action": {"respond": {"status": 403}},
                },
                {"name": "all", "action": {"forward": {"upstream": "one"}}, "upgrade": upgrade},
            ]},
            "upstreams": {"one": {
                "endpoints": [{"address": ENDPOINT}],
                "client_share_percent": 100,
            }},
            "buffer_total": 0,
        });
        let delta = serde_json::from_value(delta).unwrap();
        engine.swap(compiler.apply(&engine.compiled(), delta, NOW).unwrap());
        let compiled = engine.compiled();
        let peer = Peer::new("192.0.2.1".parse().ok(), [1, 2]);
        Self { engine, compiled, peer, lenient }
    }

    /// Whether its listener refuses what is odd.
    pub(crate) fn is_strict(&self) -> bool {
        !self.lenient
    }

    /// What its listener takes.
    pub(crate) fn rules(&self) -> ServerRules {
        let odd = PathRules { refused: Oddities::NONE, keep_slashes: true, own: false };
        let paths = if self.lenient { odd } else { PathRules::default() };
        ServerRules { paths, connect: true, trace: true, ..ServerRules::default() }
    }

    /// The ticket of a request that goes to an endpoint.
    pub(crate) fn pass(&self, head: &mut RequestHead, whole: bool) -> Option<Box<RequestTicket>> {
        let listener = self.compiled.listener_id("edge").unwrap();
        let client = self.compiled.clean(listener, &self.peer, head);
        let arrival = Arrival { head, now: NOW };
        let (ticket, verdict) =
            self.engine.begin(&self.compiled, listener, whole, client, &arrival);
        matches!(verdict, Verdict::Forward(_)).then_some(ticket)
    }
}
