//! Bytes into events and events into bytes: HTTP/1.1, server and client side, sans I/O.
