//! Servers that refuse at once, or take their time, while clients wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::stage::{Postgres, connect, free_port, run_proxy, said, told, wait_until_some};

/// Logins that may be tried within the 2 s that clients wait: one for each of them, then 4 within 0.3 s, then 4 in a
/// second; twice that, as clients may begin to wait one after the other.
const ATTEMPTS_MAX: usize = 2 * (4 + 2 * 4) + CLIENTS;
const CLIENTS: usize = 3;

#[test]
fn one_that_refuses_is_not_asked_in_a_loop() {
    told(async {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, port) = (server.local_addr().unwrap(), free_port());
        let attempts = Arc::new(AtomicUsize::new(0));
        let counted = attempts.clone();
        // It says nothing and hangs up, as one that can't fork.
        tokio::spawn(async move {
            while let Ok((socket, _)) = server.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                drop(socket);
            }
        });
        run_proxy(&format!(
            "listen = [\"127.0.0.1:{port}\"]\nauth.kind = \"trust\"\nhold.timeout_s = 2\n\
             [[server]]\naddress = \"{address}\"\n"
        ));
        wait_until_some("nobody listens", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        let clients = (0..CLIENTS).map(|_| tokio::spawn(connect(port, "postgres", "postgres")));
        for client in clients.collect::<Vec<_>>() {
            let error = client.await.unwrap().err().unwrap();
            assert_eq!(said(&error).0, "57P03", "{error:?}");
        }
        let attempts = attempts.load(Ordering::Relaxed);
        assert!((2..=ATTEMPTS_MAX).contains(&attempts), "{attempts} logins were tried in 2 s");
    });
}

/// What stands before a server, and lets nobody through until it is opened.
struct Barrier {
    address: String,
    arrived: Arc<AtomicUsize>,
    left: Arc<AtomicUsize>,
    open: tokio::sync::watch::Sender<bool>,
}

impl Barrier {
    async fn before(server: String) -> Barrier {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (arrived, left) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let open = tokio::sync::watch::Sender::new(false);
        let (came, went, opened) = (arrived.clone(), left.clone(), open.subscribe());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                came.fetch_add(1, Ordering::Relaxed);
                let (server, went, mut opened) = (server.clone(), went.clone(), opened.clone());
                tokio::spawn(async move {
                    opened.wait_for(|open| *open).await.unwrap();
                    let mut server = tokio::net::TcpStream::connect(server).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    went.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Barrier { address, arrived, left, open }
    }
}

#[test]
fn a_login_under_way_leaves_nothing_behind_in_a_database_that_was_killed() {
    told(async {
        let server = Postgres::start();
        drop(server.wait_until_client().await);
        let barrier = Barrier::before(server.address()).await;
        let port = free_port();
        run_proxy(&format!(
            "listen = [\"127.0.0.1:{port}\"]\nauth.kind = \"trust\"\nadmin.users = [\"boss\"]\n\
             [[server]]\naddress = \"{}\"\n",
            barrier.address
        ));
        wait_until_some("nobody listens", async || connect(port, "boss", "pgbouncer").await.ok()).await;
        let boss = connect(port, "boss", "pgbouncer").await.unwrap();
        let client = tokio::spawn(connect(port, "postgres", "postgres"));
        let one_is = |count: &AtomicUsize| (count.load(Ordering::Relaxed) > 0).then_some(());
        wait_until_some("nobody logs in", async || one_is(&barrier.arrived)).await;
        boss.simple_query("kill postgres").await.unwrap();
        barrier.open.send_replace(true);
        wait_until_some("the connection stays", async || one_is(&barrier.left)).await;
        boss.simple_query("resume postgres").await.unwrap();
        client.await.unwrap().unwrap().simple_query("select 1").await.unwrap();
    });
}
