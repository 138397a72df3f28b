//! Tests of the overlayfs snapshotter; they mount for real and need root.
