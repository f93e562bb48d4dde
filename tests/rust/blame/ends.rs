//! A request ends once, in whatever state, and leaves nothing behind.

use meshcore_core::error::Reason;
use meshcore_core::exchange::{
    Cause, Head, Next, Outcome, Passed, Paused, Phase, RequestTicket, Verdict,
};
use meshcore_core::head::{BodyLength, RequestHead};
use meshcore_core::time::Nanos;
use proptest::prelude::*;
use serde_json::json;

use crate::mesh::{ANSWER, Config, Mesh, get, grpc, post};

const CAP: usize = 12;
const BUFFERS: u64 = 65_536;

/// One call on a ticket, as an exchange may make it.
#[derive(Clone, Copy, Debug)]
enum Call {
    Resume,
    Sent,
    Data(u64),
    End,
    Read(bool),
    Fail(usize, bool),
    Head(u16, bool),
    Data2(u64),
    Trailers(u8),
    Due,
    Answer(usize),
    Cut(usize),
    Finish,
}

fn calls() -> impl Strategy<Value = Call> {
    let reasons = 0..Reason::ALL.len();
    prop_oneof![
        3 => Just(Call::Resume),
        2 => Just(Call::Sent),
        1 => (0u64..100_000).prop_map(Call::Data),
        1 => Just(Call::End),
        1 => any::<bool>().prop_map(Call::Read),
        3 => (reasons.clone(), any::<bool>()).prop_map(|(r, counted)| Call::Fail(r, counted)),
        2 => (prop_oneof![Just(200), Just(503)], any::<bool>()).prop_map(|(s, g)| Call::Head(s, g)),
        1 => (0u64..10).prop_map(Call::Data2),
        1 => (0u8..17).prop_map(Call::Trailers),
        1 => Just(Call::Due),
        1 => reasons.clone().prop_map(Call::Answer),
        1 => reasons.prop_map(Call::Cut),
        1 => Just(Call::Finish),
    ]
}

/// A request as its exchange knows it.
struct Asked {
    head: RequestHead,
    ticket: Box<RequestTicket>,
    /// It has an endpoint.
    forwarded: bool,
    /// A response's head came.
    headed: bool,
    /// It is over: this is why.
    ended: Option<Outcome>,
    how: How,
}

/// How a request ended first.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Not,
    Answered,
    Cut,
    Passed,
}

impl Asked {
    fn new(mesh: &Mesh, kind: usize) -> Self {
        let (head, whole) = match kind % 4 {
            0 => (get(), true),
            1 => (post(BodyLength::Known(1_000)), false),
            2 => (post(BodyLength::Streamed), false),
            _ => (grpc(&[("grpc-timeout", "1S")]), false),
        };
        let (ticket, verdict) = mesh.begin(&head, whole);
        let mut new =
            Self { head, ticket, forwarded: false, headed: false, ended: None, how: How::Not };
        new.follow(mesh, verdict);
        new
    }

    fn follow(&mut self, mesh: &Mesh, verdict: Verdict) {
        match verdict {
            Verdict::Forward(_) => self.forwarded = true,
            Verdict::Answer(answer) => self.answer(mesh, answer.reason),
            Verdict::Pause(_) | Verdict::Await => {}
        }
    }

    fn answer(&mut self, mesh: &Mesh, reason: Reason) {
        let outcome = Outcome::of(reason, Phase::Layers).because("first");
        self.ticket.answered(
            reason.status(),
            None,
            outcome.clone(),
            &mut Cause::default(),
            (mesh.now, 7),
        );
        self.end(outcome, How::Answered);
    }

    fn cut(&mut self, mesh: &mut Mesh, reason: Reason) {
        let outcome = Outcome::of(reason, Phase::Answering);
        let rand = mesh.rng.next_u64();
        self.ticket.cut(outcome.clone(), &mut Cause::default(), mesh.now, rand);
        self.end(outcome, How::Cut);
    }

    fn end(&mut self, outcome: Outcome, how: How) {
        if self.ended.is_none() {
            (self.ended, self.how) = (Some(outcome), how);
        }
    }

    /// Calls what may be called now; an end may be told twice.
    fn call(&mut self, mesh: &mut Mesh, call: Call) {
        let (now, rand) = (mesh.now, mesh.rng.next_u64());
        let waits = self.forwarded && !self.headed && self.ended.is_none();
        let passes = self.headed && self.ended.is_none();
        let ticket = &mut self.ticket;
        match call {
            Call::Resume if !self.forwarded && self.ended.is_none() => {
                let verdict = mesh.resume(ticket, &self.head);
                self.follow(mesh, verdict);
            }
            Call::Sent if waits => {
                ticket.sent(mesh.now);
            }
            Call::Data(bytes) if self.ended.is_none() => {
                ticket.received(bytes, self.forwarded, now);
            }
            Call::End if self.ended.is_none() => ticket.request_ended(now),
            Call::Read(on) => ticket.reading(on, now),
            Call::Fail(reason, counted) if waits => {
                let reason = Reason::ALL[reason];
                let mut cause = if counted { Cause::excused() } else { Cause::default() };
                match ticket.failed(reason, &mut cause, now, &mut mesh.rng) {
                    Next::Again { at, .. } => mesh.now = at,
                    Next::Fresh => {}
                    Next::Answer(_) => self.answer(mesh, reason),
                }
            }
            Call::Head(status, grpc) if waits => {
                let head = Head { status, grpc, ..ANSWER };
                match ticket.responded(head, now, &mut mesh.rng) {
                    Passed::Again { at, .. } => mesh.now = at,
                    Passed::Relay | Passed::Tunnel => self.headed = true,
                    Passed::TooEarly => self.answer(mesh, Reason::UpstreamProtocol),
                }
            }
            Call::Data2(bytes) if passes => ticket.relayed(bytes, now, rand),
            Call::Trailers(status) if passes => ticket.trailed(status, now, rand),
            Call::Due if self.ended.is_none() => {
                ticket.due(Paused::default(), now);
            }
            Call::Answer(reason) if !self.headed && self.ended.is_none() => {
                self.answer(mesh, Reason::ALL[reason]);
            }
            Call::Cut(reason) => self.cut(mesh, Reason::ALL[reason]),
            Call::Finish if passes || self.ended.is_some() => {
                ticket.finish(now, rand);
                self.end(Outcome::of(Reason::Answered, Phase::Over), How::Passed);
            }
            _ => {}
        }
    }
}

fn config(layer: bool, endpoints: usize) -> Config {
    let mut layers = vec![json!({"in_flight": {"max": CAP}})];
    if layer {
        layers.insert(0, json!({"python": {"name": "a:B"}}));
    }
    let retry = json!({
        "retries": 2, "per_try_ns": 100_000_000, "connect": true, "reset": true, "statuses": [503],
    });
    let mut config = Config::new(endpoints)
        .route("layers", json!(layers))
        .route("retry", retry)
        .upstream("breaker", json!({"failures": 3, "probes": 2, "open_for_ns": 1_000_000}))
        .upstream("ejection", json!({"failures": 2}))
        .upstream("client_share_percent", json!(80));
    config.buffer_total = BUFFERS;
    config
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_happens_a_request_ends_once_and_holds_nothing(
        layer: bool,
        endpoints in 1usize..4,
        script in proptest::collection::vec((0usize..30, calls(), 0u64..40), 0..200),
        seed: u64,
    ) {
        let mut mesh = Mesh::new(&config(layer, endpoints), seed);
        let mut all: Vec<Asked> = Vec::new();
        for (which, call, ms) in script {
            mesh.wait(ms);
            if which >= all.len() {
                all.push(Asked::new(&mesh, which));
            } else {
                all[which].call(&mut mesh, call);
                prop_assert_eq!(told(all[which].ticket.outcome()), told(all[which].ended.as_ref()));
            }
        }
        // Each is counted once, as what it first was.
        let ended = |how| all.iter().filter(|asked| asked.how == how).count() as u64;
        prop_assert_eq!(mesh.metric("meshcore_local_answers_total"), ended(How::Answered));
        prop_assert_eq!(mesh.metric("meshcore_requests_cut_total"), ended(How::Cut));
        prop_assert_eq!(mesh.metric("meshcore_listener_requests_total"), all.len() as u64);
        drop(all);
        prop_assert_eq!(mesh.held(), 0);
        // The caps, the buffers and probes that no gauge shows.
        mesh.now = mesh.now + Nanos::from_secs(600);
        prop_assert!(has_room(&mesh, layer), "room for the next ones");
    }
}

/// How it ended; an answer that was passed on says besides whether it was asked for in full.
fn told(outcome: Option<&Outcome>) -> Option<Outcome> {
    let answered = |o: &Outcome| Outcome::of(o.reason, o.phase);
    outcome.map(|o| if o.is_answered() { answered(o) } else { o.clone() })
}

/// Whether the buffers and the cap of the route are free; closes the breaker first.
fn has_room(mesh: &Mesh, layer: bool) -> bool {
    mesh.compiled.upstream("one").unwrap().breaker().unwrap().force_closed();
    let pass = |head: &RequestHead, whole: bool| {
        let (mut ticket, mut verdict) = mesh.begin(head, whole);
        if layer {
            verdict = mesh.resume(&mut ticket, head);
        }
        (ticket, verdict)
    };
    let large = pass(&post(BodyLength::Known(BUFFERS)), false);
    let buffered = large.1 == Verdict::Await;
    drop(large);
    let entered: Vec<_> = (0..CAP).map(|_| pass(&get(), true)).collect();
    let all_in = entered.iter().all(|(_, v)| matches!(v, Verdict::Forward(_)));
    let full = matches!(pass(&get(), true).1, Verdict::Answer(a) if a.reason == Reason::Overflow);
    buffered && all_in && full
}

#[test]
fn a_ticket_that_is_dropped_has_no_outcome_of_its_own() {
    let mesh = Mesh::new(&config(false, 1), 1);
    let (ticket, _) = mesh.ask();
    assert_eq!(ticket.outcome(), None);
    assert_eq!(mesh.held(), 2, "a place at the upstream and one at the endpoint");
    drop(ticket);
    assert_eq!(mesh.held(), 0);
}
