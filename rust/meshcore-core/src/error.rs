//! Why a request was answered here: one stable code each, who is to blame, and what is sent.

/// Who caused a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The client sent something that may not pass.
    Downstream,
    /// The service behind us failed or refused.
    Upstream,
    /// meshcore's own rules or faults.
    Internal,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:literal, $grpc:literal, $blame:ident, $retryable:literal;)+) => {
        /// The stable reason of a local answer, as sent in `x-mesh-reason` and counted in metrics.
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
            /// Whose fault it is.
            #[must_use]
            pub const fn blame(self) -> Blame { match self { $(Self::$variant => Blame::$blame),+ } }
            /// Whether another attempt at another endpoint may succeed.
            #[must_use]
            pub const fn retryable(self) -> bool { match self { $(Self::$variant => $retryable),+ } }
        }
    };
}

reasons! {
    /// Malformed or ambiguous request.
    BadRequest = "bad_request", 400, 13, Downstream, false;
    /// CONNECT or TRACE where no route allows it.
    MethodNotAllowed = "method_not_allowed", 405, 12, Downstream, false;
    /// The head or the body came too slowly.
    RequestTimeout = "request_timeout", 408, 4, Downstream, false;
    /// The body is over its limit.
    BodyTooLarge = "body_too_large", 413, 8, Downstream, false;
    /// The request target is over its limit.
    UriTooLong = "uri_too_long", 414, 13, Downstream, false;
    /// An `Expect` other than `100-continue`.
    ExpectationFailed = "expectation_failed", 417, 13, Downstream, false;
    /// Too many header fields, or too many bytes of them.
    HeadersTooLarge = "headers_too_large", 431, 13, Downstream, false;
    /// A transfer coding other than `chunked`.
    UnknownTransferCoding = "unknown_transfer_coding", 501, 12, Downstream, false;
    /// An HTTP version that is not spoken here.
    VersionNotSupported = "version_not_supported", 505, 12, Downstream, false;
    /// No route matches.
    NoRoute = "no_route", 404, 12, Internal, false;
    /// A limiter refused.
    RateLimited = "rate_limited", 429, 8, Internal, false;
    /// The breaker of the upstream or the route is open.
    BreakerOpen = "breaker_open", 503, 14, Internal, false;
    /// Every endpoint is ejected, draining or already tried.
    NoHealthyEndpoint = "no_healthy_endpoint", 503, 14, Internal, false;
    /// A cap on connections, pending or active requests is reached.
    Overflow = "overflow", 503, 14, Internal, false;
    /// The connection to the endpoint failed or timed out.
    UpstreamConnect = "upstream_connect", 502, 14, Upstream, true;
    /// The endpoint closed or reset before a response.
    UpstreamReset = "upstream_reset", 502, 14, Upstream, true;
    /// The endpoint answered something that is not HTTP, or is ambiguous.
    UpstreamProtocol = "upstream_protocol", 502, 14, Upstream, false;
    /// The endpoint did not answer in time.
    UpstreamTimeout = "upstream_timeout", 504, 4, Upstream, false;
    /// A Python layer raised.
    LayerError = "layer_error", 500, 13, Internal, false;
    /// A fault of meshcore itself.
    InternalError = "internal_error", 500, 13, Internal, false;
    /// The time to drain was over before there was a response.
    Draining = "draining", 503, 14, Internal, true;
    /// A redirect that the configuration asks for.
    Redirect = "redirect", 302, 12, Internal, false;
    /// A direct response that the configuration asks for.
    DirectResponse = "direct_response", 200, 12, Internal, false;
    /// A Python layer answered.
    LayerResponse = "layer_response", 200, 0, Internal, false;
    /// The client left before the response was complete (logged only, never sent).
    ClientGone = "client_gone", 499, 1, Downstream, false;
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
}
