//! The decisions of the meshcore proxy.
//!
//! # Map
//!
//! The base, which every room may import: [`time`] (nanoseconds as a type), [`calendar`] (dates as
//! they are written), [`error`] (who is to blame, and what the client is told), [`sync`] (atomics, real or model-checked), [`segment`]
//! (where every shared word lives), [`head`] (request and response heads), [`host_map`] (what there is for each host), [`identity`] (whose a certificate is), [`path`] (one spelling
//! for each path), [`snapshot`] (the plain configuration that rooms are compiled from),
//! [`deadlines`] (of many connections) and [`telemetry`] (counters, histograms).
//!
//! The rooms, which never import each other: [`codec`] turns bytes into events and back,
//! [`routing`] finds the route, [`admission`] charges limiters and asks breakers, [`balance`]
//! picks the endpoint.
//!
//! The hall: [`exchange`] is the only module that imports rooms; it fuses them into one call for
//! each step of a request.
//!
//! Nothing here opens a socket, reads a clock, draws from a hidden random source or writes a log:
//! time and seeds are arguments.

pub mod admission;
pub mod balance;
pub mod calendar;
pub mod codec;
pub mod deadlines;
pub mod error;
pub mod exchange;
pub mod head;
pub mod host_map;
pub mod identity;
pub mod path;
pub mod routing;
pub mod segment;
pub mod snapshot;
pub mod sync;
pub mod telemetry;
pub mod time;
#[cfg(not(feature = "loom"))] // it has no word that threads share
pub mod tls;
mod unseen;
