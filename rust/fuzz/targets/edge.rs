//! The edge as a whole: whatever a client sends, a strict endpoint sees the requests that were
//! meant, as many and no more; whatever an endpoint sends, a strict client sees the response that
//! was. Between all pairs of protocols, through routes that rewrite, set, remove and upgrade.
//!
//! The first byte says how long each read is, the second holds the switches; what came follows.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh::Mesh;
use responses::Sent;

#[expect(clippy::unwrap_used, reason = "a panic is what a fuzzer looks for")]
#[path = "../../../tests/rust/edge/mesh.rs"]
mod mesh;
#[expect(clippy::unwrap_used, clippy::expect_used, reason = "a panic is what a fuzzer looks for")]
#[path = "../../../tests/rust/edge/requests.rs"]
mod requests;
#[expect(clippy::unwrap_used, clippy::expect_used, reason = "a panic is what a fuzzer looks for")]
#[path = "../../../tests/rust/edge/responses.rs"]
mod responses;
#[expect(clippy::unwrap_used, clippy::expect_used, reason = "a panic is what a fuzzer looks for")]
#[path = "../../../tests/rust/edge/strict.rs"]
mod strict;

/// Switches: the bytes are an endpoint's; they are HTTP/2; paths may be odd. Those above choose what
/// was asked for.
const ANSWER: u8 = 1;
const HTTP2: u8 = 2;
const LENIENT: u8 = 4;
const ASKED_FROM: u32 = 3;

fn play<'a>(mesh: &Mesh, switches: u8, reads: impl IntoIterator<Item = &'a [u8]>) {
    let http2 = switches & HTTP2 != 0;
    if switches & ANSWER == 0 {
        let asked = match http2 {
            true => requests::asked_over_http2(mesh, reads),
            false => requests::asked_over_http1(mesh, reads),
        };
        return requests::check(mesh, asked);
    }
    let sent = Sent::new(mesh, usize::from(switches >> ASKED_FROM));
    let answered = match http2 {
        true => responses::answered_over_http2(mesh, &sent, reads),
        false => responses::answered_over_http1(&sent, reads),
    };
    responses::check(&sent, &answered);
}

thread_local! {
    // A mesh maps memory; one of each kind serves all inputs.
    static MESHES: [Mesh; 2] = [Mesh::new(false), Mesh::new(true)];
}

fuzz_target!(|input: &[u8]| {
    let [size, switches, bytes @ ..] = input else { return };
    MESHES.with(|meshes| {
        let mesh = &meshes[usize::from(switches & LENIENT != 0)];
        play(mesh, *switches, [bytes]);
        play(mesh, *switches, bytes.chunks(usize::from(*size) + 1));
    });
});
