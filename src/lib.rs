//! Portcullis: an authorization service. One durable, ordered log of commits; the state is its
//! fold, readers ask immutable snapshots of it.
//!
//! The modules stand in one order: each names only modules above it.

pub mod counter;

pub mod time;

pub mod tuple;

pub mod revision;

pub mod schema;

pub mod index;

pub mod state;

pub mod eval;

pub mod rules;

pub mod plan;

pub mod workload;

pub mod store;

pub mod watch;

pub mod commit;

pub mod engine;

pub mod api;

pub mod validation;

pub mod templates;

pub mod server;

pub mod sidecar;

pub mod telemetry;

pub mod cli;
