//! A proxy that watches agents over real mutual TLS.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::lease::{Ask, Given};
use api::routes::{Drained, Role, RouteMember, Routes};
use bytes::Bytes;
use cluster::NodeId;
use cluster::state::Phase;
use peers::certs::Authority;
use peers::subscribers::LeaseAsk;
use peers::{Bearer, Config, Identity, Peers, Subscribers};
use proxy::follow::Follower;
use proxy::merge::{Merged, WORD_AGE_MAX};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
pub const NAMES: [&str; 3] = ["n1", "n2", "n3"];

pub fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// An agent that says what it is told to, in a runtime of its own that can be ended.
pub struct Agent {
    name: &'static str,
    pub address: String,
    subscribers: Subscribers,
    /// What it answers whoever asks for a lease: the term, and for how many milliseconds.
    leases: Arc<Mutex<Option<(u64, u64)>>>,
    runtime: Option<Runtime>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A cluster's agents, without servers.
pub struct Shop {
    pub dir: tempfile::TempDir,
    authority: Authority,
    pub agents: Vec<Agent>,
}

impl Shop {
    pub fn open() -> Shop {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create("shop").unwrap();
        authority.save(dir.path()).unwrap();
        let mut shop = Shop { dir, authority, agents: Vec::new() };
        shop.agents = NAMES.iter().map(|name| shop.agent(name)).collect();
        shop
    }

    pub fn identity(&self, name: &str) -> Identity {
        let (dir, id) = (self.dir.path(), node(name));
        let proxy = name.starts_with("proxy");
        let issued = if proxy { self.authority.issue_to_proxy(&id) } else { self.authority.issue(&id, &[]) };
        issued.unwrap().save_as(dir, name).unwrap();
        let file = |end: &str| dir.join(format!("{name}.{end}"));
        Identity::load(&dir.join("ca.crt"), &file("crt"), &file("key")).unwrap()
    }

    fn agent(&self, name: &'static str) -> Agent {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (subscribers, asks) = Subscribers::open();
        let leases = Arc::<Mutex<_>>::default();
        runtime.spawn(answer(subscribers.clone(), asks, leases.clone()));
        let (identity, listen) = (self.identity(name), "127.0.0.1:0".to_string());
        let config = Config { identity, listen, subscribers: subscribers.clone() };
        let (peers, _incoming) = runtime.block_on(Peers::start(config)).unwrap();
        let address = peers.listens_on().to_string();
        Agent { name, address, subscribers, leases, runtime: Some(runtime) }
    }

    /// From now on the agent of that number gives such leases, or none.
    pub fn lease(&self, agent: usize, lease: Option<(u64, u64)>) {
        *self.agents[agent].leases.lock().unwrap() = lease;
    }

    /// All of these say, for as long as the answer is kept, that `leader` leads `term`.
    pub fn say(&self, who: &[&str], term: u64, leader: &str, change: impl Fn(&mut Routes)) -> Talk {
        let member = |agent: &Agent| RouteMember {
            name: node(agent.name),
            postgres: format!("{}:5432", agent.name),
            agent: agent.address.clone(),
            zone: String::new(),
            role: if agent.name == leader { Role::Leader } else { Role::Standby },
            streaming: agent.name != leader,
            replay_lag_ms: None,
            lag_bytes: None,
            maintenance: false,
            unreachable: false,
        };
        let speakers = self.agents.iter().filter(|a| who.contains(&a.name));
        let all = speakers.map(|agent| {
            let mut routes = Routes {
                cluster: "shop".to_string(),
                from: node(agent.name),
                term,
                phase: Phase::Open,
                since_ms: 0,
                leader: Some(node(leader)),
                handing_over: false,
                paused: false,
                members: self.agents.iter().map(member).collect(),
                openings: Vec::new(),
            };
            change(&mut routes);
            let (body, subscribers) = (Bytes::from(routes.to_bytes()), agent.subscribers.clone());
            subscribers.publish(body.clone(), true);
            tokio::spawn(async move {
                // As an agent's loop does: else it would fall silent.
                let mut turns = tokio::time::interval(Duration::from_millis(100));
                loop {
                    turns.tick().await;
                    subscribers.publish(body.clone(), false);
                }
            })
        });
        Talk(all.collect())
    }
}

async fn answer(
    subscribers: Subscribers,
    mut asks: mpsc::Receiver<LeaseAsk>,
    leases: Arc<Mutex<Option<(u64, u64)>>>,
) {
    while let Some(asked) = asks.recv().await {
        let lease = *leases.lock().unwrap();
        if let (Some(ask), Some((term, valid_ms))) = (Ask::from_bytes(&asked.body), lease) {
            let given = Given { seq: ask.seq, term, valid_ms };
            subscribers.give_lease(asked.from, Bytes::from(given.to_bytes()));
        }
    }
}

/// Said until it is dropped.
pub struct Talk(Vec<tokio::task::JoinHandle<()>>);

impl Drop for Talk {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

async fn wait_until(routes: &mut watch::Receiver<Arc<Merged>>, holds: impl Fn(&Merged) -> bool) {
    let waited = timeout(PATIENCE, routes.wait_for(|m| holds(m))).await.map(|w| w.is_ok());
    assert_eq!(waited, Ok(true), "{:?}", routes.borrow());
}

/// Ages wake nobody, so they are looked at.
async fn wait_until_old(routes: &watch::Receiver<Arc<Merged>>, name: &str) {
    let old = |m: &Merged| m.heard.get(&node(name)).is_some_and(|age| *age > WORD_AGE_MAX * 3 / 2);
    let looking = async {
        while !old(&routes.borrow()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap();
}

fn leads<'a>(name: &'a str, term: u64) -> impl Fn(&Merged) -> bool + 'a {
    move |m| m.term == term && m.leader.as_ref().is_some_and(|l| l.name == node(name))
}

fn told(story: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(story);
}

#[test]
fn one_address_is_enough_and_terms_are_pushed() {
    let mut shop = Shop::open();
    told(async {
        let follower = Follower::start(shop.identity("proxy-1"), &[shop.agents[0].address.clone()]);
        let mut routes = follower.routes();
        let first = shop.say(&NAMES, 4, "n1", |_| {});
        wait_until(&mut routes, leads("n1", 4)).await;
        // Each of the three has exactly one subscriber in the end.
        for agent in &shop.agents {
            let mut present = agent.subscribers.present();
            let proxy = |p: &peers::subscribers::Present| {
                p.len() == 1 && p.values().all(|s| s.who == Bearer::Proxy(node("proxy-1")))
            };
            timeout(PATIENCE, present.wait_for(proxy)).await.unwrap().unwrap();
        }
        drop(first);
        shop.agents.remove(0); // n1 dies with its host.
        let _second = shop.say(&["n2", "n3"], 5, "n2", |_| {});
        wait_until(&mut routes, leads("n2", 5)).await;
        assert_eq!(routes.borrow().leader.as_ref().unwrap().postgres, "n2:5432");
    });
}

#[test]
fn silence_is_noticed_and_ends_with_the_next_word() {
    let shop = Shop::open();
    told(async {
        let given: Vec<String> = shop.agents.iter().map(|a| a.address.clone()).collect();
        let follower = Follower::start(shop.identity("proxy-1"), &given);
        let mut routes = follower.routes();
        let all = shop.say(&NAMES, 4, "n1", |_| {});
        wait_until(&mut routes, leads("n1", 4)).await;
        drop(all);
        let one = shop.say(&["n3"], 4, "n1", |_| {});
        wait_until_old(&routes, "n1").await;
        assert!(leads("n1", 4)(&routes.borrow()), "n3 still says so");
        drop(one);
        wait_until(&mut routes, |m| m.term == 4 && m.leader.is_none()).await;
        let _again = shop.say(&["n2"], 4, "n1", |_| {});
        wait_until(&mut routes, leads("n1", 4)).await;
    });
}

#[test]
fn whoever_is_drained_says_so_to_every_agent() {
    let shop = Shop::open();
    told(async {
        let follower = Follower::start(shop.identity("proxy-1"), &[shop.agents[1].address.clone()]);
        let mut routes = follower.routes();
        let _all = shop.say(&NAMES, 4, "n1", |routes| routes.handing_over = routes.from == node("n1"));
        wait_until(&mut routes, |m| m.handing_over).await;
        follower.set_drained(Some(4));
        let body = Drained { term: 4 }.to_bytes();
        for agent in &shop.agents {
            let mut present = agent.subscribers.present();
            let said = |p: &peers::subscribers::Present| {
                !p.is_empty() && p.values().all(|s| s.drained.as_deref() == Some(body.as_slice()))
            };
            timeout(PATIENCE, present.wait_for(said)).await.unwrap().unwrap();
        }
    });
}
