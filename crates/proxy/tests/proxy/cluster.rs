//! A leader with two standbys, real ones, whose agents say what a test wants them to, and a proxy before them.

use std::time::{Duration, Instant};

use api::routes::{Role, Routes};
use tokio_postgres::Client;

use crate::follow::{NAMES, Shop, Talk, node};
use crate::stage::{PATIENCE, Postgres, THREADS, connect, free_port, run_proxy_of};

pub struct Cluster {
    pub servers: Vec<Postgres>,
    pub write: u16,
    pub read: u16,
    shop: Shop,
    talk: Option<Talk>,
}

impl Cluster {
    /// n1 leads term 4; `lines` stand in the proxy's configuration.
    pub async fn open(lines: &str, change: impl Fn(&mut Routes)) -> Cluster {
        let leader = Postgres::start();
        drop(leader.wait_until_client().await);
        let standbys = [Postgres::follow(&leader), Postgres::follow(&leader)];
        let mut servers = vec![leader];
        servers.extend(standbys);
        for server in &servers {
            drop(server.wait_until_client().await);
        }
        let mut cluster = Cluster {
            servers,
            write: free_port(),
            read: free_port(),
            shop: tokio::task::block_in_place(Shop::open),
            talk: None,
        };
        cluster.say(4, 0, change);
        cluster.start_proxy(lines);
        for port in [cluster.write, cluster.read] {
            wait_until_served(port).await;
        }
        cluster
    }

    fn start_proxy(&self, lines: &str) {
        let _ = self.shop.identity("proxy-1");
        self.configure(lines);
        let _ = run_proxy_of(proxy::Config::load(&self.shop.dir.path().join("proxy.toml")).unwrap());
    }

    /// Writes the proxy's configuration, with `lines` in it.
    pub fn configure(&self, lines: &str) {
        let dir = self.shop.dir.path();
        let threads =
            if lines.contains("threads") { String::new() } else { format!("threads = {THREADS}\n") };
        let text = format!(
            "listen = [\"127.0.0.1:{}\"]\nlisten_read = [\"127.0.0.1:{}\"]\nauth.kind = \"trust\"\n\
             {threads}admin.users = [\"boss\"]\n{lines}\n[cluster]\nagents = [\"{}\"]\n\
             ca = {:?}\ncert = {:?}\nkey = {:?}\n",
            self.write,
            self.read,
            self.shop.agents[0].address,
            dir.join("ca.crt"),
            dir.join("proxy-1.crt"),
            dir.join("proxy-1.key"),
        );
        std::fs::write(dir.join("proxy.toml"), text).unwrap();
    }

    /// From now on all agents say that server number `leader` leads this term, changed like this.
    pub fn say(&mut self, term: u64, leader: usize, change: impl Fn(&mut Routes)) {
        let addresses: Vec<String> = self.servers.iter().map(Postgres::address).collect();
        let talk = self.shop.say(&NAMES, term, NAMES[leader], |routes| {
            for (member, address) in routes.members.iter_mut().zip(&addresses) {
                member.postgres.clone_from(address);
                member.replay_lag_ms = (member.role == Role::Standby).then_some(0);
            }
            routes.openings =
                vec![api::routes::Opening { term, timeline: 1, next_xid: Some(3), survives: true }];
            change(routes);
        });
        self.talk = Some(talk);
    }

    /// From now on the agent of server number `agent` gives such leases, or none.
    pub fn lease(&self, agent: usize, lease: Option<(u64, u64)>) {
        self.shop.lease(agent, lease);
    }

    pub async fn client(&self, port: u16) -> Client {
        connect(port, "postgres", "postgres").await.unwrap()
    }

    pub async fn console(&self) -> Client {
        connect(self.write, "boss", "pgbouncer").await.unwrap()
    }

    /// Which server answers a client, by its number.
    pub async fn at(&self, client: &Client) -> usize {
        let row = client.query_one("SELECT current_setting('port')::int", &[]).await.unwrap();
        let port: i32 = row.get(0);
        self.servers.iter().position(|s| i32::from(s.port) == port).unwrap()
    }

    /// Asks until a client is answered by one of these, and then ten times more.
    pub async fn wait_until_at(&self, client: &Client, expect: &[usize]) {
        let begun = Instant::now();
        while !expect.contains(&self.at(client).await) {
            assert!(begun.elapsed() < PATIENCE, "never answered by {expect:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for _ in 0..10 {
            let at = self.at(client).await;
            assert!(expect.contains(&at), "answered by {at} and not by {expect:?}");
        }
    }
}

async fn wait_until_served(port: u16) {
    let begun = Instant::now();
    while connect(port, "postgres", "postgres").await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "nobody listens on port {port}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What an agent says of one member.
pub fn member<'a>(routes: &'a mut Routes, name: &str) -> &'a mut api::routes::RouteMember {
    routes.members.iter_mut().find(|m| m.name == node(name)).unwrap()
}
