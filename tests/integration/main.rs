//! Integration: the real daemon, the real shim, real containers, over RPC and by the command line.

mod access;
mod adoption;
mod archives;
mod bad_input;
mod checkpoint;
mod cli;
mod content;
mod deaths;
mod diff;
mod distribution;
mod escapes;
mod events;
mod filters;
mod hosts;
mod leases;
mod registry;
mod registry_access;
mod relaunch;
mod restart;
mod rows;
mod security;
mod snapshots;
mod streams;
mod tasks;
mod users;
mod verbs;
