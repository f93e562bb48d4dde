//! What was decided about a message on its way out, as the codecs take it.

use std::sync::LazyLock;

use super::grpc::format_timeout;
use super::max_forwards::max_forwards;
use super::peer::Peer;
use super::stack::Target;
use super::ticket::{RequestKind, RequestTicket};
use super::tracing::Trace;
use crate::codec::{
    HeaderOps, RequestRules, ResponseRules, Tunnel, WEBSOCKET, WEBSOCKET_KEY, websocket_accept,
};
use crate::head::{RequestHead, ResponseHead, TunnelKind, Version};
use crate::time::Nanos;

static NO_OPS: LazyLock<HeaderOps> = LazyLock::new(HeaderOps::default);

impl RequestTicket {
    /// What its listener writes into `via`.
    #[must_use]
    pub fn via(&self, version: Version) -> &[u8] {
        self.compiled.listener(self.listener).map_or(b"", |l| l.via.value(version))
    }

    /// The route's changes of requests.
    #[must_use]
    pub fn request_ops(&self) -> &HeaderOps {
        self.route().map_or(&NO_OPS, |r| &r.request_ops)
    }

    /// The route's changes of responses.
    #[must_use]
    pub fn response_ops(&self) -> &HeaderOps {
        self.route().map_or(&NO_OPS, |r| &r.response_ops)
    }

    /// Runs `write` with the rules for the request `head` of this ticket, sent at time `now`;
    /// `request_id` is for one that brings none.
    pub fn with_request_rules<T>(
        &self,
        head: &RequestHead,
        peer: &Peer,
        request_id: &[u8],
        now: Nanos,
        write: impl FnOnce(&RequestRules<'_>) -> T,
    ) -> T {
        let (mut path, mut authority) = (None, None);
        if let Some(Target::Forward { path: to, authority: host, .. }) =
            self.route().map(|r| &r.target)
        {
            path = to.as_ref().map(|to| {
                let mut path = Vec::with_capacity(64);
                to.apply(self.matched(), head.slice(head.forward_path), &mut path);
                path
            });
            authority = host.as_deref();
        }
        if authority.is_none() && head.authority.len == 0 {
            // HTTP/1.0 may leave it out, HTTP/1.1 and 2 may not: who is asked is named, where that
            // has a name. O(1).
            let endpoint = self.endpoint_address();
            authority = (!endpoint.starts_with("unix:")).then_some(endpoint.as_bytes());
        }
        let deadline = self.deadline();
        let left = (deadline != Nanos::MAX).then(|| {
            let left = deadline.since(now);
            (format_timeout(left), (left.0 / 1_000_000).max(1).to_string())
        });
        // The walk has let it pass, so it is a number above zero, or a layer's.
        let hops = max_forwards(head).ok().flatten();
        let hops = hops.map(|n| n.saturating_sub(1).to_string());
        write(&RequestRules {
            peer: peer.text().as_bytes(),
            via: self.via(head.version),
            request_id,
            ops: self.request_ops(),
            path: path.as_deref(),
            authority,
            framing: head.body,
            tunnel: head.tunnel().filter(|_| self.kind() == RequestKind::Tunnel),
            left: left.as_ref().map(|(timeout, ms)| (timeout.as_bytes(), ms.as_bytes())),
            as_written: false,
            trace: self.trace().map(Trace::sent),
            max_forwards: hops.as_ref().map(|n| n.as_bytes()),
        })
    }

    /// Adds to the `rules` of a response the tunnel that it begins, if it may, and runs `write`;
    /// `agreed`: the endpoint's head says that one begins.
    pub fn with_tunnel<T>(
        &self,
        request: &RequestHead,
        response: &ResponseHead,
        agreed: bool,
        rules: ResponseRules<'_>,
        write: impl FnOnce(&ResponseRules<'_>) -> T,
    ) -> T {
        let tunnels = self.kind() == RequestKind::Tunnel && agreed;
        let Some(kind) = request.tunnel().filter(|_| tunnels) else { return write(&rules) };
        let key = request.headers.get(WEBSOCKET_KEY);
        let websocket = kind == TunnelKind::Upgrade(WEBSOCKET);
        let made = websocket && response.version == Version::Http2;
        let accept = key.filter(|_| made).map(websocket_accept);
        write(&ResponseRules {
            tunnel: Some(Tunnel { kind, accept: accept.as_ref().map(String::as_bytes) }),
            ..rules
        })
    }
}
