//! What a request waits for, and what it means that it did not come in time.

use super::body::BodyAccount;
use super::ticket::{RequestKind, RequestTicket};
use crate::balance::EndpointOutcome;
use crate::error::Reason;
use crate::time::Nanos;

/// An async hook of a Python layer may take this long: as long as clients of HTTP commonly wait.
pub(super) const LAYER: Nanos = Nanos::from_secs(30);

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// A Python layer, since then.
    Layer(Nanos),
    /// A response's head: the body of the request first, if it is not there.
    Head,
    /// The next byte, either way, since then.
    Byte(Nanos),
}

/// What a passed deadline means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing: another one lies ahead.
    NotYet,
    /// The request is over: this is why, and what in particular.
    Over(Reason, &'static str),
    /// The attempt is over; the request need not be.
    Attempt(Reason),
}

/// Which sides are not read at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paused {
    /// The client: the endpoint takes no more, or there is none yet.
    pub client: bool,
    /// The endpoint: the client takes no more.
    pub endpoint: bool,
}

/// A deadline that lies `span` after `since`; zero is none.
const fn after(since: Nanos, span: u64) -> Nanos {
    if span == 0 { Nanos::MAX } else { Nanos(since.0.saturating_add(span)) }
}

impl RequestTicket {
    /// The next moment at which [`due`](Self::due) is worth asking; [`Nanos::MAX`] for none.
    #[must_use]
    pub fn next_due(&self) -> Nanos {
        let awaited = match self.awaited {
            Awaited::Layer(since) => since + LAYER,
            _ if self.is_at_work() => Nanos::MAX,
            Awaited::Head => self.head_due().min(self.try_due(Some(self.last))),
            Awaited::Byte(since) => after(since, self.idle_ns()),
        };
        awaited.min(self.work_due()).min(self.deadline).min(self.probe_due())
    }

    /// The same, for a timer that is set to it now.
    pub fn arm(&mut self) -> Nanos {
        self.armed = self.next_due();
        self.armed
    }

    /// Whether the timer last set would be late. One that is early is left: it costs one question,
    /// where a new one for each piece of a body would cost more.
    #[must_use]
    pub fn is_due_sooner(&self) -> bool {
        self.next_due() < self.armed
    }

    /// When the response's head must be there, or before it more of the request's body.
    fn head_due(&self) -> Nanos {
        let body = &self.body;
        match self.kind {
            RequestKind::Plain | RequestKind::Tunnel if !body.done => {
                body.idle_due().min(body.rate_due())
            }
            // Its own deadline, and silence in either direction.
            RequestKind::Grpc => after(body.last(), self.idle_ns()),
            RequestKind::Plain | RequestKind::Tunnel => after(self.asked, self.timeout_ns()),
        }
    }

    /// When this attempt must have its response's head. `unsent`: what counts while it is not sent
    /// yet, so that the question is asked again without a word from its sender.
    fn try_due(&self, unsent: Option<Nanos>) -> Nanos {
        match (self.waited_for_since().or(unsent), self.route()) {
            (Some(since), Some(route)) => after(since, route.retry.per_try_ns),
            _ => Nanos::MAX,
        }
    }

    /// When a probe, of a half-open breaker or of an endpoint that is out, is given back: it is
    /// scarce, and a client that sends slowly, or streams, would hold it. What layers took before
    /// it was given is no time of it.
    fn probe_due(&self) -> Nanos {
        self.breaker_probe_due().min(self.endpoint_probe_due())
    }

    fn breaker_probe_due(&self) -> Nanos {
        match self.breaker {
            Some(permit) if permit.holds_place() => self.probe_end(self.admitted),
            _ => Nanos::MAX,
        }
    }

    fn endpoint_probe_due(&self) -> Nanos {
        self.probes_endpoint_since().map_or(Nanos::MAX, |since| self.probe_end(since))
    }

    fn probe_end(&self, since: Nanos) -> Nanos {
        let slow = self.kind == RequestKind::Grpc || !self.body.done;
        if slow { after(since, self.timeout_ns()) } else { Nanos::MAX }
    }

    /// What it means that the armed time has passed. Ask again at [`next_due`](Self::next_due).
    pub fn due(&mut self, paused: Paused, now: Nanos) -> Due {
        if now >= self.breaker_probe_due() {
            self.give_probe_back(now);
        }
        if now >= self.endpoint_probe_due() {
            self.settle_endpoint(EndpointOutcome::Neutral, now);
        }
        if now >= self.deadline {
            return Due::Over(Reason::DeadlineExceeded, "");
        }
        let too_long = Due::Over(Reason::LayerError, "a layer took over 30 s");
        match self.awaited {
            _ if now >= self.work_due() => too_long,
            Awaited::Layer(since) if now >= since + LAYER => too_long,
            Awaited::Head | Awaited::Byte(_) if self.is_at_work() => self.not_yet(now),
            Awaited::Head if now >= self.head_due() => self.head_missing(paused, now),
            Awaited::Head if now >= self.try_due(None) => Due::Attempt(Reason::UpstreamTryTimeout),
            Awaited::Byte(since) if now >= after(since, self.idle_ns()) => {
                Due::Over(self.silent(paused), "idle_timeout")
            }
            _ => self.not_yet(now),
        }
    }

    fn not_yet(&mut self, now: Nanos) -> Due {
        self.last = now;
        Due::NotYet
    }

    fn head_missing(&self, paused: Paused, now: Nanos) -> Due {
        let body: &BodyAccount = &self.body;
        if !body.done && !paused.client {
            // Also a client that awaits 100-continue: neither side can be blamed, one must end it.
            let slow = now >= body.rate_due();
            let detail = if slow { "body slower than its least rate" } else { "body idle" };
            return Due::Over(Reason::RequestTimeout, detail);
        }
        let grpc = self.kind == RequestKind::Grpc;
        let reason = match grpc {
            _ if self.was_kept_from_it(now) => Reason::QueueTimeout,
            // A call may be quiet for as long as it likes: no client knows of how it began.
            true => Reason::UpstreamIdle,
            false => Reason::UpstreamTimeout,
        };
        let detail = match body.done {
            false => "body not taken",
            true if grpc => "idle_timeout",
            true => "timeout",
        };
        Due::Over(reason, detail)
    }

    /// Whether most of the time that there was for a response went by in our own queue, before the
    /// one endpoint was asked.
    fn was_kept_from_it(&self, now: Nanos) -> bool {
        let since = self.waited_for_since().filter(|_| self.attempts() == 1);
        let span = if self.kind == RequestKind::Grpc { self.idle_ns() } else { self.timeout_ns() };
        since.is_some_and(|since| now.since(since).0 < span / 2)
    }

    /// Which side was silent behind the response's head.
    fn silent(&self, paused: Paused) -> Reason {
        match self.kind {
            RequestKind::Tunnel if self.tunnels => Reason::TunnelIdle,
            _ if paused.endpoint => Reason::ClientIdle,
            _ => Reason::UpstreamIdle,
        }
    }

    fn timeout_ns(&self) -> u64 {
        self.route().map_or(0, |r| r.timeout_ns)
    }

    fn idle_ns(&self) -> u64 {
        self.route().map_or(0, |r| r.idle_ns)
    }

    /// A Python layer is at work from now on.
    pub fn await_layer(&mut self, now: Nanos) {
        self.awaited = Awaited::Layer(now);
    }

    /// A layer let the request go on.
    pub(super) fn await_head(&mut self) {
        self.awaited = Awaited::Head;
    }

    /// A byte passed behind the response's head, either way.
    pub fn passed(&mut self, now: Nanos) {
        self.awaited = Awaited::Byte(now);
    }
}

#[cfg(all(test, not(feature = "loom")))]
#[allow(clippy::unwrap_used)] // in helpers, where clippy does not see the test
mod tests {
    use super::*;
    use crate::balance::Rng;
    use crate::exchange::{Arrival, Compiler, Engine, Head, Peer, Verdict};
    use crate::head::{BodyLength, Headers, RequestHead, Scheme, Version};
    use crate::segment::{Segment, SegmentConfig};
    use serde_json::{Value, json};

    const T0: Nanos = Nanos::from_secs(1_000);
    const NOBODY: Paused = Paused { client: false, endpoint: false };
    const OK: Head = Head {
        status: 200,
        grpc: false,
        grpc_status: None,
        bytes: 0,
        tunnel: false,
        retry_after: None,
    };

    fn at(secs: u64) -> Nanos {
        T0 + Nanos::from_secs(secs)
    }

    /// A request at `T0` on a route with a timeout of 5 s and 60 s of silence; `keys` of the route
    /// are added to it.
    fn ticket(keys: &Value, whole: bool, fields: &[(&str, &str)]) -> Box<RequestTicket> {
        let config = SegmentConfig { max_bytes: 4 << 20, worker_slots: 1 };
        let mut compiler = Compiler::new(Segment::anonymous(config).unwrap(), 0, [1, 2]);
        let mut route = json!({
            "name": "all", "action": {"forward": {"upstream": "one"}},
            "timeout_ns": 5_000_000_000_u64, "idle_ns": 60_000_000_000_u64,
            "upgrade": ["websocket"],
        });
        route.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let delta = json!({
            "config_version": 1,
            "listeners": {"edge": {"trusted_hops": 1}},
            "hosts": {"*": [route]},
            "upstreams": {"one": {"endpoints": [{"address": "a:1"}, {"address": "b:1"}]}},
        });
        let engine = Engine::new(1);
        let delta = serde_json::from_value(delta).unwrap();
        engine.swap(compiler.apply(&engine.compiled(), delta, T0).unwrap());
        let mut head = head(whole, fields);
        let client = engine.compiled().clean(0, &Peer::new(None, [1, 2]), &mut head);
        let arrival = Arrival { head: &head, now: T0 };
        let (ticket, verdict) = engine.begin(&engine.compiled(), 0, whole, client, &arrival);
        assert!(matches!(verdict, Verdict::Forward(_)), "{verdict:?}");
        ticket
    }

    fn head(whole: bool, fields: &[(&str, &str)]) -> RequestHead {
        let mut headers = Headers::default();
        let (method, path) = (headers.append(b"POST"), headers.append(b"/"));
        fields.iter().for_each(|(name, value)| headers.push(name.as_bytes(), value.as_bytes()));
        let upgrade = headers.get(b"upgrade").map(<[u8]>::to_vec);
        let upgrade = upgrade.map(|protocol| headers.append(&protocol));
        RequestHead {
            version: Version::Http2,
            method,
            scheme: Scheme::Http,
            authority: path,
            host: path,
            path,
            forward_path: path,
            raw_path: path,
            oddities: crate::path::Oddities::NONE,
            query: None,
            body: if whole { BodyLength::Empty } else { BodyLength::Streamed },
            keep_alive: true,
            expect_continue: false,
            upgrade,
            vouched: false,
            via: false,
            binds: false,
            headers,
        }
    }

    fn plain(whole: bool) -> Box<RequestTicket> {
        ticket(&json!({}), whole, &[])
    }

    fn responded(mut ticket: Box<RequestTicket>, head: Head, now: Nanos) -> Box<RequestTicket> {
        ticket.responded(head, now, &mut Rng::new(1));
        ticket
    }

    /// What is due when something is, and not a nanosecond sooner.
    fn due_at(ticket: &mut RequestTicket, paused: Paused, expected: Nanos) -> Due {
        assert_eq!(ticket.next_due(), expected);
        assert_eq!(ticket.due(paused, Nanos(expected.0 - 1)), Due::NotYet);
        ticket.due(paused, expected)
    }

    #[test]
    fn a_whole_request_has_the_timeout_from_its_head() {
        let due = due_at(&mut plain(true), NOBODY, at(5));
        assert_eq!(due, Due::Over(Reason::UpstreamTimeout, "timeout"));
        let mut endless = ticket(&json!({"timeout_ns": 0}), true, &[]);
        assert_eq!(endless.next_due(), Nanos::MAX);
        assert_eq!(endless.due(NOBODY, at(1_000_000)), Due::NotYet);
    }

    #[test]
    fn a_body_has_its_idle_time_then_the_response_the_timeout() {
        let mut slow = plain(false);
        let idle = Due::Over(Reason::RequestTimeout, "body idle");
        slow.received(100_000, true, at(3));
        assert_eq!(due_at(&mut slow, NOBODY, at(33)), idle);
        slow.request_ended(at(9));
        assert_eq!(
            due_at(&mut slow, NOBODY, at(14)),
            Due::Over(Reason::UpstreamTimeout, "timeout")
        );
    }

    #[test]
    fn a_timer_is_set_again_only_for_what_is_due_sooner() {
        let mut slow = plain(false);
        let first = slow.arm();
        for second in 1..12 {
            slow.received(10_000, true, at(second));
            assert!(!slow.is_due_sooner(), "a piece only moves it on");
            assert_eq!(slow.due(NOBODY, first.min(at(second))), Due::NotYet);
        }
        slow.request_ended(at(12));
        assert!(slow.is_due_sooner(), "the response has less time than a silent body");
        assert_eq!(slow.arm(), at(17));
        let mut streaming = responded(slow, OK, at(16));
        for second in 16..75 {
            streaming.relayed(1, at(second), 0);
            assert!(!streaming.is_due_sooner());
        }
        assert_eq!(streaming.due(NOBODY, at(20)), Due::NotYet);
        assert_eq!(streaming.arm(), at(74 + 60));
    }

    #[test]
    fn a_body_has_its_least_rate() {
        let mut dripping = plain(false);
        dripping.received(500, true, at(20));
        let due = due_at(&mut dripping, NOBODY, at(21));
        assert_eq!(due, Due::Over(Reason::RequestTimeout, "body slower than its least rate"));
    }

    #[test]
    fn a_client_that_is_not_read_is_not_slow() {
        let mut held = plain(false);
        held.received(1, true, T0);
        held.reading(false, at(1));
        let paused = Paused { client: true, endpoint: false };
        let due = due_at(&mut held, paused, at(30));
        assert_eq!(due, Due::Over(Reason::UpstreamTimeout, "body not taken"));
    }

    #[test]
    fn a_layer_has_thirty_seconds_on_either_side() {
        let mut looked_at = plain(true);
        looked_at.await_layer(at(1));
        let slow = Due::Over(Reason::LayerError, "a layer took over 30 s");
        assert_eq!(due_at(&mut looked_at, NOBODY, at(31)), slow);
        looked_at.await_head();
        assert_eq!(looked_at.next_due(), at(5));
    }

    #[test]
    fn an_attempt_has_its_own_time_once_the_request_is_there() {
        let mut tried = ticket(
            &json!({"retry": {
                "retries": 1, "connect": true, "reset": true, "per_try_ns": 2_000_000_000_u64,
            }}),
            false,
            &[],
        );
        assert_eq!(tried.next_due(), at(2), "asked again, for it is not sent");
        tried.request_ended(at(1));
        tried.sent(at(1));
        assert_eq!(due_at(&mut tried, NOBODY, at(3)), Due::Attempt(Reason::UpstreamTryTimeout));
        let due = tried.due(NOBODY, at(6));
        assert_eq!(due, Due::Over(Reason::UpstreamTimeout, "timeout"), "the request's comes first");
    }

    #[test]
    fn behind_the_head_either_side_may_be_silent_for_the_idle_time() {
        let silent = |paused| {
            let mut ticket = responded(plain(true), OK, at(1));
            ticket.relayed(5, at(2), 0);
            due_at(&mut ticket, paused, at(62))
        };
        let over = |reason| Due::Over(reason, "idle_timeout");
        assert_eq!(silent(NOBODY), over(Reason::UpstreamIdle));
        assert_eq!(silent(Paused { endpoint: true, client: true }), over(Reason::ClientIdle));
        // What the client sends counts as well.
        let mut upload = responded(plain(false), OK, at(1));
        upload.received(1, true, at(9));
        assert_eq!(upload.next_due(), at(69));
        let endless = responded(ticket(&json!({"idle_ns": 0}), true, &[]), OK, at(1));
        assert_eq!(endless.next_due(), Nanos::MAX);
    }

    #[test]
    fn a_tunnel_has_the_timeout_until_the_endpoint_agrees_then_the_idle_time() {
        let asking = || ticket(&json!({}), true, &[("upgrade", "websocket")]);
        let due = due_at(&mut asking(), NOBODY, at(5));
        assert_eq!(due, Due::Over(Reason::UpstreamTimeout, "timeout"));
        let mut open = responded(asking(), Head { status: 101, tunnel: true, ..OK }, at(1));
        let paused = Paused { client: true, endpoint: true };
        let due = due_at(&mut open, paused, at(61));
        assert_eq!(due, Due::Over(Reason::TunnelIdle, "idle_timeout"));
        let mut refused = responded(asking(), OK, at(1));
        let due = due_at(&mut refused, NOBODY, at(61));
        assert_eq!(due, Due::Over(Reason::UpstreamIdle, "idle_timeout"));
    }

    #[test]
    fn a_call_has_silence_and_its_own_deadline_and_no_timeout() {
        let grpc = ("content-type", "application/grpc");
        let mut call = ticket(&json!({}), false, &[grpc]);
        call.received(1, true, at(7));
        assert!(matches!(due_at(&mut call, NOBODY, at(67)), Due::Over(..)));
        let mut bounded = ticket(&json!({}), false, &[grpc, ("grpc-timeout", "9S")]);
        let over = Due::Over(Reason::DeadlineExceeded, "");
        assert_eq!(due_at(&mut bounded, NOBODY, at(9)), over);
        let mut answering = responded(bounded, Head { grpc: true, ..OK }, at(8));
        assert_eq!(due_at(&mut answering, NOBODY, at(9)), over);
    }

    #[test]
    fn a_hook_has_its_own_time_and_nobody_else_any_meanwhile() {
        let slow = Due::Over(Reason::LayerError, "a layer took over 30 s");
        let mut upload = plain(false);
        upload.make_body();
        upload.at_work(true, true, at(3));
        upload.reading(false, at(3));
        assert_eq!(upload.next_due(), at(33), "not the client's");
        assert_eq!(upload.due(NOBODY, at(32)), Due::NotYet);
        upload.at_work(true, false, at(32));
        upload.reading(true, at(32));
        assert_eq!(upload.next_due(), at(49), "its least rate goes on");
        upload.at_work(true, true, at(40));
        assert_eq!(upload.due(NOBODY, at(70)), slow);

        let mut asked = plain(true);
        asked.make_body();
        asked.at_work(true, true, T0);
        asked.at_work(true, false, at(20));
        asked.request_ended(at(20));
        assert_eq!(asked.next_due(), at(25), "the endpoint's begins with the end");

        let retry =
            json!({"retries": 1, "connect": true, "reset": true, "per_try_ns": 2_000_000_000_u64});
        let mut tried = ticket(&json!({"retry": retry}), true, &[]);
        tried.make_body();
        tried.at_work(true, true, T0);
        assert_eq!(tried.due(NOBODY, at(2)), Due::NotYet);
        tried.at_work(true, false, at(4));
        assert_eq!(tried.next_due(), at(6), "an attempt's time does not begin before it is sent");

        let mut download = responded(plain(true), OK, at(1));
        download.at_work(false, true, at(2));
        assert_eq!(download.next_due(), at(32));
        assert_eq!(download.due(Paused { endpoint: true, client: false }, at(31)), Due::NotYet);
        download.at_work(false, false, at(31));
        assert_eq!(download.next_due(), at(91), "silence counts from there");
    }

    #[test]
    fn a_deadline_that_a_trusted_proxy_sets_goes_before_everything() {
        let mut bounded = ticket(&json!({}), true, &[("x-mesh-deadline-ms", "2000")]);
        bounded.await_layer(T0);
        let over = Due::Over(Reason::DeadlineExceeded, "");
        assert_eq!(due_at(&mut bounded, NOBODY, at(2)), over);
        assert_eq!(bounded.due(NOBODY, at(100)), over);
    }
}
