//! An agent's hands on a real server that no guard has started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postgres::config::{ServerConfig, Transport};
use postgres::guard::client::Client;
use postgres::guard::protocol::{Answer, Event, Request, Start, Status};
use postgres::guard::tree;
use postgres::perform::{Hands, Site};
use postgres::{NodeDir, Programs, RunAs, Secrets};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

use super::{Server, bin15};

/// A guard that starts a server, kills it, and says whether the postmaster lives. It
/// sends signals, but fails at the second.
async fn guard(socket: &Path, pgdata: PathBuf, mut pid: Option<i32>) -> Client {
    let listener = UnixListener::bind(socket).unwrap();
    let (client, _news) = Client::connect(socket).await.unwrap();
    let (read, mut write) = listener.accept().await.unwrap().0.into_split();
    tokio::spawn(async move {
        let mut lines = BufReader::new(read).lines();
        let mut signals = 0;
        while let Ok(Some(line)) = lines.next_line().await {
            let asked: Request<serde_json::Value> = serde_json::from_str(&line).unwrap();
            let signal = asked.ask.pointer("/signal/signal").and_then(serde_json::Value::as_i64);
            signals += u32::from(signal.is_some());
            let answer = match signal.map(|n| Signal::try_from(n as i32).unwrap()) {
                None if asked.ask == "kill" => {
                    pid = None;
                    assert!(tree::kill_all(&pgdata), "something of the server is left");
                    Answer::Done
                }
                None if asked.ask.get("start").is_some() => {
                    tree::remove_stale_pid_file(&pgdata);
                    let started = start(serde_json::from_value(asked.ask["start"].clone()).unwrap());
                    pid = Some(started);
                    Answer::Started(started)
                }
                None => Answer::Status(Status { postmaster: pid, deadline_ms: None, fired: false }),
                Some(_) if signals == 2 => Answer::Failed("not now".to_string()),
                Some(signal) => {
                    kill(Pid::from_raw(pid.unwrap()), signal).unwrap();
                    Answer::Done
                }
            };
            let said =
                serde_json::to_string(&Event::Numbered { number: asked.number, answer }).unwrap() + "\n";
            write.write_all(said.as_bytes()).await.unwrap();
        }
    });
    client
}

fn start(order: Start) -> i32 {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&order.log).unwrap();
    let mut command = Command::new(&order.argv[0]);
    command.args(&order.argv[1..]).env_clear().envs(order.env).current_dir("/");
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    order.run_as.apply(&mut command);
    command.spawn().unwrap().id() as i32
}

pub async fn hands(dir: &Path, server: &Server) -> Hands {
    hands_on(dir, server, Some(server.pid())).await
}

/// On a server that is down.
pub async fn hands_on_stopped(dir: &Path, server: &Server) -> Hands {
    hands_on(dir, server, None).await
}

async fn hands_on(dir: &Path, server: &Server, pid: Option<i32>) -> Hands {
    let node = NodeDir::with_sockets(server.dir.clone(), server.dir.clone()).unwrap();
    let config = ServerConfig {
        node: "n1".to_string(),
        listen: vec!["127.0.0.1".to_string()],
        port: server.port,
        tls: None,
        members: 3,
        parameters: BTreeMap::new(),
        floor: postgres::config::Floor::default(),
    };
    let site = Site {
        log: server.dir.join("log"),
        dir: node,
        programs: Programs::find(&bin15()).unwrap(),
        run_as: RunAs::for_server().unwrap(),
        secrets: Secrets::generate().unwrap(),
        transport: Transport::Plain,
        guard: guard(&dir.join("guard.sock"), server.pgdata.clone(), pid).await,
    };
    Hands::new(site, config)
}
