//! A client and a server that hear each other.

use std::sync::Arc;

pub(crate) use meshcore_core::tls::ServerSpec;
use meshcore_core::tls::{
    ClientAuth, ClientContext, ClientSpec, Clock, ContextError, Failure, Opened, Pair,
    ServerContext, Session, TicketKeys, TicketRing, Trust, Version,
};

use rustls::ClientConnection;

use crate::authority::{Authority, NOW_S};

pub(crate) fn server_spec(pairs: Vec<Pair>) -> ServerSpec {
    ServerSpec {
        listener: "edge".to_owned(),
        pairs,
        alpn: Vec::new(),
        least: Version::Tls12,
        clients: ClientAuth::None,
        named: Vec::new(),
        key_log: None,
    }
}

pub(crate) fn client_spec(trust: Trust) -> ClientSpec {
    ClientSpec {
        trust: Some(trust),
        pair: None,
        alpn: Vec::new(),
        least: Version::Tls12,
        key_log: None,
    }
}

pub(crate) fn ring(seed: u8) -> TicketRing {
    let ring = TicketRing::default();
    ring.set(vec![Arc::new(TicketKeys::new(&[seed; TicketKeys::BYTES]).unwrap())]);
    ring
}

pub(crate) fn try_server(spec: &ServerSpec) -> Result<ServerContext, ContextError> {
    ServerContext::new(spec, &ring(1), &Clock::at(NOW_S))
}

pub(crate) fn try_client(spec: &ClientSpec) -> Result<ClientContext, ContextError> {
    ClientContext::new(spec, &Clock::at(NOW_S))
}

pub(crate) fn server(spec: &ServerSpec) -> ServerContext {
    try_server(spec).unwrap()
}

pub(crate) fn client(spec: &ClientSpec) -> ClientContext {
    try_client(spec).unwrap()
}

/// One side: its session, and what it met.
pub(crate) struct End {
    pub(crate) session: Session,
    pub(crate) plain: Vec<u8>,
    pub(crate) closed: bool,
    pub(crate) established: usize,
}

impl End {
    fn new(session: Session) -> Self {
        Self { session, plain: Vec::new(), closed: false, established: 0 }
    }

    /// Takes bytes in pieces of this size; what it says to them.
    pub(crate) fn hear(&mut self, data: &[u8], piece: usize) -> Vec<u8> {
        let mut said = Vec::new();
        for part in data.chunks(piece) {
            let Opened { established, peer_closed, .. } =
                self.session.receive(&mut part.to_vec(), &mut self.plain);
            self.established += usize::from(established);
            self.closed |= peer_closed;
            said.extend(self.session.take_output());
        }
        said
    }

    pub(crate) fn say(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(self.session.seal(plain, &mut out), "not open");
        out
    }

    pub(crate) fn end(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.session.close(&mut out);
        out
    }

    pub(crate) fn failure(&self) -> &Failure {
        self.session.failure().unwrap()
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.session.agreed().unwrap().resumed
    }
}

/// Both sides of a connection.
pub(crate) struct Ends {
    pub(crate) client: End,
    pub(crate) server: End,
}

impl Ends {
    pub(crate) fn new(client: &ClientContext, server: &ServerContext, name: &str) -> Self {
        let client = End::new(client.session(name).unwrap());
        Self { client, server: End::new(server.session().unwrap()) }
    }

    /// Until neither says anything more.
    pub(crate) fn shake(mut self, piece: usize) -> Self {
        let mut flight = self.client.session.take_output();
        while !flight.is_empty() {
            let answer = self.server.hear(&flight, piece);
            flight = self.client.hear(&answer, piece);
        }
        self
    }

    pub(crate) fn assert_whole(&mut self) {
        assert_eq!((self.client.session.failure(), self.server.session.failure()), (None, None));
        let sealed = self.client.say(b"ping");
        assert!(self.server.hear(&sealed, 1_000).is_empty());
        let sealed = self.server.say(b"pong");
        assert!(self.client.hear(&sealed, 1_000).is_empty());
        assert_eq!((&self.server.plain[..], &self.client.plain[..]), (&b"ping"[..], &b"pong"[..]));
        assert_eq!((self.server.established, self.client.established), (1, 1));
    }
}

/// A pair that trusts each other.
pub(crate) fn contexts(least: Version) -> (ClientContext, ServerContext) {
    let authority = Authority::new();
    let server = server(&server_spec(vec![authority.host("a.example")]));
    (client(&ClientSpec { least, ..client_spec(authority.roots()) }), server)
}

/// A client of rustls' own to the end of its handshake, with a HelloRetryRequest too.
pub(crate) fn shake_hands(client: &mut ClientConnection, session: &mut Session) {
    for _ in 0..3 {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        session.receive(&mut flight, &mut Vec::new());
        client.read_tls(&mut &session.take_output()[..]).unwrap();
        client.process_new_packets().unwrap();
    }
}
