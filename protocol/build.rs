//! Turns the checked-in code generator requests (`schema/*.cgr`) into Rust, so that a build needs no Cap'n Proto
//! compiler. `cargo xtask codegen` renews the requests when a schema changes.

use std::fs::File;
use std::path::Path;

/// The schema files; `src/generated.rs` includes one module for each.
const NOUNS: [&str; 14] = [
    "access",
    "common",
    "container",
    "content",
    "daemon",
    "event",
    "gc",
    "group",
    "image",
    "lease",
    "namespace",
    "snapshot",
    "task",
    "transfer",
];

fn main() {
    println!("cargo::rerun-if-changed=schema");
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    for noun in NOUNS {
        let request = Path::new("schema").join(noun).with_extension("cgr");
        let file = File::open(&request)
            .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask codegen`", request.display()));
        capnpc::codegen::CodeGenerationCommand::new()
            .output_directory(&out)
            .default_parent_module(vec!["generated".to_owned()])
            .run(file)
            .unwrap_or_else(|error| panic!("{}: {error}", request.display()));
    }
}
