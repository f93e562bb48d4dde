//! TLS sessions beside each other in memory: what each meets of the other, and what a ticket opens.

#![allow(clippy::unwrap_used, missing_docs)]

mod admitted;
mod authority;
mod certificates;
mod clients;
mod names;
mod offers;
mod pair;
mod records;
mod refusals;
mod tickets;
