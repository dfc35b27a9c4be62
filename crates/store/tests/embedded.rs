//! The embedded store passes the suite, in one process, on real files.

#![allow(clippy::unwrap_used)] // a panic in a test is its report

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cluster::NodeId;
use cluster::command::{Addresses, Change};
use store::conformance::{agrees, by, claim, serialises, settle, until};
use store::embedded::{Outgoing, Start, Wire, open};
use store::{Store, SubmitError};
use tokio::sync::mpsc;

/// Nodes whose words go from queue to queue; a node that is cut hears and says nothing.
#[derive(Clone, Default)]
struct Net {
    wires: Arc<Mutex<BTreeMap<NodeId, Wire>>>,
}

impl Net {
    fn plug(&self, name: &str, dir: &Path, start: &Start) -> Store {
        let me = NodeId::new(name).unwrap();
        let (out, mut rx) = mpsc::unbounded_channel::<Outgoing>();
        let (store, wire) = open(dir, "conformance", start, out).unwrap();
        self.wires.lock().unwrap().insert(me.clone(), wire);
        let wires = self.wires.clone();
        tokio::spawn(async move {
            while let Some(m) = rx.recv().await {
                let wires = wires.lock().unwrap();
                let wire = wires.get(&m.to).filter(|_| wires.contains_key(&me));
                if let Some(wire) = wire {
                    wire.deliver(me.clone(), m.body);
                }
            }
        });
        store
    }

    fn cut(&self, name: &str) {
        self.wires.lock().unwrap().remove(&NodeId::new(name).unwrap());
    }
}

fn dir(root: &Path, name: &str) -> PathBuf {
    root.join(name)
}

async fn three(net: &Net, root: &Path) -> Vec<Store> {
    let first = net.plug("n1", &dir(root, "n1"), &Start::Bootstrap);
    settle(&first, &claim(&["n1", "n2", "n3"])).await.unwrap();
    let mut stores = vec![first];
    for name in ["n2", "n3"] {
        let id = join(&stores[0], name, 7).await;
        stores.push(net.plug(name, &dir(root, name), &Start::Join(id)));
    }
    for store in &stores {
        wait_until_voters(store, 3).await;
    }
    stores
}

async fn join(store: &Store, name: &str, nonce: u64) -> u64 {
    let node = NodeId::new(name).unwrap();
    let change = Change::Join { node: node.clone(), addresses: Addresses::default(), nonce };
    settle(store, &by(name, change)).await.unwrap().members[&node].raft_id
}

async fn wait_until_voters(store: &Store, n: usize) {
    let began = Instant::now();
    while store.health().voters.len() != n || store.health().leader == 0 {
        assert!(
            began.elapsed() < store::conformance::PATIENCE,
            "waited for {n} voters: {:?}",
            store.health()
        );
        tokio::task::yield_now().await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_store_conforms() {
    let stores = [store::memory::open()];
    agrees(&stores).await;
    serialises(&stores).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_becomes_three_and_they_agree() {
    let root = tempfile::tempdir().unwrap();
    let net = Net::default();
    let stores = three(&net, root.path()).await;
    serialises(&stores).await;
    let began = Instant::now();
    for _ in 0..20 {
        settle(&stores[1], &by("n2", Change::Pause)).await.unwrap();
        settle(&stores[2], &by("n3", Change::Resume)).await.unwrap();
    }
    println!("a submission took {} us", began.elapsed().as_micros() / 40);
    let read = stores[2].read().await.unwrap();
    for store in &stores {
        until(store, "the same revision", |s| s.revision == read.revision).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_agrees_to_nothing_and_catches_up() {
    let root = tempfile::tempdir().unwrap();
    let net = Net::default();
    let mut stores = three(&net, root.path()).await;
    net.cut("n3");
    let alone = stores[2].submit(by("n3", Change::Pause)).await;
    assert_eq!(alone.unwrap_err(), SubmitError::Unknown);
    assert_eq!(stores[2].read().await.unwrap_err(), SubmitError::Unknown);
    settle(&stores[0], &by("n1", Change::Pause)).await.unwrap();
    drop(stores.pop());
    let back = wait_until_reopened(&net, "n3", root.path()).await;
    until(&back, "what was agreed without it", |s| s.ctl.paused).await;
}

/// The file is released when the old thread has noticed that nobody is left.
async fn wait_until_reopened(net: &Net, name: &str, root: &Path) -> Store {
    let began = Instant::now();
    loop {
        let (out, rx) = mpsc::unbounded_channel::<Outgoing>();
        drop(rx);
        match open(&dir(root, name), "conformance", &Start::Again, out) {
            Ok((store, wire)) => {
                drop((store, wire));
                break;
            }
            Err(why) => assert!(began.elapsed() < store::conformance::PATIENCE, "{why}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let began = Instant::now();
    while began.elapsed() < store::conformance::PATIENCE {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        if !store::embedded::exists(&dir(root, name)) {
            continue;
        }
        return net.plug(name, &dir(root, name), &Start::Again);
    }
    panic!("the store's file was not released")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_stopped_at_once_starts_again() {
    let root = tempfile::tempdir().unwrap();
    let net = Net::default();
    let stores = three(&net, root.path()).await;
    settle(&stores[0], &by("n1", Change::Pause)).await.unwrap();
    drop(stores);
    for name in ["n1", "n2", "n3"] {
        net.cut(name);
    }
    let mut again = Vec::new();
    for name in ["n1", "n2", "n3"] {
        again.push(wait_until_reopened(&net, name, root.path()).await);
    }
    let read = settle(&again[0], &by("n1", Change::Resume)).await.unwrap();
    assert!(!read.ctl.paused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c10_a_wiped_disk_comes_back_as_a_new_voter() {
    let root = tempfile::tempdir().unwrap();
    let net = Net::default();
    let mut stores = three(&net, root.path()).await;
    let node = NodeId::new("n3").unwrap();
    let old = stores[0].read().await.unwrap().members[&node].raft_id;
    net.cut("n3");
    drop(stores.pop());
    let id = join(&stores[0], "n3", 8).await;
    assert_ne!(id, old, "a forgotten vote is never used again");
    let back = net.plug("n3", &dir(root.path(), "n3-wiped"), &Start::Join(id));
    wait_until_voters(&back, 3).await;
    assert!(!back.health().voters.contains(&old));
}

#[test]
fn a_store_of_another_cluster_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let (out, _rx) = mpsc::unbounded_channel();
    drop(open(root.path(), "conformance", &Start::Bootstrap, out.clone()).unwrap());
    let began = Instant::now();
    let why = loop {
        let refused = open(root.path(), "another", &Start::Again, out.clone()).err().unwrap().to_string();
        if refused.contains("TAN0204") || began.elapsed() > store::conformance::PATIENCE {
            break refused;
        }
    };
    assert!(why.contains("'conformance'") && why.contains("'another'"), "{why}");
}
