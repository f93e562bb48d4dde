//! The HTTP/1.1 codec from outside: whole messages in, events out, and back.

#![allow(clippy::unwrap_used, missing_docs)]

mod client;
mod encode;
mod record;
mod server;
mod split;
