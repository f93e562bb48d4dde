//! TLS sessions beside each other in memory: what each meets of the other, and what a ticket opens.

#![allow(clippy::unwrap_used, missing_docs)]

mod authority;
mod certificates;
mod clients;
mod pair;
mod records;
mod tickets;
