//! Links the shim at a fixed address.
//!
//! There is one shim for each container. A position-independent binary has to relocate its tables at start, which makes
//! some 200 kB of them private to each process; linked at a fixed address they stay shared page cache.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-no-pie");
}
