//! Addresses and sockets to listen on, and who may listen where.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fmt, fs};

use tokio::net::{TcpListener, UnixListener, UnixStream};

/// Where `serve` listens unless said otherwise.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:50051";

/// Where to listen: `127.0.0.1:50051`, `[::1]:50051`, `localhost:50051` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and port; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// The path of a socket.
    Unix(PathBuf),
}

/// A text that is no [`ListenAddress`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no address to listen on; expected an IP address (or localhost) and a port, such as \
     127.0.0.1:50051, or unix:PATH"
)]
pub struct MalformedAddress(String);

impl FromStr for ListenAddress {
    type Err = MalformedAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || MalformedAddress(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err(malformed()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        numeric.parse().map(Self::Tcp).map_err(|_| malformed())
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl ListenAddress {
    /// Whether only this machine can reach it.
    fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Opens the socket. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// Which address, why not, and what to do.
    pub async fn bind(&self) -> Result<Listener, ListenError> {
        let bound = match self {
            Self::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
            Self::Unix(path) => bind_unix(path).await,
        };
        bound.map_err(|error| ListenError {
            address: self.clone(),
            hint: hint(&error),
            error,
        })
    }
}

/// A socket that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {error}{hint}")]
pub struct ListenError {
    address: ListenAddress,
    hint: &'static str,
    error: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another process listens there: end it, or choose another address with --listen"
        }
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        io::ErrorKind::PermissionDenied => {
            "; choose a port above 1023, or a path that may be written"
        }
        io::ErrorKind::NotFound => "; the directory of the socket does not exist",
        _ => "",
    }
}

/// An open socket.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket; dropping this removes it.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Where it is gone already, somebody else was faster.
        let _ = fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Where it listens; the port that the system chose included.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn address(&self) -> io::Result<ListenAddress> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(ListenAddress::Tcp),
            Self::Unix(_, SocketFile(path)) => Ok(ListenAddress::Unix(path.clone())),
        }
    }
}

async fn bind_unix(path: &Path) -> io::Result<Listener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if !is_socket(path) {
                let message =
                    "there is a file of that name, and it is no socket; choose another path";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
            }
            if !is_abandoned(path).await {
                return Err(error);
            }
            fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
    .map(|listener| Listener::Unix(listener, SocketFile(path.to_owned())))
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket())
}

/// A socket that refuses connections was left behind by a process that is gone.
async fn is_abandoned(path: &Path) -> bool {
    let connected = UnixStream::connect(path).await;
    connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Why serving there is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} can be reached from other machines, and no callers are configured: whoever reaches it \
     could read and write everything; listen on 127.0.0.1 or a unix socket, or say --open"
)]
pub struct NotOpen(ListenAddress);

/// Whether a server may listen on `addresses`: without configured callers it is open to whoever
/// reaches it, so that it stays on this machine unless `open` is said. The line to print comes
/// back where it is open.
///
/// # Errors
/// The first address that is refused.
pub fn may_listen(
    addresses: &[ListenAddress],
    has_callers: bool,
    open: bool,
) -> Result<Option<&'static str>, NotOpen> {
    if has_callers {
        return Ok(None);
    }
    let elsewhere = addresses.iter().find(|address| !address.is_local());
    match elsewhere {
        Some(address) if !open => Err(NotOpen(address.clone())),
        Some(_) => Ok(Some(
            "no callers are configured and --open was said: anyone on the network may do anything",
        )),
        None => Ok(Some(
            "no callers are configured: anyone on this machine may do anything",
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

    use super::*;

    #[test]
    fn addresses_are_read() {
        let cases = [
            ("127.0.0.1:50051", Some("127.0.0.1:50051")),
            ("[::1]:1", Some("[::1]:1")),
            ("localhost:7", Some("127.0.0.1:7")),
            ("unix:/run/p.sock", Some("unix:/run/p.sock")),
            ("unix:///run/p.sock", Some("unix:/run/p.sock")),
            ("unix:", None),
            ("", None),
            ("127.0.0.1", None),
            ("127.0.0.1:70000", None),
            ("example.com:80", None),
        ];
        for (text, expected) in cases {
            let read = text.parse::<ListenAddress>().ok();
            let read = read.map(|address| address.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn who_may_listen_where() {
        // addresses, callers, --open: refused, open, guarded
        let cases = [
            (&["127.0.0.1:1"][..], false, false, "open"),
            (&["127.9.9.9:1"], false, false, "open"),
            (&["[::1]:1"], false, false, "open"),
            (&["[::ffff:127.0.0.1]:1"], false, false, "open"),
            (&["unix:/x"], false, false, "open"),
            (&["0.0.0.0:1"], false, false, "refused"),
            (&["[::]:1"], false, false, "refused"),
            (&["10.0.0.1:1"], false, false, "refused"),
            (&["127.0.0.1:1", "10.0.0.1:1"], false, false, "refused"),
            (&["10.0.0.1:1"], false, true, "open"),
            (&["10.0.0.1:1"], true, false, "guarded"),
            (&["127.0.0.1:1"], true, false, "guarded"),
        ];
        for (texts, callers, open, expected) in cases {
            let addresses: Vec<_> = texts.iter().map(|text| text.parse().unwrap()).collect();
            let seen = match may_listen(&addresses, callers, open) {
                Err(_) => "refused",
                Ok(Some(_)) => "open",
                Ok(None) => "guarded",
            };
            assert_eq!(seen, expected, "{texts:?} {callers} {open}");
        }
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.sock");
        let address = ListenAddress::Unix(path.clone());
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let first = address.bind().await.unwrap();
        let error = address.bind().await.unwrap_err().to_string();
        assert!(error.contains("another process"), "{error}");
        drop(first);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        fs::write(&path, "mine").unwrap();
        ListenAddress::Unix(path.clone()).bind().await.unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }
}
