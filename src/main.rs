//! The `portcullis` binary.

use std::process::ExitCode;

/// The system's allocator keeps what an import and its merges have let go of: twice what stands.
#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    portcullis::cli::main(std::env::args_os())
}
