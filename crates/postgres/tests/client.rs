//! The agent's end of the line, against guards that a test speaks for: slow ones,
//! confused ones and one of an older build.

#![allow(clippy::unwrap_used)] // a panic in a test is its report

use std::path::PathBuf;
use std::time::Duration;

use postgres::guard::client::Client;
use postgres::guard::protocol::{Answer, Event, Status};
use postgres::guard::{second_hand, sys};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// The guard's end.
struct Desk {
    asked: Lines<BufReader<OwnedReadHalf>>,
    says: OwnedWriteHalf,
}

impl Desk {
    async fn hear(&mut self) -> serde_json::Value {
        serde_json::from_str(&self.asked.next_line().await.unwrap().unwrap()).unwrap()
    }

    async fn say(&mut self, event: &Event) {
        self.says.write_all(format!("{}\n", serde_json::to_string(event).unwrap()).as_bytes()).await.unwrap();
    }

    async fn answer(&mut self, request: &serde_json::Value, answer: Answer) {
        self.say(&Event::Numbered { number: request["number"].as_u64().unwrap(), answer }).await;
    }

    async fn greet(&mut self) {
        let hello = self.hear().await;
        assert_eq!(hello["ask"], "hello");
        self.answer(&hello, Answer::Done).await;
    }
}

async fn connect() -> (tempfile::TempDir, Client, Desk) {
    let dir = tempfile::tempdir().unwrap();
    let socket: PathBuf = dir.path().join("guard.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (client, _news) = Client::connect(&socket).await.unwrap();
    let (read, says) = listener.accept().await.unwrap().0.into_split();
    (dir, client, Desk { asked: BufReader::new(read).lines(), says })
}

fn status(pid: i32) -> Status {
    Status { postmaster: Some(pid), deadline_ms: None, fired: false }
}

/// A deed is given up while its request is on the way: the answer comes for nobody,
/// and the next one who asks gets their own, in whatever order they come.
#[tokio::test]
async fn an_answer_that_nobody_waits_for_is_nobody_elses() {
    let (_dir, client, mut desk) = connect().await;
    let given_up = tokio::spawn({
        let client = client.clone();
        async move { client.kill_tree().await }
    });
    desk.greet().await;
    let kill = desk.hear().await;
    given_up.abort();
    assert!(given_up.await.is_err());
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.status().await }
    });
    let asked = desk.hear().await;
    desk.answer(&serde_json::json!({ "number": 9999 }), Answer::Status(status(1))).await;
    desk.answer(&kill, Answer::Done).await;
    desk.answer(&kill, Answer::Done).await;
    desk.answer(&asked, Answer::Status(status(7))).await;
    assert_eq!(asking.await.unwrap().unwrap(), status(7));
}

/// However often whoever asks is broken off, each line arrives whole.
#[tokio::test]
async fn a_request_is_never_half_written() {
    let (_dir, client, mut desk) = connect().await;
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.arm(None).await }
    });
    desk.greet().await;
    let arm = desk.hear().await;
    desk.answer(&arm, Answer::Done).await;
    first.await.unwrap().unwrap();
    for i in 0..100 {
        // Polled once, as by whoever is aborted at the first wait.
        let mut asking = Box::pin(client.signal(i));
        assert!(poll_once(asking.as_mut()).await.is_none());
        drop(asking);
    }
    for i in 0..100 {
        let asked = desk.hear().await;
        assert_eq!(asked["ask"]["signal"]["signal"], i);
        desk.answer(&asked, Answer::Done).await;
    }
}

/// One poll: what it gives, if it is ready.
async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(out) => Some(out),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn an_answer_to_another_question_is_refused() {
    let (_dir, client, mut desk) = connect().await;
    let killing = tokio::spawn({
        let client = client.clone();
        async move { client.kill_tree().await }
    });
    desk.greet().await;
    let kill = desk.hear().await;
    desk.answer(&kill, Answer::Status(status(7))).await;
    assert!(killing.await.unwrap().unwrap_err().to_string().contains("something else"));
}

/// It knows no numbers: refuses the greeting without one, and answers in turn.
#[tokio::test]
async fn a_guard_of_an_older_build_is_spoken_to_without_numbers() {
    let (_dir, client, mut desk) = connect().await;
    let asking = tokio::spawn({
        let client = client.clone();
        async move { (client.kill_tree().await, client.status().await) }
    });
    assert_eq!(desk.hear().await["ask"], "hello");
    desk.say(&Event::Answer(Answer::Failed("this guard does not know that request".to_string()))).await;
    assert_eq!(desk.hear().await, "kill");
    desk.say(&Event::Answer(Answer::Done)).await;
    assert_eq!(desk.hear().await, "status");
    desk.say(&Event::Answer(Answer::Status(status(7)))).await;
    let (killed, found) = asking.await.unwrap();
    killed.unwrap();
    assert_eq!(found.unwrap(), status(7));
}

#[tokio::test]
async fn a_guard_that_hangs_up_is_no_riddle() {
    let (_dir, client, mut desk) = connect().await;
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.status().await }
    });
    desk.greet().await;
    desk.hear().await;
    drop(desk);
    assert!(asking.await.unwrap().unwrap_err().to_string().contains("hung up"));
    assert!(client.status().await.unwrap_err().to_string().contains("hung up"));
}

/// A guard that stands still kills nobody: the agent does, at the newest deadline.
#[tokio::test]
async fn the_agent_kills_at_the_deadline_where_the_guard_stands_still() {
    let (dir, client, mut desk) = connect().await;
    let pgdata = dir.path().join("pgdata");
    std::fs::create_dir(&pgdata).unwrap();
    let mut server = std::process::Command::new("sleep").arg("1000").current_dir(&pgdata).spawn().unwrap();
    std::thread::spawn({
        let (client, pgdata) = (client.clone(), pgdata.clone());
        move || second_hand::keep(&client, &pgdata)
    });
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.arm(Some(sys::boottime_ms() + 300)).await }
    });
    desk.greet().await;
    // Heard, and not answered. What is moved on later counts.
    desk.hear().await;
    let (began, reach) = (std::time::Instant::now(), Duration::from_millis(1500));
    client.intend(sys::boottime_ms() + u64::try_from(reach.as_millis()).unwrap());
    let ended = tokio::task::spawn_blocking(move || server.wait().unwrap());
    let ended = tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it is killed").unwrap();
    assert!(began.elapsed() >= reach - Duration::from_millis(10), "killed before the deadline");
    assert!(!ended.success());
    asking.abort();
}

/// Several looks after the deadline.
async fn wait_until_long_past(client: &Client) {
    while client.deadline_ms().is_none_or(|at| sys::boottime_ms() < at + 700) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A guard that answers is left to do it.
#[tokio::test]
async fn the_agent_leaves_the_deadline_to_a_guard_that_answers() {
    let (dir, client, mut desk) = connect().await;
    let mut server = std::process::Command::new("sleep").arg("1000").current_dir(dir.path()).spawn().unwrap();
    std::thread::spawn({
        let (client, pgdata) = (client.clone(), dir.path().to_owned());
        move || second_hand::keep(&client, &pgdata)
    });
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.arm(Some(sys::boottime_ms() + 60_000)).await }
    });
    // A request that is not answered yet is no proof against the guard before the deadline.
    desk.greet().await;
    let arm = desk.hear().await;
    desk.answer(&arm, Answer::Done).await;
    asking.await.unwrap().unwrap();
    client.intend(sys::boottime_ms() + 1);
    wait_until_long_past(&client).await;
    assert!(server.try_wait().unwrap().is_none(), "the guard was there to do it");
    server.kill().unwrap();
    server.wait().unwrap();
}

/// A server that is dead already is not said to be killed, and the guard not to stand still.
#[tokio::test]
async fn a_deadline_ends_nothing_where_no_server_runs() {
    let (dir, client, mut desk) = connect().await;
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.arm(Some(sys::boottime_ms() + 1)).await }
    });
    desk.greet().await;
    desk.hear().await;
    wait_until_long_past(&client).await;
    assert!(client.is_waited_for() && !second_hand::is_due(&client, dir.path()), "nothing runs there");
    let mut server = std::process::Command::new("sleep").arg("1000").current_dir(dir.path()).spawn().unwrap();
    assert!(second_hand::is_due(&client, dir.path()), "now a server does");
    server.kill().unwrap();
    server.wait().unwrap();
    asking.abort();
}
