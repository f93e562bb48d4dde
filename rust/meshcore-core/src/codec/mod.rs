//! Bytes into events and events into bytes: HTTP/1.1 and HTTP/2, server and client, sans I/O.
//!
//! # Map
//!
//! In: `input` keeps what a read brought too early and finds where a head ends, `parse` runs
//! httparse over exactly that block, `framing` draws from its fields what the connection must
//! know (RFC 9112 §6.3), `target` and `authority` split the request target, `request_head` puts
//! them together, `body` and `chunked` read the body; `asked` keeps for the log what is known of
//! a request that they refuse. [`H1Server`] and [`H1Client`] are the two machines over them; each gives at most
//! one [`ServerEvent`] or [`ClientEvent`] for a read.
//!
//! Out: `header_class` says what a field is and `header_rules` which fields pass, [`encode_request`], [`encode_response`],
//! [`encode_reply`] and the chunk functions write into one buffer.
//!
//! Before all of that a balancer may announce a connection: [`parse_proxy_header`].
//!
//! # Strictness
//!
//! Whatever two parsers could read in two ways is refused, not repaired: nothing that was received
//! is forwarded without having been re-serialised from a validated head. httparse alone takes a
//! bare LF as a line end, bytes above 0x7F in a target, and anything in a chunk extension; those
//! holes are closed here.

mod asked;
mod authority;
mod body;
mod chunked;
mod encode;
mod encode_request;
mod encode_response;
mod error;
mod event;
mod field;
mod framing;
mod h1_client;
mod h1_server;
pub mod h2;
mod header_class;
mod header_ops;
mod header_rules;
mod hpack;
mod input;
mod limits;
mod mend;
mod misdirected;
mod parse;
mod proxy_protocol;
mod request_head;
mod target;
mod via;
mod websocket;

pub use asked::Asked;
pub use authority::host_of;
pub use encode::{encode_chunk_end, encode_chunk_header, encode_last_chunk, reason_phrase};
pub use encode_request::{RequestRules, encode_request};
pub use encode_response::{
    Outgoing, OutgoingReply, ResponseRules, Tunnel, encode_informational, encode_reply,
    encode_response,
};
pub use error::CodecError;
pub use event::{BodyPart, Bytes, ClientEvent, ServerEvent};
pub(crate) use field::is_token_byte;
pub use field::{valid_field_name, valid_field_value};
pub use h1_client::H1Client;
pub use h1_server::{H1Server, ServerRules};
pub(crate) use header_class::is_alike;
pub use header_class::{Unseen, is_codecs_own, may_be_trailer, unseen};
pub use header_ops::{HeaderOps, OpsError};
pub use header_rules::{strip_vouched, take_out};
pub use limits::Limits;
pub use mend::Lenient;
pub use misdirected::misdirected;
pub use proxy_protocol::{Ends, ProxyHeader, ProxyVersion, parse_proxy_header, proxy_header};
pub use via::{ViaMark, random_name};
pub use websocket::{KEY as WEBSOCKET_KEY, WEBSOCKET, accept as websocket_accept};
