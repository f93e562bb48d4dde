//! Applying changes: what stays keeps its place, what is refused or gone leaves nothing behind.

#![cfg(not(feature = "loom"))]
#![allow(clippy::unwrap_used)] // helpers of tests may panic as tests do

use meshcore_core::exchange::{Compiled, Compiler, Engine};
use meshcore_core::segment::{Segment, SegmentConfig};
use meshcore_core::time::Nanos;
use serde_json::{Value, json};

struct Mesh {
    engine: Engine,
    compiler: Compiler,
}

impl Mesh {
    fn new() -> Self {
        let config = SegmentConfig { max_bytes: 12 << 20, worker_slots: 1 };
        let compiler = Compiler::new(Segment::anonymous(config).unwrap(), 0, [1, 2]);
        Self { engine: Engine::new(1), compiler }
    }

    fn apply(&mut self, delta: Value) -> Result<(), String> {
        let delta = serde_json::from_value(delta).unwrap();
        match self.compiler.apply(&self.engine.compiled(), delta, Nanos::ZERO) {
            Ok(compiled) => {
                self.engine.swap(compiled);
                Ok(())
            }
            Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
        }
    }

    fn listeners(&self) -> Vec<(u32, String)> {
        self.engine.compiled().listeners().map(|l| (l.id, l.name.clone())).collect()
    }

    fn endpoints(&self) -> Vec<(u32, String)> {
        let compiled: &Compiled = &self.engine.compiled();
        let all = compiled.upstreams().flat_map(|u| u.endpoints());
        all.map(|(id, e)| (id, e.address.clone())).collect()
    }
}

/// The whole configuration of the tests, changed by `edit`.
fn full(edit: impl FnOnce(&mut Value)) -> Value {
    let mut delta = serde_json::from_str(include_str!("../data/full.json")).unwrap();
    edit(&mut delta);
    delta
}

fn good() -> Value {
    full(|_| {})
}

/// A route of host `*.example.com` under another name; `tokens: 0` is refused.
fn route(name: &str, tokens: u64) -> Value {
    let whole = good();
    let mut route = whole["hosts"]["*.example.com"][0].clone();
    route["name"] = json!(name);
    for layer in route["layers"].as_array_mut().unwrap() {
        if let Some(limit) = layer.get_mut("limit") {
            limit["rate"]["tokens"] = json!(tokens);
        }
    }
    json!([route])
}

#[test]
fn refused_changes_take_no_memory() {
    let mut mesh = Mesh::new();
    mesh.apply(good()).unwrap();
    for i in 0..100 {
        let error = mesh.apply(json!({
            "config_version": 8 + i,
            "hosts": {format!("{i}.test"): route(&format!("r{i}"), 0)},
        }));
        assert!(error.unwrap_err().contains("at least 1"));
    }
    let change = json!({"config_version": 200, "hosts": {"last.test": route("last", 5)}});
    mesh.apply(change).unwrap();
    assert_eq!(mesh.engine.compiled().version, 200);
}

#[test]
fn what_no_configuration_holds_any_more_makes_room() {
    let mut mesh = Mesh::new();
    mesh.apply(good()).unwrap();
    for i in 0..100 {
        mesh.apply(json!({
            "config_version": 8 + i,
            "hosts": {"one.test": route(&format!("r{i}"), 5)},
        }))
        .unwrap();
    }
}

#[test]
fn a_listener_that_was_refused_or_removed_leaves_its_id_to_nobody() {
    let mut mesh = Mesh::new();
    mesh.apply(good()).unwrap();
    let before = mesh.listeners();
    let edge = good()["listeners"]["local"].clone();
    let listener = |name: &str| json!({name: edge});
    let refused = json!({
        "config_version": 8,
        "listeners": listener("refused"),
        "remove": {"listeners": ["local"]},
        "hosts": {"a.test": route("bad", 0)},
    });
    mesh.apply(refused).unwrap_err();
    assert_eq!(mesh.listeners(), before);

    for (version, name) in [(9, "second"), (10, "refused")] {
        mesh.apply(json!({"config_version": version, "listeners": listener(name)})).unwrap();
    }
    let removed = mesh.engine.compiled().listener_id("local").unwrap();
    mesh.apply(json!({"config_version": 11, "remove": {"listeners": ["local"]}})).unwrap();
    mesh.apply(json!({"config_version": 12, "listeners": listener("third")})).unwrap();
    let now = mesh.listeners();
    assert!(now.iter().all(|(id, _)| *id != removed));
    let mut names: Vec<_> = now.iter().map(|(_, name)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["edge", "refused", "second", "third"]);
    for (id, name) in &now {
        assert_eq!(mesh.engine.compiled().listener_id(name), Some(*id));
    }
}

#[test]
fn an_endpoint_that_stays_keeps_its_id_and_no_other_gets_it() {
    let mut mesh = Mesh::new();
    mesh.apply(good()).unwrap();
    let id = |mesh: &Mesh, address: &str| {
        mesh.endpoints().into_iter().find(|(_, a)| a == address).map(|(id, _)| id)
    };
    let (kept, gone) = (id(&mesh, "127.0.0.1:9001").unwrap(), id(&mesh, "[::1]:9002").unwrap());
    mesh.apply(full(|delta| {
        delta["upstreams"]["api"]["endpoints"] =
            json!([{"address": "10.0.0.1:1", "weight": 1}, {"address": "127.0.0.1:9001", "weight": 2}]);
    }))
    .unwrap();
    assert_eq!(id(&mesh, "127.0.0.1:9001"), Some(kept));
    assert_eq!(id(&mesh, "[::1]:9002"), None);
    mesh.apply(good()).unwrap();
    let back = id(&mesh, "[::1]:9002").unwrap();
    assert!(back != gone && back != kept && Some(back) != id(&mesh, "10.0.0.1:1"));
}
