//! Who may pass: token buckets, client limiters, breakers, in-flight caps and retry budgets.
//!
//! # Map
//!
//! [`quota`] says how much, [`token_bucket`] holds one bucket, [`client_limiter`] one for each
//! client in a table that never grows ([`client_key()`] turns an address into its key).
//! [`breaker`] watches outcomes: [`breaker_word`] lists every transition, [`rate`] counts how
//! many fail, in a [`window`] of time or of [`last_calls`], [`breaker_endpoints`] says whom a
//! failure names, [`failure_rules`] what a failure is. [`inflight`] and [`retry_budget`] cap what is
//! under way, on [`columns`], or on [`lease`] where no control looks after dead processes;
//! [`back_off`] says when a retry begins; [`client_share`] keeps the last part of a cap for clients
//! that hold little of it.
//!
//! Each machine is a pure step on one word and [`crate::sync::update`]; who is let in gets a
//! small `Copy` permit, and its holder settles it exactly once.

pub mod back_off;
pub mod breaker;
pub mod breaker_endpoints;
pub mod breaker_word;
pub mod client_key;
pub mod client_limiter;
pub mod client_share;
pub mod columns;
pub mod failure_rules;
pub mod inflight;
pub mod last_calls;
pub mod lease;
pub mod quota;
pub mod rate;
pub mod retry_budget;
pub mod token_bucket;
pub mod token_clock;
pub mod window;

pub use back_off::{BackOff, GaveUp, RetryRules};
pub use breaker::{Breaker, Figures, Open};
pub use breaker_endpoints::{Endpoints, Weight};
pub use breaker_word::{BreakerPermit, BreakerState, Outcome, Request};
pub use client_key::{bytes_key, client_key};
pub use client_limiter::{Charge, ClientLimiter};
pub use client_share::{ClientShare, ClientsHeld};
pub use failure_rules::{FailureRules, Verdict, What};
pub use inflight::InFlight;
pub use lease::{Lease, Leases};
pub use quota::{Admitted, MAX_BURST, Quota, QuotaError, Refused};
pub use retry_budget::{LeasedBudget, RetryBudget};
pub use token_bucket::TokenBucket;
