//! HTTP/2, server and client side (RFC 9113), sans I/O.
//!
//! # Map
//!
//! In: [`meter`] looks at the frames of a read before anything else does, because those that cost
//! only time would be answered for ever; [`frames`] takes the read apart, [`block`] reads a field
//! list, [`request`] and [`response`] make heads of it, by the same rules as HTTP/1.1; [`inbox`]
//! holds what is not taken yet, and [`deliver`] emits it. Out: [`writer`] writes field lists,
//! [`outbox`] holds what has no window yet, and streams are served in the order that [`priority`]
//! gives, into buffers of [`pool`]. [`control`] is about the frames that are the
//! connection's, [`resets`] about how many of ours a peer tolerates. [`Engine`] holds it together;
//! [`H2Server`] and [`H2Client`] are its two sides. What they tell is a [`Signal`], with the same messages inside as HTTP/1.1 has.
//! [`heads`] is for an engine that is not this one.
//!
//! # Errors
//!
//! What is wrong with one message costs its stream; only what leaves the two sides with different
//! ideas of the connection ends it: frames out of order, HPACK that is none, windows overrun.
//!
//! # Flow control
//!
//! A stream's window opens when its bytes are taken, and they are taken unless the stream is
//! paused: a slow reader behind us holds one window of each stream, which is small until it was
//! seen to take. The connection's window opens when bytes come, so that no stream waits for
//! another's reader.

mod block;
mod client;
mod config;
mod control;
mod deliver;
mod engine;
mod frame;
mod frames;
pub mod heads;
mod inbox;
mod meter;
mod outbox;
mod pool;
mod priority;
mod request;
mod resets;
mod response;
mod sending;
mod server;
mod settings;
mod signal;
mod stream;
mod writer;

pub use client::{Client, ClientSignal, H2Client};
pub use config::H2Config;
pub use engine::Engine;
pub use meter::{FrameRate, Meter};
pub use outbox::STREAM_HIGH_WATER;
pub use priority::{Priority, Schedule};
pub use server::{H2Server, Server, ServerSignal};
pub use signal::{Flood, Signal};
pub use writer::FieldPairs;

use block::Block;
use engine::Phase;
use frames::Checked;

use super::asked::Asked;
use super::error::CodecError;
use super::event::BodyPart;

/// Output beyond which streams wait for their turn: one write of a socket buffer takes no more.
const HIGH_WATER: usize = 128 << 10;

/// Why a field list is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// It is malformed: the stream ends with PROTOCOL_ERROR (RFC 9113 §8.1.1). What is wrong, in
    /// few words.
    Malformed(&'static str),
    /// It may not pass; the stream is open for an answer.
    Refused(CodecError),
}

impl From<CodecError> for HeadError {
    fn from(error: CodecError) -> Self {
        Self::Refused(error)
    }
}

/// What is different between the sides of a connection. Sealed: there are two.
pub trait Side: Sized {
    /// The head of what the peer sends.
    type Head;
    /// What its streams emit.
    type Message;
    /// Whether the peer is a client.
    const SERVER: bool;
    /// What the peer sends before its frames.
    const PREFACE: &'static [u8];
    /// What is sent before ours.
    const GREETING: &'static [u8];

    /// A message, as far as it came.
    fn head_event(head: Self::Head, body: BodyPart) -> Self::Message;
    /// More of it.
    fn body_event(body: BodyPart) -> Self::Message;
    /// What a message that may not pass asked for, if it is a request.
    fn asked(head: &Self::Head) -> Option<Box<Asked>>;
    /// Who is to blame for what may not pass.
    fn blame(error: CodecError) -> CodecError;
    /// Whether a stream was never opened.
    fn is_idle(engine: &Engine<Self>, id: u32) -> bool;
    /// A field list came that is not of trailers.
    fn head(engine: &mut Engine<Self>, id: u32, ends: bool, block: Block) -> Checked;
    /// The peer said which stream is the last.
    fn goaway(engine: &mut Engine<Self>, last: u32);
}
