//! The engine on a store in memory: writes, the laws of the writer, old states, restarts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod bulk;
mod heavy;
mod lists;
mod plan;
mod restart;
mod states;
mod world;
mod writer;
