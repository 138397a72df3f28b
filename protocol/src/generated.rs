//! What capnpc makes of `schema/*.capnp`. The only place with blanket lint allowances.
#![allow(clippy::all, clippy::unwrap_used, missing_docs, unused_qualifications, reason = "generated code")]

macro_rules! include_schema {
    ($($module:ident),* $(,)?) => {
        $(pub mod $module {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($module), ".rs"));
        })*
    };
}

include_schema!(
    access_capnp,
    common_capnp,
    container_capnp,
    content_capnp,
    daemon_capnp,
    event_capnp,
    gc_capnp,
    group_capnp,
    image_capnp,
    lease_capnp,
    namespace_capnp,
    snapshot_capnp,
    task_capnp,
    transfer_capnp,
);
