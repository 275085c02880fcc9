//! The protocol of section 8 by a simulated clock and transport: the server's table of leases and
//! the sidecar's cache, lease and follower are the real ones; between them every message waits
//! until it is told to move.
//!
//! `named.rs` has one test for each interleaving that breaks a simpler protocol; `leases.rs` has
//! what a lease means without one; `search.rs` runs
//! random schedules of the same world. `PORTCULLIS_SIM_STEPS` says how many steps.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod leases;
mod named;
mod search;
mod server;
mod world;
