//! The HTTP/2 engines from outside: a client and a server that speak to each other, and frames
//! that no client of ours would send.

#![allow(clippy::unwrap_used, missing_docs)]

mod blame;
mod exchange;
mod faults;
mod found;
mod pair;
mod properties;
mod tunnels;
mod witness;
