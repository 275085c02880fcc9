//! The process behind an address, where it runs on this machine: so that its CPU can be read.

use std::fs;
use std::time::Duration;

/// A process of this machine.
pub(super) struct Process(u32);

/// Clock ticks a second, as Linux has them for user space.
const TICKS: u64 = 100;

impl Process {
    /// The one that listens at `http://HOST:PORT` or `unix:PATH`; `None` where it can't be seen.
    pub(super) fn listening_at(server: &str) -> Option<Self> {
        let inode = match server.strip_prefix("unix:") {
            Some(path) => unix_inode(path.trim_start_matches("//"))?,
            None => {
                let port = server.trim_end_matches('/').rsplit_once(':')?.1;
                tcp_inode(port.parse().ok()?)?
            }
        };
        let link = format!("socket:[{inode}]");
        let holds = |pid: &u32| {
            let files = fs::read_dir(format!("/proc/{pid}/fd")).ok();
            let mut files = files.into_iter().flatten().flatten();
            files.any(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == &*link))
        };
        let all = fs::read_dir("/proc").ok()?.flatten();
        let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.find(holds).map(Self)
    }

    /// What it has used of all processors since it began.
    pub(super) fn cpu(&self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        // The name, in brackets, may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut times = fields.split_whitespace().skip(11);
        let mut ticks = || times.next()?.parse::<u64>().ok();
        let used = ticks()? + ticks()?;
        Some(Duration::from_millis(used * 1_000 / TICKS))
    }
}

fn tcp_inode(port: u16) -> Option<String> {
    const LISTENS: &str = "0A";
    let port = format!(":{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|file| {
        let table = fs::read_to_string(file).ok()?;
        table.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens = fields.get(1)?.ends_with(&port) && *fields.get(3)? == LISTENS;
            listens.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
        })
    })
}

fn unix_inode(path: &str) -> Option<String> {
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let found = *fields.get(7)? == path;
        found.then(|| fields.get(6).map(|inode| (*inode).to_owned()))?
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_process_is_found_by_where_it_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let found = Process::listening_at(&address).unwrap();
        assert_eq!(found.0, std::process::id());
        assert!(found.cpu().is_some());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let found = Process::listening_at(&format!("unix:{}", path.display())).unwrap();
        assert_eq!(found.0, std::process::id());
        drop(listener);
        assert!(Process::listening_at(&address).is_none());
    }
}
