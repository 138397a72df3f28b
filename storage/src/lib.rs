//! (header to be written)

pub mod archive;
pub mod compression;
pub mod content;
pub mod image;
pub mod layer;
pub mod snapshotter;
