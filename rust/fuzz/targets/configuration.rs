//! Any snapshot is either compiled or refused; one that was refused changed nothing: a good one
//! applied afterwards gives what it gives in a fresh process.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meshcore_core::exchange::{Compiler, Engine, render_metrics};
use meshcore_core::segment::{Segment, SegmentConfig};
use meshcore_core::snapshot::Delta;
use meshcore_core::telemetry::Format;
use meshcore_core::time::Nanos;

const GOOD: &str = include_str!("../../../tests/data/full.json");
const SEGMENT: SegmentConfig = SegmentConfig { max_bytes: 8 << 20, worker_slots: 1 };

/// The configuration after the deltas that were accepted, as its metrics show it.
fn shown(deltas: &[Delta]) -> (String, bool) {
    let engine = Engine::new(1);
    let segment = Segment::anonymous(SEGMENT).expect("8 MiB");
    let mut compiler = Compiler::new(segment, 0, [1, 2]);
    let mut accepted = true;
    for delta in deltas {
        match compiler.apply(&engine.compiled(), delta.clone(), Nanos::ZERO) {
            Ok(compiled) => engine.swap(compiled),
            Err(errors) => {
                assert!(!errors.is_empty());
                accepted = false;
            }
        }
    }
    (render_metrics(&engine.compiled(), Format::Prometheus, Nanos(1), &[]), accepted)
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(delta) = serde_json::from_slice::<Delta>(bytes) else { return };
    let (once, accepted) = shown(&[delta.clone()]);
    if accepted {
        assert_eq!(shown(&[delta.clone(), delta]).0, once, "applying twice is applying once");
    } else {
        let good: Delta = serde_json::from_str(GOOD).expect("a test holds it");
        let alone = shown(&[good.clone()]);
        assert_eq!(shown(&[delta, good]).0, alone.0, "a refused change leaves nothing behind");
    }
});
