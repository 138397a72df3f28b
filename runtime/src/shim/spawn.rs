//! The start itself, by `posix_spawn`: it shares the daemon's memory until the new program runs, so that the start of a
//! shim costs the same however large the daemon is; and it can do all that is wanted between: session, signals,
//! directory, descriptors. `std::process` would fork for a new session.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr;

/// Number under which the child has the ready pipe.
pub const READY_FD: i32 = 3;
/// Descriptors from here on are closed in the child.
const FIRST_CLOSED: i32 = READY_FD + 1;
const DEV_NULL: &CStr = c"/dev/null";

/// What to start.
#[derive(Debug)]
pub struct Start {
    /// Path of the program.
    pub program: CString,
    /// Its arguments, the name first.
    pub arguments: Vec<CString>,
    /// Its environment.
    pub environment: Vec<CString>,
    /// Its working directory.
    pub directory: CString,
    /// Its stderr.
    pub log: OwnedFd,
    /// Its descriptor [`READY_FD`].
    pub ready: OwnedFd,
}

/// Starts it in a session of its own; its pid. Blocks until the program runs.
#[expect(unsafe_code, reason = "posix_spawn has no safe face")]
pub fn spawn(start: &Start) -> io::Result<u32> {
    let arguments = pointers(&start.arguments);
    let environment = pointers(&start.environment);
    let mut actions = Actions::new()?;
    let mut attributes = Attributes::new()?;
    actions.prepare(start)?;
    attributes.prepare()?;
    let mut pid: libc::pid_t = 0;
    // SAFETY: every pointer is of a value that lives through the call; both lists end in null; the actions and
    // attributes were initialised by the constructors above.
    let result = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            start.program.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    };
    check(result)?;
    u32::try_from(pid).map_err(io::Error::other)
}

fn pointers(words: &[CString]) -> Vec<*mut libc::c_char> {
    words.iter().map(|word| word.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

struct Actions(libc::posix_spawn_file_actions_t);

#[expect(unsafe_code, reason = "see `spawn`")]
impl Actions {
    fn new() -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: the call initialises what it is given.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        // SAFETY: initialised by the call above, which succeeded.
        Ok(Self(unsafe { actions.assume_init() }))
    }

    fn prepare(&mut self, start: &Start) -> io::Result<()> {
        let actions = &raw mut self.0;
        // SAFETY: `actions` is initialised; the calls copy the texts and keep numbers only. All of the daemon's own
        // descriptors are above 2, so no duplication overwrites one that is still needed.
        unsafe {
            check(libc::posix_spawn_file_actions_adddup2(actions, start.log.as_raw_fd(), 2))?;
            check(libc::posix_spawn_file_actions_adddup2(actions, start.ready.as_raw_fd(), READY_FD))?;
            let null = DEV_NULL.as_ptr();
            check(libc::posix_spawn_file_actions_addopen(actions, 0, null, libc::O_RDONLY, 0))?;
            check(libc::posix_spawn_file_actions_addopen(actions, 1, null, libc::O_WRONLY, 0))?;
            check(libc::posix_spawn_file_actions_addclosefrom_np(actions, FIRST_CLOSED))?;
            check(libc::posix_spawn_file_actions_addchdir_np(actions, start.directory.as_ptr()))
        }
    }
}

impl Drop for Actions {
    #[expect(unsafe_code, reason = "see `spawn`")]
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, dropped once.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

struct Attributes(libc::posix_spawnattr_t);

#[expect(unsafe_code, reason = "see `spawn`")]
impl Attributes {
    fn new() -> io::Result<Self> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the call initialises what it is given.
        check(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: initialised by the call above, which succeeded.
        Ok(Self(unsafe { attributes.assume_init() }))
    }

    /// Own session, no signal blocked, every signal as a new process expects it.
    fn prepare(&mut self) -> io::Result<()> {
        let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID;
        let flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
        let attributes = &raw mut self.0;
        let (mut none, mut all) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: both sets are initialised by their calls before they are read; `attributes` is initialised.
        unsafe {
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigfillset(all.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(attributes, none.as_ptr()))?;
            check(libc::posix_spawnattr_setsigdefault(attributes, all.as_ptr()))?;
            check(libc::posix_spawnattr_setflags(attributes, flags))
        }
    }
}

/// Of `spawn.h`; libc has it for some systems only.
const POSIX_SPAWN_SETSID: i32 = 0x80;

impl Drop for Attributes {
    #[expect(unsafe_code, reason = "see `spawn`")]
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, dropped once.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}
