//! The chaos family.
