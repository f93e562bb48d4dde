//! Whom the end of a request is told of: simulations over tickets, with the clock in our hands.

#![cfg(not(feature = "loom"))]
#![allow(clippy::unwrap_used, missing_docs)] // helpers of tests may panic as tests do

mod again;
mod client;
mod decided;
mod ends;
mod mesh;
mod ours;
mod probes;
mod service;
mod short;
mod time;
