//! A message on its way out: what the core's ticket says of it, with Python's objects unpacked.

use meshcore_core::codec::{RequestRules, ResponseRules};

use crate::clock::Ns;
use crate::engine::Peer;
use crate::message::{Request, Response};
use crate::ticket::Ticket;

/// Draws the rules from a request's ticket and runs `write` with them.
pub(crate) fn with_rules<T>(
    request: &Request,
    ticket: &Ticket,
    peer: &Peer,
    now_ns: Ns,
    write: impl FnOnce(&RequestRules<'_>) -> T,
) -> T {
    let (id, now) = (ticket.request_id(), now_ns.into());
    ticket.ticket.with_request_rules(&request.head, &peer.0, id, now, write)
}

/// Adds to the rules of a response the tunnel that it begins, if it does, and runs `write`.
pub(crate) fn with_tunnel<T>(
    request: &Request,
    response: &Response,
    ticket: &Ticket,
    rules: ResponseRules<'_>,
    write: impl FnOnce(&ResponseRules<'_>) -> T,
) -> T {
    let agreed = response.begins_tunnel();
    ticket.ticket.with_tunnel(&request.head, &response.head, agreed, rules, write)
}
