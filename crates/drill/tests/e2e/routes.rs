//! Whoever routes clients is told by the agents, before and after.

use api::routes::{Drained, Routes};
use api::verbs::{Done, SwitchoverBody};
use cluster::state::Phase;
use drill::layout::PlannedNode;
use peers::subscription::{Said, Saying};
use peers::{Identity, subscribe};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use crate::story::{PATIENCE, Story, told};

/// Everything that an agent has told, oldest first.
type Told = watch::Receiver<Vec<Routes>>;

/// One subscription to each agent, with the proxy's certificate.
struct Proxy {
    told: Vec<Told>,
    says: Vec<Saying>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Proxy {
    async fn watch(story: &Story) -> Proxy {
        let plan = &story.stage.plan;
        let (certificate, key) = plan.proxy_files();
        let identity = Identity::load(&plan.dir.join("ca.crt"), &certificate, &key).unwrap();
        let mut proxy = Proxy { told: Vec::new(), says: Vec::new(), tasks: Vec::new() };
        for node in &plan.nodes {
            let address = format!("{}:{}", node.address, node.peers);
            let (who, mut hearing, saying) = subscribe(&identity, &address).await.unwrap();
            assert_eq!(who, node.name);
            let (tx, told) = watch::channel(Vec::new());
            proxy.told.push(told);
            proxy.says.push(saying);
            proxy.tasks.push(tokio::spawn(async move {
                while let Ok(Said::Routes(body)) = hearing.next().await {
                    tx.send_modify(|all| all.push(Routes::from_bytes(&body).unwrap()));
                }
            }));
        }
        proxy
    }

    async fn say_drained(&mut self, term: u64) {
        for saying in &mut self.says {
            saying.drained(Drained { term }.to_bytes().into()).await.unwrap();
        }
    }

    async fn wait_until_all(&mut self, holds: impl Fn(&Routes) -> bool) {
        for told in &mut self.told {
            wait_until_told(told, &holds).await;
        }
    }
}

/// A session on `node`, with a transaction that has written.
async fn writer(story: &Story, node: &PlannedNode) -> Client {
    let password = std::fs::read_to_string(story.stage.plan.dir.join("superuser.pass")).unwrap();
    let mut config = tokio_postgres::Config::new();
    config.host(&node.address).port(node.postgres).user("postgres").dbname("postgres");
    let (client, connection) = config.password(password.trim()).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("create table if not exists held (n int)").await.unwrap();
    client.batch_execute("begin; insert into held values (1)").await.unwrap();
    client
}

/// Waits for a word; also one that another has followed already.
async fn wait_until_told(told: &mut Told, holds: impl Fn(&Routes) -> bool) {
    let waited = timeout(PATIENCE, told.wait_for(|all| all.iter().any(&holds))).await;
    let heard = waited.is_ok_and(|w| w.is_ok());
    assert!(heard, "waited in vain for a word: {:?}", told.borrow().last());
}

#[test]
fn a_switchover_is_pushed_before_and_after() {
    told(async {
        let story = Story::begin("routes", 3).await;
        story.whole().await;
        let (old, term) = (story.leader().await, story.term().await);
        let mut proxy = Proxy::watch(&story).await;
        proxy.wait_until_all(|r| r.leader.as_ref() == Some(&old.name) && r.term == term).await;
        let writer = writer(&story, &old).await;
        let place = story.stage.plan.nodes.iter().position(|n| n.name == old.name).unwrap();
        let drain = async {
            wait_until_told(&mut proxy.told[place], |r| r.handing_over).await;
            writer.batch_execute("commit").await.expect("it had a moment to end");
            proxy.say_drained(term).await;
        };
        tokio::join!(story.hand_over(), drain);
        let (new, after) = (story.leader().await, story.term().await);
        proxy.wait_until_all(|r| r.leader.as_ref() == Some(&new.name) && r.term == after).await;
        for told in &proxy.told {
            let all = told.borrow().clone();
            assert!(all.windows(2).all(|two| two[0].term <= two[1].term), "a term went back");
            let own = all.iter().filter(|r| r.from == old.name && r.term == term);
            let own: Vec<&Routes> = own.skip_while(|r| !r.handing_over).collect();
            let leads = |r: &&Routes| r.leader.is_some();
            if let Some(first) = own.first() {
                assert!(leads(first) && own.iter().all(|r| r.handing_over || !leads(r)), "{own:?}");
            }
            assert_eq!(all.first().unwrap().from == old.name, !own.is_empty(), "told by the leader alone");
            let last = all.last().unwrap();
            assert!(!last.handing_over && last.members.len() == 3 && last.phase == Phase::Open);
            let opening = last.openings.iter().find(|o| o.term == after).unwrap();
            assert!(opening.survives && opening.next_xid.is_some(), "{opening:?}");
        }
        story.end().await;
    });
}

#[test]
fn a_hand_over_that_is_called_off_holds_nobody_any_more() {
    told(async {
        let story = Story::begin("called-off", 3).await;
        story.whole().await;
        let client = story.stage.client();
        for _ in 0..CALLED_OFF_TRIES {
            let mut proxy = Proxy::watch(&story).await;
            // It never says that it has drained, so there is time to call it off.
            let (old, term) = (story.leader().await, story.term().await);
            let place = story.stage.plan.nodes.iter().position(|n| n.name == old.name).unwrap();
            let asked: Result<Done, _> =
                client.send("POST", "/v1/switchover", &SwitchoverBody::default()).await;
            asked.unwrap();
            wait_until_told(&mut proxy.told[place], |r| r.handing_over).await;
            let cancelled: Result<Done, _> = client.send("DELETE", "/v1/switchover", &()).await;
            let over = |r: &Routes| !r.handing_over && (r.term > term || r.leader.is_some());
            let mut told = proxy.told[place].clone();
            let after = |all: &Vec<Routes>| all.iter().skip_while(|r| !r.handing_over).any(over);
            timeout(PATIENCE, told.wait_for(after)).await.unwrap().unwrap();
            story.whole().await;
            if cancelled.is_ok() && story.term().await == term {
                assert_eq!(story.leader().await.name, old.name);
                story.writes_flow().await;
                return story.end().await;
            }
        }
        panic!("{CALLED_OFF_TRIES} switchovers were over before they could be called off");
    });
}

/// On a machine that is very slow the moment may pass.
const CALLED_OFF_TRIES: u32 = 4;
