//! The rules on writes: each attack that one of them stops is a case.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[path = "../engine/world.rs"]
#[allow(dead_code)]
mod world;

mod locks;
mod oracle;
mod races;
mod roles;
mod staff;
mod strangers;
mod tuples;
