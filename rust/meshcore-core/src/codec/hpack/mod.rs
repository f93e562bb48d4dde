//! HPACK (RFC 7541): field lists as they are written in HTTP/2.
//!
//! [`Decoder`] and [`Encoder`] each keep one table in step with the other side's. [`huffman`] is
//! the code for texts, [`table`] the static and the dynamic table. What a list means, and whether
//! it may pass, is decided elsewhere: a field that is malformed must not cost the connection.

mod decode;
mod encode;
mod huffman;
mod integer;
mod table;

pub(in crate::codec) use decode::Decoder;
pub(in crate::codec) use encode::Encoder;
