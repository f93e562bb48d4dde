//! A request's part in a distributed trace: whose child it is, whether it is sampled, and what its
//! endpoint is told.

use super::ticket::RequestTicket;
use crate::balance::Rng;
use crate::head::RequestHead;
use crate::snapshot;
use crate::telemetry::trace::{Forms, Ratio, Received, SentContext, SpanId, TraceId};

/// From proxies that are trusted, `1`: sampled, whatever else is said.
const FORCE: &[u8] = b"x-mesh-trace";

/// How traces are taken part in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tracing {
    ratio: Ratio,
    forms: Forms,
}

impl Tracing {
    /// None without a form.
    pub(super) fn compile(spec: &snapshot::Tracing) -> Result<Option<Self>, String> {
        let mut forms = Forms::default();
        for name in &spec.propagate {
            let form = Forms::named(name).ok_or_else(|| format!("no form {name:?}"))?;
            forms = forms.and(form);
        }
        let new = Self { ratio: Ratio::of(spec.sample), forms };
        Ok((!spec.propagate.is_empty()).then_some(new))
    }

    /// Goes on with the trace that a request says it is of, or begins one. `trusted`: what the peer
    /// says of sampling counts; from others it is a stranger's wish, and so is its trace's id, by
    /// which it could choose to be sampled.
    pub(super) fn begin(
        self,
        head: &RequestHead,
        trusted: bool,
        mut draw: impl FnMut() -> u64,
    ) -> Trace {
        let received = Received::read(&head.headers);
        let forced = trusted && head.headers.get(FORCE) == Some(b"1");
        let said = if forced { Some(true) } else { received.sampled.filter(|_| trusted) };
        let (id, random) = match received.caller {
            Some(caller) => (caller.trace, caller.random),
            None => (TraceId::of(u128::from(draw()) << 64 | u128::from(draw())), true),
        };
        // The lowest bits of its id, where no stranger chose it: all who go by them agree.
        let is_believed = trusted || received.caller.is_none();
        let number = if is_believed { id.bits() as u64 } else { draw() };
        let span = SpanId::of(draw());
        let mut trace = Trace {
            id,
            caller: received.caller.map(|caller| caller.span),
            span,
            attempt: span,
            sampled: false,
            number,
            said,
            random,
            forms: self.forms.and(received.form),
            keeps_state: received.keeps_state,
        };
        trace.sample(self.ratio);
        trace
    }
}

/// A request's part in a trace.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    /// The trace.
    pub id: TraceId,
    /// The caller's span, if there is one: ours is its child.
    pub caller: Option<SpanId>,
    /// Of the request as a whole.
    pub span: SpanId,
    /// Of its last attempt.
    pub attempt: SpanId,
    /// Whether it is sampled.
    pub sampled: bool,
    /// By which a ratio decides.
    number: u64,
    /// What was decided before us.
    said: Option<bool>,
    random: bool,
    forms: Forms,
    keeps_state: bool,
}

impl Trace {
    /// A ratio decides, unless that was done before.
    pub(super) fn sample(&mut self, ratio: Ratio) {
        self.sampled = self.said.unwrap_or_else(|| ratio.takes(self.number));
    }

    /// Another attempt, the `nth`, is a span of its own.
    fn enter(&mut self, nth: u8) {
        self.attempt =
            SpanId::of(Rng::new(self.span.bits().wrapping_add(u64::from(nth))).next_u64());
    }

    /// What the endpoint of the last attempt is told.
    pub(super) fn sent(&self) -> SentContext {
        SentContext {
            trace: self.id,
            span: self.attempt,
            parent: self.span,
            sampled: self.sampled,
            random: self.random,
            forms: self.forms,
            keeps_state: self.keeps_state,
        }
    }
}

impl RequestTicket {
    /// Its part in a trace, where part is taken in them.
    #[must_use]
    pub fn trace(&self) -> Option<&Trace> {
        self.trace.as_deref()
    }

    /// An attempt begins.
    pub(super) fn trace_attempt(&mut self) {
        let nth = self.attempts();
        if let Some(trace) = &mut self.trace {
            trace.enter(nth);
        }
    }
}
