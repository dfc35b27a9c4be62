//! The proxy of a local cluster: it stands alone, as on an application's host, so
//! that it survives the loss of any node.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::furnish::write;
use crate::layout::PlannedProxy;
use crate::processes::running;
use crate::stage::{Stage, StageError, folder};

/// Longest that the proxy may take to listen.
const LISTEN_LIMIT: Duration = Duration::from_secs(15);
/// Longest that it may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

impl Stage {
    /// Writes the proxy's configuration, if the cluster has one.
    pub(crate) fn furnish_proxy(&self) -> Result<(), StageError> {
        let Some(proxy) = self.plan.proxy else { return Ok(()) };
        let (cert, key) = self.plan.proxy_files();
        let agents: Vec<String> =
            self.plan.nodes.iter().map(|n| format!("\"{}:{}\"", n.address, n.peers)).collect();
        let text = format!(
            "# The proxy of this playground.\nlisten = [\"127.0.0.1:{}\"]\nlisten_read = [\"127.0.0.1:{}\"]\n\n\
             [cluster]\nagents = [{}]\nca = {:?}\ncert = {cert:?}\nkey = {key:?}\nserver_tls = {}\n\n\
             [pool]\nresolve_autocommit = true\n",
            proxy.write,
            proxy.read,
            agents.join(", "),
            self.plan.dir.join("ca.crt"),
            self.plan.network.is_some(),
        );
        write(&self.plan.dir.join("proxy.toml"), &text, 0o644)
    }

    /// Starts the proxy, unless it runs or there is none, and waits until it listens.
    ///
    /// # Errors
    /// `Folder`, `Unhealthy`.
    pub fn start_proxy(&self) -> Result<(), StageError> {
        let Some(proxy) = self.plan.proxy.filter(|_| self.proxy_pid().is_none()) else { return Ok(()) };
        let path = self.plan.dir.join("proxy.log");
        let log =
            OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(folder(&path))?;
        let mut command = Command::new(&self.plan.binary);
        command.arg("proxy").arg("--config").arg(self.plan.dir.join("proxy.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).current_dir("/");
        command.spawn().map_err(folder(&self.plan.binary))?;
        let began = Instant::now();
        while !listens(proxy) {
            if began.elapsed() > LISTEN_LIMIT {
                let why = "the proxy does not listen; its log is proxy.log".to_string();
                return Err(StageError::Unhealthy {
                    waited: LISTEN_LIMIT,
                    why,
                    dir: self.plan.dir.display().to_string(),
                });
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Stops the proxy, and kills it if it does not.
    pub fn stop_proxy(&self) {
        let began = Instant::now();
        while let Some(pid) = self.proxy_pid() {
            let signal = if began.elapsed() > STOP_LIMIT { Signal::SIGKILL } else { Signal::SIGTERM };
            let _ = kill(Pid::from_raw(pid), signal);
            std::thread::sleep(LOOK);
        }
    }

    /// The proxy's process, if it runs.
    #[must_use]
    pub fn proxy_pid(&self) -> Option<i32> {
        self.plan.proxy?;
        let alive = |pid: &i32| postgres::guard::tree::state_of(*pid).is_some_and(|s| s != 'Z');
        running("proxy", &self.plan.dir.join("proxy.toml").display().to_string()).filter(alive)
    }
}

fn listens(proxy: PlannedProxy) -> bool {
    [proxy.write, proxy.read]
        .into_iter()
        .all(|port| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
}
