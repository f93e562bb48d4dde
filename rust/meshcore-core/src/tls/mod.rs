//! TLS 1.2 and 1.3 without a socket: bytes in become plaintext and events, plaintext becomes bytes.
//!
//! # Map
//!
//! A [`ServerContext`] or a [`ClientContext`] is compiled from a configuration and shared by all of
//! its connections: `certificates` reads chains and keys and chooses one by a client's `offer`, `trust` says
//! whom to believe (`roots`, but whom `revocation` takes out by lists of the keys that have `signed`
//! them, until one is `due`; `unlisted` are who has none) and who comes in (by the [`Rules`] of
//! names), `identity` reads the names, `verify` is how rustls asks, `tickets` seals what a client may resume, `standing` says how one that is in
//! stands by rules that came after it, `provider` is what all compute with. Each gives a [`Session`] for a connection, which drives rustls
//! (its unbuffered API) and holds nothing of its own while it is idle; what went wrong is a
//! [`Failure`], told in `words`.
//!
//! The protocol itself draws random numbers (from aws-lc-rs), as it must. The clock is the
//! caller's: [`Clock`].

mod certificates;
mod client;
mod clock;
mod context_error;
mod distinguished_name;
mod distribution_point;
mod due;
mod facts;
mod failure;
mod forwarded;
mod hello;
mod identity;
mod key_log;
mod no_pair;
mod offer;
mod pem;
mod provider;
mod records;
mod revocation;
mod roots;
mod server;
mod session;
mod signed;
mod standing;
mod staple;
mod tickets;
mod trust;
mod unlisted;
mod verify;
mod words;

pub use crate::identity::{Identity, Rules, is_domain};
pub use certificates::Pair;
pub use client::{ClientContext, ClientSpec, is_name};
pub use clock::Clock;
pub use context_error::ContextError;
pub use due::is_late;
pub use facts::{Facts, is_for_host};
pub use failure::Failure;
pub use key_log::{KeyLog, key_log_line};
pub use revocation::ListFacts;
pub use roots::Roots;
pub use server::{ClientAuth, ServerContext, ServerSpec};
pub use session::{Agreed, Opened, Session, Version};
pub use standing::{InForce, Standing};
pub use staple::Staple;
pub use tickets::{TicketKeys, TicketRing};
pub use trust::Trust;
pub use unlisted::{Listing, Unlisted};
