//! Compiles `proto/` without protoc, and keeps the descriptor set for reflection.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = proto_files(Path::new("proto/portcullis/v1"))?;
    let descriptors = protox::Compiler::new(["proto"])?
        .include_source_info(true)
        .include_imports(true)
        .open_files(&files)?
        .file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("portcullis.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_server(true)
        .build_client(true)
        .out_dir(out)
        .compile_fds(descriptors)?;
    watch_service();
    Ok(())
}

/// The server of `WatchService` once more, for streams of messages that are encoded already: one
/// encoding serves all watchers.
fn watch_service() {
    use tonic_prost_build::manual::{Builder, Method, Service};
    let method = |name: &str, route: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type(format!("crate::api::proto::{route}Request"))
    };
    let unary = |name: &str, route: &str| {
        method(name, route)
            .output_type(format!("crate::api::proto::{route}Response"))
            .codec_path("tonic_prost::ProstCodec")
            .build()
    };
    let changes = method("watch_changes", "WatchChanges")
        .output_type("crate::api::watch::frame::Frame")
        .codec_path("crate::api::watch::frame::FrameCodec")
        .server_streaming()
        .build();
    let service = Service::builder()
        .name("WatchService")
        .package("portcullis.v1")
        .comment("WatchService, of encoded messages.")
        .method(changes)
        .method(unary("ack_changes", "AckChanges"))
        .method(unary("list_watchers", "ListWatchers"))
        .build();
    Builder::new().build_client(false).compile(&[service]);
}

fn proto_files(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
