//! Tests of the one-pass layer pipeline.
