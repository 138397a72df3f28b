//! The C library's heaps of this process.

/// Heaps of all threads together.
const HEAPS_MAX: i32 = 2;

/// Few heaps for all threads: glibc makes eight for each processor, and each keeps what its threads once needed. A daemon's threads allocate seldom and in
/// large pieces, so they hardly wait for each other. Call it before any thread starts. Without glibc it does nothing.
#[expect(unsafe_code, reason = "neither std nor nix has mallopt")]
pub fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it reads two numbers; a value that is refused changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS_MAX);
    }
}
