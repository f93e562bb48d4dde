//! How a request or an attempt ends: one stable code each, who ended it, and what follows from it.
//!
//! This table is the only place that says so. What an endpoint's own status means to a breaker or
//! a retry is a matter of their rules (`admission::FailureRules`, `snapshot::Retry`).

/// Who ended a request, or an attempt of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The client: it left, was too slow, set a deadline or sent what may not pass.
    Client,
    /// The endpoint: it answered, or failed to.
    Endpoint,
    /// meshcore: its rules, its limits, what it lacks, its faults.
    Proxy,
}

impl By {
    /// The word that logs and metrics use.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Endpoint => "endpoint",
            Self::Proxy => "proxy",
        }
    }
}

/// What an end says about the endpoint and its service, if anything.
///
/// What a client chose, and what we refuse or lack, says nothing about either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// Nothing.
    Nobody,
    /// No connection: counts for the endpoint's ejection and for breakers.
    Connect,
    /// Closed or reset without a response: the same.
    Reset,
    /// No response in time: the same.
    Timeout,
    /// It answered, and not in HTTP: to breakers as the 502 that the client gets; the endpoint is
    /// not ejected, for what one URL answers says nothing about the others.
    Malformed,
}

/// Which part of a retry policy lets an attempt that ended so be followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Again {
    /// None.
    Never,
    /// `connect`: nothing was sent.
    Connect,
    /// `refused`: nothing was processed.
    Refused,
    /// `reset`: cut before any byte of the response.
    Reset,
    /// `reset`, and at once, on a new connection to the same endpoint: the kept one was stale.
    Stale,
    /// `per_try`: this attempt's time was over, the request's was not.
    PerTry,
    /// The statuses that the policy names.
    Status,
}

impl Again {
    /// Whether the endpoint did nothing for the attempt, so that any method may follow it.
    #[must_use]
    pub const fn is_untouched(self) -> bool {
        matches!(self, Self::Connect | Self::Refused)
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:literal, $grpc:literal, $by:ident, $blame:ident, $again:ident;)+) => {
        /// Why a request, or an attempt of it, ended: as sent in `x-mesh-reason`, logged, counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $variant),+ }

        impl Reason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The code as it is written: lower case, words joined by underscores.
            #[must_use]
            pub const fn code(self) -> &'static str { match self { $(Self::$variant => $code),+ } }
            /// The HTTP status of the local answer.
            #[must_use]
            pub const fn status(self) -> u16 { match self { $(Self::$variant => $status),+ } }
            /// The gRPC status of the local answer (a trailers-only 200 carries it).
            #[must_use]
            pub const fn grpc_status(self) -> u8 { match self { $(Self::$variant => $grpc),+ } }
            /// Who ended it.
            #[must_use]
            pub const fn by(self) -> By { match self { $(Self::$variant => By::$by),+ } }
            /// What it says about the endpoint and its service.
            #[must_use]
            pub const fn blame(self) -> Blame { match self { $(Self::$variant => Blame::$blame),+ } }
            /// What of a retry policy allows another attempt.
            #[must_use]
            pub const fn again(self) -> Again { match self { $(Self::$variant => Again::$again),+ } }
        }
    };
}

reasons! {
    /// Malformed or ambiguous request.
    BadRequest = "bad_request", 400, 13, Client, Nobody, Never;
    /// CONNECT or TRACE where no route allows it.
    MethodNotAllowed = "method_not_allowed", 405, 12, Client, Nobody, Never;
    /// The head or the body came too slowly.
    RequestTimeout = "request_timeout", 408, 4, Client, Nobody, Never;
    /// The body is over its limit.
    BodyTooLarge = "body_too_large", 413, 8, Client, Nobody, Never;
    /// The request target is over its limit.
    UriTooLong = "uri_too_long", 414, 13, Client, Nobody, Never;
    /// An `Expect` other than `100-continue`.
    ExpectationFailed = "expectation_failed", 417, 13, Client, Nobody, Never;
    /// Too many header fields, or too many bytes of them.
    HeadersTooLarge = "headers_too_large", 431, 13, Client, Nobody, Never;
    /// A transfer coding other than `chunked`.
    UnknownTransferCoding = "unknown_transfer_coding", 501, 12, Client, Nobody, Never;
    /// An HTTP version that is not spoken here.
    VersionNotSupported = "version_not_supported", 505, 12, Client, Nobody, Never;
    /// No route matches.
    NoRoute = "no_route", 404, 12, Proxy, Nobody, Never;
    /// A limiter refused.
    RateLimited = "rate_limited", 429, 8, Proxy, Nobody, Never;
    /// The breaker of the upstream or the route is open.
    BreakerOpen = "breaker_open", 503, 14, Proxy, Nobody, Never;
    /// Every endpoint is ejected, draining or already tried.
    NoHealthyEndpoint = "no_healthy_endpoint", 503, 14, Proxy, Nobody, Never;
    /// A cap on connections, pending or active requests is reached.
    Overflow = "overflow", 503, 14, Proxy, Nobody, Never;
    /// The connection to the endpoint failed or timed out.
    UpstreamConnect = "upstream_connect", 502, 14, Endpoint, Connect, Connect;
    /// The endpoint closed or reset, before a response or within it.
    UpstreamReset = "upstream_reset", 502, 14, Endpoint, Reset, Reset;
    /// The endpoint answered something that is not HTTP, or is ambiguous.
    UpstreamProtocol = "upstream_protocol", 502, 14, Endpoint, Malformed, Never;
    /// The endpoint did not answer in time.
    UpstreamTimeout = "upstream_timeout", 504, 4, Endpoint, Timeout, Never;
    /// A Python layer raised, or took too long.
    LayerError = "layer_error", 500, 13, Proxy, Nobody, Never;
    /// A fault of meshcore itself.
    InternalError = "internal_error", 500, 13, Proxy, Nobody, Never;
    /// The time to drain was over before there was a response.
    Draining = "draining", 503, 14, Proxy, Nobody, Never;
    /// A redirect that the configuration asks for.
    Redirect = "redirect", 302, 2, Proxy, Nobody, Never;
    /// A direct response that the configuration asks for.
    DirectResponse = "direct_response", 200, 2, Proxy, Nobody, Never;
    /// A Python layer answered.
    LayerResponse = "layer_response", 200, 2, Proxy, Nobody, Never;
    /// The client left before the response was complete (logged only, never sent).
    ClientGone = "client_gone", 499, 1, Client, Nobody, Never;
    /// The head of the endpoint's response is over our limits.
    ResponseTooLarge = "response_too_large", 502, 14, Proxy, Nobody, Never;
    /// The endpoint processed nothing of the request, and said so (RFC 9113 §8.7).
    UpstreamRefused = "upstream_refused", 502, 14, Endpoint, Nobody, Refused;
    /// A kept connection had ended before the request could reach the endpoint (RFC 9112 §9.3.1).
    UpstreamStale = "upstream_stale", 502, 14, Endpoint, Nobody, Stale;
    /// An attempt had its time (`retry.per_try`), and no other followed.
    UpstreamTryTimeout = "upstream_try_timeout", 504, 4, Endpoint, Timeout, PerTry;
    /// The endpoint fell silent within its response, or did not begin that of a gRPC call.
    UpstreamIdle = "upstream_idle", 504, 4, Endpoint, Nobody, Never;
    /// The endpoint's name could not be resolved.
    UpstreamResolve = "upstream_resolve", 503, 14, Proxy, Nobody, Connect;
    /// The request waited too long for a connection that our own caps did not allow.
    QueueTimeout = "queue_timeout", 504, 4, Proxy, Nobody, Never;
    /// The process has no descriptor, port or memory left for a connection.
    NoResources = "no_resources", 503, 14, Proxy, Nobody, Never;
    /// The deadline that the client set itself has passed.
    DeadlineExceeded = "deadline_exceeded", 504, 4, Client, Nobody, Never;
    /// The client did not take the response in time (never sent).
    ClientIdle = "client_idle", 408, 4, Client, Nobody, Never;
    /// Nothing passed through a tunnel for too long (never sent).
    TunnelIdle = "tunnel_idle", 504, 4, Proxy, Nobody, Never;
    /// The endpoint answered with a status that the route tries again (of an attempt, never sent).
    UpstreamStatus = "upstream_status", 502, 14, Endpoint, Nobody, Status;
    /// The endpoint answered, and all of it was passed on (never sent).
    Answered = "answered", 200, 0, Endpoint, Nobody, Never;
    /// The endpoint's protocol has no way to say the upgrade that the client asks for.
    UpgradeUnsupported = "upgrade_unsupported", 501, 12, Endpoint, Nobody, Never;
    /// An OPTIONS or TRACE that asks to be answered here: its `max-forwards` is 0.
    MaxForwards = "max_forwards", 200, 0, Client, Nobody, Never;
    /// The request has come through the same listener too often: it goes in a circle.
    LoopDetected = "loop_detected", 508, 9, Proxy, Nobody, Never;
    /// For a host whose clients are verified by another rule than the connection's, or of a client
    /// that would not come in any more.
    Misdirected = "misdirected", 421, 7, Client, Nobody, Never;
    /// No rule of an `allow` layer lets it pass.
    Forbidden = "forbidden", 403, 7, Proxy, Nobody, Never;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_number_order() {
        let mut seen = std::collections::HashSet::new();
        for (i, r) in Reason::ALL.iter().enumerate() {
            assert_eq!(*r as usize, i);
            assert!(seen.insert(r.code()), "{} twice", r.code());
            assert!(r.code().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert!((200..600).contains(&r.status()));
            assert!(r.grpc_status() <= 16);
        }
    }

    #[test]
    fn only_an_endpoint_is_blamed() {
        for reason in Reason::ALL {
            assert!(reason.blame() == Blame::Nobody || reason.by() == By::Endpoint, "{reason:?}");
        }
    }
}
