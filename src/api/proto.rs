//! The generated wire types, servers and clients of `proto/portcullis/v1`.

#![allow(missing_docs, clippy::all, clippy::pedantic)]

tonic::include_proto!("portcullis.v1");

/// `WatchService` whose stream is of encoded messages.
pub mod encoded {
    include!(concat!(env!("OUT_DIR"), "/portcullis.v1.WatchService.rs"));
}

/// The serialised descriptor set of all files and what they import, comments included.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/portcullis.v1.bin"));
