//! Servers that refuse at once, while clients wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::stage::{PATIENCE, connect, free_port, run_proxy, said, told};

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
        let begun = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(begun.elapsed() < PATIENCE, "nobody listens");
            tokio::task::yield_now().await;
        }
        let clients = (0..CLIENTS).map(|_| tokio::spawn(connect(port, "postgres", "postgres")));
        for client in clients.collect::<Vec<_>>() {
            let error = client.await.unwrap().err().unwrap();
            assert_eq!(said(&error).0, "57P03", "{error:?}");
        }
        let attempts = attempts.load(Ordering::Relaxed);
        assert!((2..=ATTEMPTS_MAX).contains(&attempts), "{attempts} logins were tried in 2 s");
    });
}
