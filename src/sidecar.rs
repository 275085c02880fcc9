//! The sidecar: answers next to the application, from a cache that a lease keeps honest.
//!
//! Hides when a kept answer may be given (section 8 of the design). The parts that decide it hold
//! no clock and do no IO: [`cache`] (slots, floor, revision), [`lease`] (until when), and
//! [`follower`] (the stream). What stands around them reads clocks and sockets.

pub mod cache;

pub mod clock;

pub mod entry;

pub mod follower;

pub mod generation;

pub mod lease;
