//! The integration family.
