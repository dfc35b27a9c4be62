//! Unix sockets for clients: `.s.PGSQL.PORT` in a folder, as PostgreSQL has them.
//!
//! ```text
//!   lock file ▶ somebody answers? refuse ▶ left behind? remove ▶ bind ▶ mode, group ▶ listen
//! ```
//!
//! A socket that was left behind looks like a live one: only who connects
//! learns which it is. Two that start at once would both find it dead, and the
//! second remove what the first has just made; so whoever looks holds the lock
//! file first, and as long as it listens. The kernel lets go of it when its
//! holder dies.
//!
//! Nobody can connect before mode and group are set: a socket that is bound and
//! does not listen yet refuses.
//!
//! Never removes a socket that answers, nor one that somebody else has made
//! since.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net as std_net;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::net::UnixListener;

use crate::accept::Door;
use crate::config::Config;
use crate::routing::Target;
use crate::run::{BACKLOG, RunError, deal};
use crate::stream::{SOCKET_PATH_BYTES_MAX, Stream};

/// Times that the lock file may be exchanged under our hands before we give up.
const LOCK_TRIES_MAX: usize = 10;
/// The port in the socket's name if nothing else says one.
const PORT_DEFAULT: u16 = 6432;

/// Unix sockets for clients.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnixSocket {
    /// The folder.
    pub dir: PathBuf,
    /// Who may connect, as the file system understands it, in octal: `0777` for everybody.
    #[serde(default = "mode")]
    pub mode: String,
    /// The sockets' group; without it the proxy's own.
    #[serde(default)]
    pub group: Option<String>,
    /// The port in the name of the socket for those who write; without it that of the first `listen`.
    #[serde(default)]
    pub port: Option<u16>,
    /// The same for those who read; without it that of the first `listen_read`, and none if there is none.
    #[serde(default)]
    pub read_port: Option<u16>,
}

fn mode() -> String {
    "0777".to_string()
}

impl UnixSocket {
    fn mode(&self) -> Option<u32> {
        u32::from_str_radix(&self.mode, 8).ok().filter(|mode| *mode <= 0o777)
    }

    /// The sockets' paths.
    #[must_use]
    pub fn paths(&self, config: &Config) -> Vec<(PathBuf, Target)> {
        let port_of =
            |all: &[String]| all.first().and_then(|a| a.rsplit_once(':')).and_then(|(_, p)| p.parse().ok());
        let write = self.port.or(port_of(&config.listen)).or(Some(PORT_DEFAULT));
        let read = self.read_port.or(port_of(&config.listen_read));
        let ports = [(write, Target::Primary), (read, Target::Replica)];
        let path = |port: u16| self.dir.join(format!(".s.PGSQL.{port}"));
        ports.into_iter().filter_map(|(port, target)| Some((path(port?), target))).collect()
    }

    /// What can't be.
    ///
    /// # Errors
    /// The first, in words.
    pub fn check(&self, config: &Config) -> Result<(), String> {
        if !self.dir.is_absolute() {
            return Err(format!("unix_socket.dir = \"{}\": it must begin with /", self.dir.display()));
        }
        if self.mode().is_none() {
            return Err(format!(
                "unix_socket.mode = \"{}\": it is no mode in octal, such as 0777",
                self.mode
            ));
        }
        let paths = self.paths(config);
        if let Some((long, _)) = paths.iter().find(|(p, _)| p.as_os_str().len() > SOCKET_PATH_BYTES_MAX) {
            return Err(format!(
                "unix_socket.dir: the path '{}' is longer than the {SOCKET_PATH_BYTES_MAX} bytes that a socket's may have",
                long.display()
            ));
        }
        match paths.as_slice() {
            [(write, _), (read, _)] if write == read => {
                Err("unix_socket: readers and writers have the same port, so the same socket".to_string())
            }
            _ => Ok(()),
        }
    }
}

/// A socket that listens; gone from the file system when it is dropped.
pub struct UnixDoor {
    listener: UnixListener,
    path: PathBuf,
    /// Which file it was, as another may have taken its name.
    file: (u64, u64),
    _lock: File,
}

impl Drop for UnixDoor {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.file) {
            let _ = fs::remove_file(&self.path);
        }
        // Before the lock is let go: whoever takes it next finds that its file has no name any more, and looks again.
        let _ = fs::remove_file(lock_path(&self.path));
    }
}

/// Listens on all that are configured.
///
/// # Errors
/// The first that can't be.
pub fn open_all(config: &Config) -> Result<Vec<(UnixDoor, Target)>, RunError> {
    let Some(sockets) = &config.unix_socket else { return Ok(Vec::new()) };
    let opened = sockets.paths(config).into_iter().map(|(path, target)| {
        let failed = |why: String| RunError::Listen { address: path.display().to_string(), why };
        Ok((open(&path, sockets).map_err(|e| failed(e.to_string()))?, target))
    });
    opened.collect()
}

fn open(path: &Path, sockets: &UnixSocket) -> io::Result<UnixDoor> {
    let mut lock = lock(&lock_path(path))?;
    clear(path)?;
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    if let Some(group) = &sockets.group {
        let found = nix::unistd::Group::from_name(group)?;
        let found = found.ok_or_else(|| io::Error::other(format!("there is no group \"{group}\"")))?;
        std::os::unix::fs::chown(path, None, Some(found.gid.as_raw()))?;
    }
    let mode = sockets.mode().ok_or_else(|| io::Error::other("its mode is none"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())?;
    let made = fs::symlink_metadata(path)?;
    let listener = UnixListener::from_std(std_net::UnixListener::from(socket))?;
    Ok(UnixDoor { listener, path: path.to_owned(), file: (made.dev(), made.ino()), _lock: lock })
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// The lock file, ours as long as it is open. One that was removed between opening and locking is nobody's.
fn lock(path: &Path) -> io::Result<File> {
    for _ in 0..LOCK_TRIES_MAX {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if file.try_lock().is_err() {
            return Err(in_use("another proxy listens there"));
        }
        let there = fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()));
        let ours = file.metadata()?;
        if there == Some((ours.dev(), ours.ino())) {
            return Ok(file);
        }
    }
    Err(in_use("others come and go there"))
}

/// Makes room: removes what was left behind, and nothing else.
fn clear(path: &Path) -> io::Result<()> {
    let Ok(there) = fs::symlink_metadata(path) else { return Ok(()) };
    if !there.file_type().is_socket() {
        return Err(in_use("a file is there that is no socket"));
    }
    let probe = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    // One whose queue is full is alive: it must not keep us waiting.
    probe.set_nonblocking(true)?;
    match probe.connect(&socket2::SockAddr::unix(path)?) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "a socket that was left behind is removed");
            fs::remove_file(path)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(()) | Err(_) => Err(in_use("somebody listens there")),
    }
}

fn in_use(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, why.to_string())
}

impl UnixDoor {
    /// Lets clients in until it is dropped.
    pub async fn accept(self, door: Door) {
        loop {
            match self.listener.accept().await {
                Ok((socket, _)) => deal(&door, Stream::Unix(socket)),
                Err(why) => {
                    tracing::warn!(%why, "can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(dir: &Path) -> UnixSocket {
        UnixSocket { dir: dir.to_owned(), mode: "0770".into(), group: None, port: None, read_port: None }
    }

    fn in_runtime(story: impl FnOnce(&Path)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let dir = tempfile::tempdir().expect("a folder");
        let _guard = runtime.enter();
        story(dir.path());
    }

    #[test]
    fn a_live_socket_is_never_taken_and_a_dead_one_is() {
        in_runtime(|dir| {
            let (path, sockets) = (dir.join(".s.PGSQL.1"), sockets(dir));
            // Somebody who knows nothing of lock files.
            let other = std_net::UnixListener::bind(&path).expect("a socket");
            let said = open(&path, &sockets).err().map(|e| e.kind());
            assert_eq!(said, Some(io::ErrorKind::AddrInUse));
            assert!(std_net::UnixStream::connect(&path).is_ok());
            drop(other);
            assert!(path.exists(), "it is left behind");
            let ours = open(&path, &sockets).expect("the dead one is removed");
            assert!(std_net::UnixStream::connect(&path).is_ok());
            assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, 0o770);
            let said = open(&path, &sockets).err().map(|e| e.to_string());
            assert_eq!(said.as_deref(), Some("another proxy listens there"));
            assert!(std_net::UnixStream::connect(&path).is_ok());
            drop(ours);
            assert!(!path.exists() && !lock_path(&path).exists());
        });
    }

    #[test]
    fn what_others_put_there_stays() {
        in_runtime(|dir| {
            let (path, sockets) = (dir.join(".s.PGSQL.2"), sockets(dir));
            fs::write(&path, "a file").expect("a file");
            assert!(open(&path, &sockets).is_err() && path.exists());
            fs::remove_file(&path).expect("it is ours");
            let ours = open(&path, &sockets).expect("there is room");
            fs::remove_file(&path).expect("somebody removes it");
            let next = std_net::UnixListener::bind(&path).expect("and makes another");
            drop(ours);
            assert!(std_net::UnixStream::connect(&path).is_ok());
            drop(next);
        });
    }

    #[test]
    fn a_configuration_that_can_not_be_is_refused() {
        let with = |lines: &str| {
            let text = format!("auth.kind = \"trust\"\n{lines}\n[[server]]\naddress = \"db:5432\"\n");
            Config::parse(&text, Path::new("proxy.toml")).map_err(|e| e.to_string())
        };
        for (bad, why) in [
            ("unix_socket.dir = \"run\"", "must begin with /"),
            ("unix_socket = { dir = \"/run\", mode = \"rw\" }", "no mode"),
            ("unix_socket = { dir = \"/run\", mode = \"4777\" }", "no mode"),
            ("unix_socket = { dir = \"/run\", read_port = 6432 }", "same port"),
            (&format!("unix_socket.dir = \"/{}\"", "a".repeat(100)), "longer than"),
        ] {
            let said = with(bad).expect_err(bad);
            assert!(said.contains(why), "{bad}: {said}");
        }
        let good = with("listen_read = [\"h:7\"]\nunix_socket.dir = \"/run\"").expect("it is right");
        let paths = good.unix_socket.as_ref().expect("it has one").paths(&good);
        let paths: Vec<String> = paths.iter().map(|(p, _)| p.display().to_string()).collect();
        assert_eq!(paths, ["/run/.s.PGSQL.6432", "/run/.s.PGSQL.7"]);
    }
}
