//! Tests of the archive code.
