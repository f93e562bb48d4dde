//! The hall: the compiled layer stack, request tickets and their attempts.
//!
//! # Life of a request
//!
//! [`Engine`] holds the compiled configuration, swapped as a whole. [`Engine::begin`] walks one
//! request through the stack of its listener, then of its route, in this order: listener layers →
//! route → route layers → the upstream's in-flight cap → its breaker → balance. It stops with a
//! [`Verdict`]: forward to an endpoint, answer here, pause for a Python layer or await a small
//! body, after which [`Engine::resume`] goes on. What was charged on the way is owned by the [`RequestTicket`],
//! which gives everything back exactly once, also when it is dropped in the middle.

mod answer;
mod attempt;
mod binding;
mod blame;
mod body;
mod body_hooks;
mod certified;
mod client_address;
mod compiled;
mod compiler;
mod counted;
mod deadline;
mod forwarded;
mod grpc;
mod guards;
mod handshakes;
mod key;
mod layer;
mod layer_counts;
mod layout;
mod local_reply;
mod max_forwards;
mod metrics;
mod networks;
mod old_names;
mod outcome;
mod outgoing;
mod overview;
mod peer;
mod resources;
mod stack;
mod stats;
mod ticket;
mod tracing;
mod trailers;
mod upstream;
mod walk;

pub use answer::{Answer, LimitState};
pub use attempt::{Head, Next, Passed, retry_after};
pub use blame::Cause;
pub use body::Keep;
pub use certified::Certified;
pub use client_address::Client;
pub use compiled::{Compiled, CompiledListener, Engine};
pub use compiler::{ApplyError, Compiler};
pub use counted::Counted;
pub use deadline::{Due, Paused};
pub use grpc::{
    STATUSES as GRPC_STATUSES, final_status, format_timeout, parse_timeout, status_in,
    status_of_reset,
};
pub use handshakes::Handshakes;
pub use layer::Guard;
pub use layer_counts::LayerCounts;
pub use layout::{LAYOUT, word_format};
pub use local_reply::LocalReply;
pub use max_forwards::max_forwards;
pub use metrics::render as render_metrics;
pub use networks::Networks;
pub use outcome::{Outcome, Phase};
pub use overview::{BreakerOf, BreakerView, EjectedView};
pub use peer::{Peer, Standing};
pub use stack::{RouteStack, Target};
pub use stats::{ListenerStats, RouteStats};
pub use ticket::{RequestKind, RequestTicket, Verdict};
pub use tracing::Trace;
pub use trailers::Changed;
pub use upstream::Upstream;
pub use walk::Arrival;
