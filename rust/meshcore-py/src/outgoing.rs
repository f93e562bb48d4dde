//! What the exchange decided about a message on its way out, as the codecs take it.

use meshcore_core::codec::{RequestRules, ResponseRules, Tunnel, WEBSOCKET_KEY, websocket_accept};
use meshcore_core::exchange::{Kind, Target, format_timeout, max_forwards};
use meshcore_core::head::Version;
use meshcore_core::time::Nanos;

use crate::engine::Peer;
use crate::message::{Request, Response};
use crate::ticket::Ticket;

/// Draws the rules from a request's ticket and runs `write` with them.
pub(crate) fn with_rules<T>(
    request: &Request,
    ticket: &Ticket,
    peer: &Peer,
    now_ns: u64,
    write: impl FnOnce(&RequestRules<'_>) -> T,
) -> T {
    let head = &request.head;
    let (mut path, mut authority) = (None, None);
    if let Some(Target::Forward { path: to, authority: host, .. }) =
        ticket.route().map(|r| &r.target)
    {
        path = to.as_ref().map(|to| {
            let mut path = Vec::with_capacity(64);
            to.apply(ticket.ticket.matched(), head.slice(head.forward_path), &mut path);
            path
        });
        authority = host.as_deref();
    }
    let deadline = ticket.ticket.deadline();
    let left = (deadline != Nanos::MAX).then(|| {
        let left = deadline.since(Nanos(now_ns));
        (format_timeout(left), (left.0 / 1_000_000).max(1).to_string())
    });
    // The walk has let it pass, so it is a number above zero, or a layer's.
    let hops = max_forwards(head).ok().flatten();
    let hops = hops.map(|n| n.saturating_sub(1).to_string());
    write(&RequestRules {
        peer: peer.0.text().as_bytes(),
        via: ticket.ticket.via(head.version),
        request_id: ticket.request_id(),
        ops: ticket.request_ops(),
        path: path.as_deref(),
        authority,
        framing: head.body,
        tunnel: head.tunnel().filter(|_| ticket.ticket.kind() == Kind::Tunnel),
        left: left.as_ref().map(|(timeout, ms)| (timeout.as_bytes(), ms.as_bytes())),
        max_forwards: hops.as_ref().map(|n| n.as_bytes()),
    })
}

/// Adds to the rules of a response the tunnel that it begins, if it does, and runs `write`.
pub(crate) fn with_tunnel<T>(
    request: &Request,
    response: &Response,
    ticket: &Ticket,
    rules: ResponseRules<'_>,
    write: impl FnOnce(&ResponseRules<'_>) -> T,
) -> T {
    let tunnels = ticket.ticket.kind() == Kind::Tunnel && response.begins_tunnel();
    let Some(kind) = request.head.tunnel().filter(|_| tunnels) else { return write(&rules) };
    let key = request.head.headers.get(WEBSOCKET_KEY);
    let spoke_h2 = response.head.version == Version::Http2;
    let accept = key.filter(|_| spoke_h2).map(websocket_accept);
    write(&ResponseRules {
        tunnel: Some(Tunnel { kind, accept: accept.as_ref().map(String::as_bytes) }),
        ..rules
    })
}
