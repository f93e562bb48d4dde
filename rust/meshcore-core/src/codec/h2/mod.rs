//! HTTP/2, server and client side, on the `h2` crate driven in memory (RFC 9113).
//!
//! # Map
//!
//! [`memory`] is the socket that the crate believes in, and its wakers; [`meter`] looks at frames
//! before the crate does, because it answers floods that cost only time. [`request`], [`response`]
//! and [`fields`] turn the crate's heads into ours and back, by the same rules as HTTP/1.1.
//! [`inbox`] and [`outbox`] are the two sides of one stream, [`streams`] all of a connection, sent
//! in the order that [`priority`] gives. [`Engine`] drives them; [`H2Server`] and [`H2Client`] are
//! its two sides. What they tell is a [`Signal`], with the same messages inside as HTTP/1.1 has.
//!
//! # Flow control
//!
//! A stream's window opens when its bytes are taken, and they are taken unless the stream is
//! paused: so a slow reader behind us holds at most one window of each stream.

mod client;
mod config;
mod engine;
mod fields;
mod inbox;
mod liveness;
mod memory;
mod meter;
mod outbox;
mod priority;
mod request;
mod response;
mod server;
mod signal;
mod streams;

pub use client::{ClientSignal, H2Client};
pub use config::H2Config;
pub use engine::{Engine, Side};
pub use meter::{FrameRate, Meter};
pub use outbox::STREAM_HIGH_WATER;
pub use priority::Priority;
pub use server::{H2Server, ServerSignal};
pub use signal::{Flood, Signal};
