//! The supervision tree, one actor per entity, operations, recovery. The only crate that knows ractor: others see handles.

pub mod ask;
pub mod supervisor;
