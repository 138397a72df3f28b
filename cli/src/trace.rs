//! What the client does, on standard error, when `RUST_LOG` asks for it: each change with the number that it has in bosund's log and in the shims'.

use tracing_subscriber::EnvFilter;

/// Begins to tell, if anybody asks.
pub fn start() {
    let Some(filter) = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty()) else { return };
    // Words that are not understood are for other programs of the same shell.
    let Ok(filter) = EnvFilter::try_new(filter) else { return };
    let told = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = told.with_ansi(crate::output::stderr_has_colours()).try_init();
}
