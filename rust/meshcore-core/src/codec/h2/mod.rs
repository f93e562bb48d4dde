//! HTTP/2, server and client side (RFC 9113), sans I/O.
//!
//! # Map
//!
//! A [`Connection`] has three parts, and keeps to itself what joins them. What a rule can touch
//! is what its part has:
//!
//! - [`receiving`]: reads into frames and field lists, their order, the connection's window, and the
//!   [`meter`](receiving::Meter), which looks at the frames of a read before anything else does,
//!   because those that cost only time would be answered for ever;
//! - [`sending`]: frames and field lists into a buffer that connections share, what the peer's
//!   SETTINGS and windows allow, whose turn it is, how many resets a peer tolerates;
//! - [`streams`]: those that are open, with what they received and is not taken yet, what they tell,
//!   and how those ended that are over.
//!
//! [`connection`] has a file for each of what joins them: frames that came, those that are the
//! connection's, the faults of a stream, turns, the end; and one for each side, [`H2Server`] and
//! [`H2Client`]. [`block`] reads a field list, [`request`] and [`response`] make heads of it, by the
//! same rules as HTTP/1.1, and [`writer`] writes one. What a connection tells is a [`Signal`], with the
//! same messages inside as HTTP/1.1 has. [`heads`] is for an engine that is not this one.
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
mod config;
mod connection;
mod errors;
mod frame;
pub mod heads;
mod receiving;
mod request;
mod response;
mod sending;
mod settings;
mod signal;
mod streams;
mod writer;

pub use config::H2Config;
pub use connection::{Client, ClientSignal, Connection, H2Client, H2Server, Server, ServerSignal};
pub use receiving::{FrameRate, Meter};
pub use sending::{Priority, STREAM_HIGH_WATER, Schedule};
pub use signal::{Flood, Signal};
pub use writer::FieldPairs;

use block::Block;
use errors::Checked;

use super::asked::Asked;
use super::error::CodecError;
use super::event::BodyPart;

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
    fn is_idle(&self, id: u32) -> bool;
    /// The last stream of the peer's that was processed; 0: none.
    fn last_processed(&self) -> u32;
    /// A field list came that is not of trailers.
    fn head(connection: &mut Connection<Self>, id: u32, ends: bool, block: Block) -> Checked;
    /// The peer said which stream is the last.
    fn goaway(connection: &mut Connection<Self>, last: u32);
}
