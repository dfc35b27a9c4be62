//! Subscribers over real mutual TLS: told at once, kept alive, and nothing more than that.

#![allow(clippy::unwrap_used)] // a panic in a test is its report

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use cluster::NodeId;
use peers::certs::Authority;
use peers::frame::{self, Frame};
use peers::subscribers::{KEEP_ALIVE, SUBSCRIBERS_MAX};
use peers::subscription::Said;
use peers::{Bearer, Config, Identity, Incoming, Kind, Peers, PeersError, Subscribers, subscribe};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

struct Shop {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Shop {
    fn open() -> Shop {
        let shop = Shop { dir: tempfile::tempdir().unwrap(), authority: Authority::create("shop").unwrap() };
        shop.authority.save(shop.dir.path()).unwrap();
        shop
    }

    fn identity(&self, name: &str, of: Option<&Authority>) -> Identity {
        let (dir, authority) = (self.dir.path(), of.unwrap_or(&self.authority));
        let proxy = name.starts_with("proxy");
        let name_of = node(name);
        let issued = if proxy { authority.issue_to_proxy(&name_of) } else { authority.issue(&name_of, &[]) };
        issued.unwrap().save_as(dir, name).unwrap();
        let file = |end: &str| dir.join(format!("{name}.{end}"));
        Identity::load(&dir.join("ca.crt"), &file("crt"), &file("key")).unwrap()
    }

    /// The agent of n1, on some port.
    async fn agent(&self) -> (Subscribers, String, mpsc::Receiver<Incoming>) {
        let subscribers = Subscribers::default();
        let (address, incoming) = self.agent_with(&subscribers).await;
        (subscribers, address, incoming)
    }

    async fn agent_with(&self, subscribers: &Subscribers) -> (String, mpsc::Receiver<Incoming>) {
        let config = Config {
            identity: self.identity("n1", None),
            listen: "127.0.0.1:0".to_string(),
            subscribers: subscribers.clone(),
        };
        let (peers, incoming) = Peers::start(config).await.unwrap();
        (peers.listens_on().to_string(), incoming)
    }
}

#[test]
fn a_certificate_says_what_its_bearer_is() {
    let shop = Shop::open();
    assert_eq!(*shop.identity("n1", None).bearer(), Bearer::Node(node("n1")));
    assert_eq!(*shop.identity("proxy-1", None).bearer(), Bearer::Proxy(node("proxy-1")));
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode(&shop.dir.path().join("proxy-1.key")), 0o600);
}

fn routes(body: &'static str) -> Said {
    Said::Routes(Bytes::from(body))
}

#[tokio::test]
async fn who_asks_for_a_lease_is_given_it_and_nobody_else() {
    let shop = Shop::open();
    let (subscribers, mut asks) = Subscribers::open();
    let (address, _incoming) = shop.agent_with(&subscribers).await;
    let (_, mut one, mut asks_one) = subscribe(&shop.identity("proxy-1", None), &address).await.unwrap();
    let (_, mut other, mut asks_other) = subscribe(&shop.identity("proxy-2", None), &address).await.unwrap();
    asks_one.ask_lease(Bytes::from("1")).await.unwrap();
    let first = timeout(PATIENCE, asks.recv()).await.unwrap().unwrap();
    asks_other.ask_lease(Bytes::from("2")).await.unwrap();
    let second = timeout(PATIENCE, asks.recv()).await.unwrap().unwrap();
    assert_ne!(first.from, second.from);
    assert_eq!((&first.body[..], &second.body[..]), (&b"1"[..], &b"2"[..]));
    subscribers.give_lease(second.from, Bytes::from("for two"));
    subscribers.give_lease(first.from, Bytes::from("for one"));
    subscribers.give_lease(first.from.max(second.from) + 1, Bytes::from("for nobody"));
    assert_eq!(one.next().await.unwrap(), Said::Lease(Bytes::from("for one")));
    assert_eq!(other.next().await.unwrap(), Said::Lease(Bytes::from("for two")));
    // Whoever says more than that is not listened to any more.
    asks_one.ask_lease(Bytes::from(vec![0; 65])).await.unwrap();
    assert!(timeout(PATIENCE, one.next()).await.unwrap().is_err());
}

#[tokio::test]
async fn a_subscriber_is_told_at_once_and_again_before_long() {
    let shop = Shop::open();
    let (subscribers, address, _incoming) = shop.agent().await;
    subscribers.publish(Bytes::from("first"), true);
    let (who, mut hearing, mut saying) = subscribe(&shop.identity("proxy-1", None), &address).await.unwrap();
    assert_eq!(who, node("n1"));
    assert_eq!(hearing.next().await.unwrap(), routes("first"));
    subscribers.publish(Bytes::from("second"), true);
    assert_eq!(hearing.next().await.unwrap(), routes("second"));
    assert_eq!(hearing.next().await.unwrap(), routes("second"), "the keep-alive");
    subscribers.publish(Bytes::from("third"), false);
    assert_eq!(hearing.next().await.unwrap(), routes("third"), "with the next keep-alive");
    let mut present = subscribers.present();
    let silent = present.borrow_and_update().values().all(|s| s.drained.is_none());
    assert!(silent && present.borrow().len() == 1);
    saying.drained(Bytes::from("5")).await.unwrap();
    let said = |p: &peers::subscribers::Present| p.values().any(|s| s.drained.as_deref() == Some(b"5"));
    timeout(PATIENCE, present.wait_for(said)).await.unwrap().unwrap();
    subscribers.forget_words();
    assert!(!said(&present.borrow()));
    drop((hearing, saying));
    timeout(PATIENCE, present.wait_for(|p| p.is_empty())).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_agent_that_stands_still_falls_silent() {
    let shop = Shop::open();
    let (subscribers, address, _incoming) = shop.agent().await;
    subscribers.publish(Bytes::from("only"), true);
    let (_, mut hearing, _saying) = subscribe(&shop.identity("proxy-1", None), &address).await.unwrap();
    let silence = async {
        loop {
            if let Err(why) = hearing.next().await {
                return why;
            }
        }
    };
    assert!(matches!(timeout(PATIENCE, silence).await.unwrap(), PeersError::Timeout(_)));
}

/// A raw connection of `identity`, which says `frame` and hears what comes back.
async fn says(identity: &Identity, address: &str, kind: Kind) -> Option<Frame> {
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut stream, _) = identity.secure(socket, address).await.unwrap();
    frame::write(&mut stream, &Frame { kind, body: Bytes::from("word") }).await.unwrap();
    timeout(PATIENCE, frame::read(&mut stream)).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_proxy_is_no_agent() {
    let shop = Shop::open();
    let (subscribers, address, mut incoming) = shop.agent().await;
    subscribers.publish(Bytes::from("picture"), true);
    let proxy = shop.identity("proxy-1", None);
    for kind in
        [Kind::Raft, Kind::Report, Kind::Request, Kind::Wal, Kind::Answer, Kind::Routes, Kind::Drained]
    {
        assert_eq!(says(&proxy, &address, kind).await, None, "{kind:?} was not refused");
    }
    assert!(incoming.try_recv().is_err(), "something of a proxy's got through");
    // What is said after the subscription is no better.
    let socket = TcpStream::connect(&address).await.unwrap();
    let (mut stream, _) = proxy.secure(socket, &address).await.unwrap();
    for kind in [Kind::Watch, Kind::Report] {
        frame::write(&mut stream, &Frame { kind, body: Bytes::new() }).await.unwrap();
    }
    let closed = async { while frame::read(&mut stream).await.unwrap().is_some() {} };
    timeout(PATIENCE, closed).await.unwrap();
    assert!(incoming.try_recv().is_err(), "a subscriber's report got through");
    // A node may do both.
    let other = shop.identity("n2", None);
    assert_eq!(says(&other, &address, Kind::Watch).await.unwrap().body, "picture");
    let socket = TcpStream::connect(&address).await.unwrap();
    let (mut stream, _) = other.secure(socket, &address).await.unwrap();
    frame::write(&mut stream, &Frame { kind: Kind::Report, body: Bytes::from("r") }).await.unwrap();
    let heard = timeout(PATIENCE, incoming.recv()).await.unwrap().unwrap();
    assert_eq!((heard.from, heard.kind), (node("n2"), Kind::Report));
}

#[tokio::test]
async fn nobody_listens_with_a_proxys_certificate() {
    let shop = Shop::open();
    let config = Config {
        identity: shop.identity("proxy-1", None),
        listen: "127.0.0.1:0".to_string(),
        subscribers: Subscribers::default(),
    };
    let (peers, _incoming) = Peers::start(config).await.unwrap();
    let address = peers.listens_on().to_string();
    assert!(subscribe(&shop.identity("n2", None), &address).await.is_err());
}

#[tokio::test]
async fn another_clusters_certificate_subscribes_to_nothing() {
    let shop = Shop::open();
    let (subscribers, address, _incoming) = shop.agent().await;
    subscribers.publish(Bytes::from("picture"), true);
    let stranger = shop.identity("proxy-2", Some(&Authority::create("other").unwrap()));
    // The refusal arrives after the handshake, from the client's point of view.
    if let Ok((_, mut hearing, _)) = subscribe(&stranger, &address).await {
        assert!(hearing.next().await.is_err());
    }
    assert!(subscribers.present().borrow().is_empty());
}

#[tokio::test]
async fn subscribers_are_bounded() {
    let shop = Shop::open();
    let (subscribers, address, _incoming) = shop.agent().await;
    subscribers.publish(Bytes::from("picture"), true);
    let proxy = shop.identity("proxy-1", None);
    let mut all = Vec::new();
    for _ in 0..SUBSCRIBERS_MAX {
        let (_, mut hearing, saying) = subscribe(&proxy, &address).await.unwrap();
        hearing.next().await.unwrap();
        all.push((hearing, saying));
    }
    let (_, mut hearing, _saying) = subscribe(&proxy, &address).await.unwrap();
    subscribers.publish(Bytes::from("picture"), true);
    let told = hearing.next().await;
    assert!(matches!(told, Err(PeersError::Unreachable { .. })), "{told:?}");
    assert!(KEEP_ALIVE * 4 <= peers::subscription::SILENCE);
}
