//! How a change of leaders ended: with whom it was asked for, or not.
//!
//! A script that asked for n1 must not read a success when n3 leads.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use api::verbs::Done;
use api::{Client, Status};
use cluster::NodeId;

use crate::verb::change::current;
use crate::verb::look::Entry;

/// Longest that a change of leaders is waited for.
const SETTLED_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Which change was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Switchover,
    Failover,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Verb::Switchover => "switchover",
            Verb::Failover => "failover",
        }
    }
}

/// Waits until a later term takes writes, or the switchover was called off.
pub async fn settled(client: &Client, before: &Status, verb: Verb, to: Option<&NodeId>) -> Result<Done> {
    let (began, what) = (Instant::now(), verb.word());
    while began.elapsed() < SETTLED_LIMIT {
        tokio::time::sleep(LOOK).await;
        // While leaders change an agent may have nothing to say.
        let Ok(now) = current(client).await else { continue };
        if now.term > before.term && now.writable {
            let leader = led_by(before, &now, verb, to)?;
            let said = format!(
                "{leader} leads and takes writes (term {}); asked {} ms ago",
                now.term,
                began.elapsed().as_millis()
            );
            return Ok(Done { said, term: now.term, dry_run: false });
        }
        if now.term == before.term && now.switchover.is_none() && now.writable && began.elapsed() > LOOK * 4 {
            let told: Vec<Entry> = client
                .best("/v1/history", |h: &Vec<Entry>| h.last().map(|e| e.revision))
                .await
                .unwrap_or_default();
            let why = told.last().map_or(String::new(), |e| format!(": {}", e.what));
            bail!(
                "TAN0007: the {what} was not done{why}. Nothing was lost; 'tanist status' tells what is missing"
            );
        }
    }
    bail!(
        "TAN0007: the {what} was not done within {SETTLED_LIMIT:?}. It may still be; 'tanist status' tells what it waits for"
    )
}

/// Who leads `now`, if that is what was asked for.
fn led_by(before: &Status, now: &Status, verb: Verb, to: Option<&NodeId>) -> Result<String> {
    let (leader, what) = (now.leader.clone().unwrap_or_default(), verb.word());
    // A forced failover may rightly end with the one that was.
    if before.leader == now.leader && verb == Verb::Switchover {
        bail!(
            "TAN0008: after the {what} {leader} leads again (term {}): {}. 'tanist history' tells the rest",
            now.term,
            now.why
        );
    }
    if let Some(to) = to.filter(|to| to.as_str() != leader) {
        bail!(
            "TAN0010: after the {what} to {to} it is {leader} that leads and takes writes (term {}): {}. \
             If it shall be {to}, 'tanist switchover --to {to}' once 'tanist status' shows it streaming",
            now.term,
            now.why
        );
    }
    Ok(leader)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(leader: &str, term: u64) -> Status {
        let why = "n2 is to lead no longer".to_string();
        Status { leader: Some(leader.to_string()), term, writable: true, why, ..Status::default() }
    }

    #[test]
    fn only_the_leader_that_was_asked_for_is_a_success() {
        let n1 = NodeId::new("n1").expect("a good name");
        let end = |verb, to, leader| led_by(&led("n2", 4), &led(leader, 5), verb, to);
        for verb in [Verb::Switchover, Verb::Failover] {
            assert_eq!(end(verb, Some(&n1), "n1").expect("as asked"), "n1");
            assert_eq!(end(verb, None, "n3").expect("anybody"), "n3");
            let why = end(verb, Some(&n1), "n3").expect_err("another leads").to_string();
            assert!(why.starts_with("TAN0010: ") && why.contains("it is n3 that leads"), "{why}");
        }
        let again = end(Verb::Switchover, Some(&n1), "n2").expect_err("none of it").to_string();
        assert!(again.starts_with("TAN0008: "), "{again}");
        assert_eq!(end(Verb::Failover, None, "n2").expect("it may rightly lead again"), "n2");
    }
}
