//! What the access log tells of a request, drawn from its ticket.

use meshcore_core::head::Version;
use meshcore_core::telemetry::AccessLine;

use crate::clock::unix_ms;
use crate::engine::Peer;
use crate::message::Request;
use crate::ticket::Ticket;

impl Ticket {
    /// Runs `write` with what the access log tells of the request.
    pub(crate) fn with_line(
        &self,
        request: &Request,
        peer: &Peer,
        write: impl FnOnce(&AccessLine<'_>),
    ) {
        let head = &request.head;
        let (ticket, outcome) = (&self.ticket, self.ticket.outcome());
        let failed = outcome.filter(|o| !o.is_answered());
        let rules: Vec<_> = ticket.allowed_by().collect();
        write(&AccessLine {
            unix_ms: unix_ms(),
            listener: ticket.listener(),
            client: &ticket.client().text(&peer.0),
            identity: ticket.client().identity(),
            allow: &rules,
            method: head.slice(head.method),
            host: head.slice(head.host),
            path: head.slice(head.path),
            query: head.query.map(|q| head.slice(q)),
            protocol: match head.version {
                Version::Http10 => "1.0",
                Version::Http11 => "1.1",
                Version::Http2 => "2",
            },
            status: ticket.status(),
            grpc_status: ticket.grpc_status(),
            reason: failed.map_or("", |o| o.reason.code()),
            by: outcome.map_or("", |o| o.by().word()),
            phase: failed.map_or("", |o| o.phase.word()),
            detail: outcome.map_or("", |o| &o.detail),
            route: self.route().map_or("", |r| &r.name),
            endpoint: ticket.endpoint_address(),
            attempts: ticket.attempts(),
            took_ns: ticket.took().0,
            request_id: head
                .headers
                .get(b"x-request-id")
                .unwrap_or_else(|| self.request_id().as_slice()),
            trace_id: ticket.trace().map(|trace| trace.id),
            head_bytes: None,
        });
    }
}
