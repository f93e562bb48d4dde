//! A header of the PROXY protocol is read the same however much of it is there: no beginning of one
//! that is whole in the end was refused before or taken for whole, and nothing behind its end counts.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meshcore_core::codec::parse_proxy_header;

/// The most that may be incomplete: version 2's.
const MOST: usize = 4096;

fuzz_target!(|input: &[u8]| {
    match parse_proxy_header(input) {
        Ok(Some(header)) => {
            assert!(header.bytes <= input.len().min(MOST));
            for end in 0..header.bytes {
                assert_eq!(parse_proxy_header(&input[..end]), Ok(None));
            }
            assert_eq!(parse_proxy_header(&input[..header.bytes]), Ok(Some(header)));
        }
        // Whoever sends on is told so in time.
        Ok(None) => assert!(input.len() < MOST),
        Err(error) => {
            for end in (0..input.len()).rev().take(16) {
                if let Ok(Some(header)) = parse_proxy_header(&input[..end]) {
                    panic!("{header:?} in {end} bytes, then {error}");
                }
            }
        }
    }
});
