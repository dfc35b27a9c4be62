//! What the clients of a cell were told, held against what the members hold.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use checker::law::one_at_a_time::{Answer, outlived};
use checker::law::{ack_durable, append, no_resurrect, register};
use checker::{Fate, History, Operation, gap};
use cluster::Durability;
use cluster::policy::Timing;

use super::scene::{Loads, Scene};
use crate::layout::PlannedNode;
use crate::load::read_back_of;
use crate::stage::Stage;
use crate::verdict::CATCH_UP_LIMIT;

/// In async a standby is never further behind than this while all is well.
const BEHIND: Duration = Duration::from_secs(1);
/// What a busy machine adds to a deadline.
const SLACK: Duration = Duration::from_millis(500);
/// Most of what is wrong that is told in words.
const WORDS: usize = 4;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Rows that were acknowledged.
    pub acknowledged: usize,
    /// Rows whose fate nobody knows.
    pub unknown: usize,
    /// Deeds on registers and lists that were acknowledged.
    pub deeds: usize,
    /// Acknowledged writes, of either kind, that are gone.
    pub lost: usize,
    /// The longest time without an acknowledged row, from the fault on.
    pub away: Duration,
    /// What must not be, in words.
    pub wrong: Vec<String>,
}

/// Where one node's server is.
#[must_use]
pub fn url_of(stage: &Stage, node: &PlannedNode) -> String {
    let password = std::fs::read_to_string(stage.plan.dir.join("superuser.pass")).unwrap_or_default();
    let (address, port, tls) = (&node.address, node.postgres, stage.plan.tls());
    format!("postgresql://postgres:{password}@{address}:{port}/postgres?connect_timeout=2{tls}")
}

/// Stops the load and judges it. The fault began at `struck`; `told` is the
/// cluster's own history since then.
///
/// # Errors
/// When a member can't be read.
pub async fn judge(
    scene: &Scene,
    loads: Loads,
    struck: Instant,
    told: &[String],
) -> Result<Findings, String> {
    let from = struck.saturating_duration_since(loads.rows.began());
    let to = loads.rows.elapsed();
    let url = scene.url();
    let (rows, keys) = tokio::join!(loads.rows.finish(), loads.keys.finish(&url));
    let (seen, lists) = keys?;
    let held = read_back_of(&url, scene.clients()).await?;
    let mut wrong = Vec::new();
    wrong.extend(members_differ(scene, &rows, &held).await?);
    let back = no_resurrect::resurrected(&rows, &held).len();
    tell(&mut wrong, back, "refused writes that are there");
    let answers: Vec<Answer> = seen
        .touches
        .iter()
        .filter(|t| t.fate == Fate::Acknowledged)
        .map(|t| Answer { sent: t.sent, ended: t.ended, timeline: t.timeline })
        .chain(seen.appends.iter().filter(|a| a.fate == Fate::Acknowledged).map(|a| Answer {
            sent: a.sent,
            ended: a.ended,
            timeline: a.timeline,
        }))
        .collect();
    tell(&mut wrong, outlived(&answers).len(), "acknowledgements by a server that had been replaced");
    let lost = ack_durable::lost(&rows, &held);
    let lost_appends = append::lost(&seen.appends, &lists);
    let ends = lost.iter().map(|o| o.ended).chain(lost_appends.iter().map(|a| a.ended));
    if scene.mode == Durability::Async {
        wrong.extend(beyond_the_bound(&ends.collect::<Vec<_>>(), from, told));
    } else {
        tell(&mut wrong, lost.len(), "acknowledged rows lost");
        tell(&mut wrong, lost_appends.len(), "acknowledged appends lost");
        tell(&mut wrong, register::impossible(&seen.touches).len(), "reads that no register gives");
        wrong.extend(append::impossible(&seen.appends, &lists).into_iter().take(WORDS));
    }
    Ok(Findings {
        acknowledged: rows.with(Fate::Acknowledged).count(),
        unknown: rows.with(Fate::Unknown).count(),
        deeds: answers.len(),
        lost: lost.len() + lost_appends.len(),
        away: gap::longest(&rows, from, to),
        wrong,
    })
}

fn tell(wrong: &mut Vec<String>, count: usize, what: &str) {
    if count > 0 {
        wrong.push(format!("{count} {what}"));
    }
}

/// Every member comes to hold what the leader holds, and nothing else.
async fn members_differ(
    scene: &Scene,
    rows: &History,
    held: &BTreeSet<(u32, u64)>,
) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    for node in scene.stage.plan.data_nodes() {
        let (url, began) = (url_of(&scene.stage, node), Instant::now());
        loop {
            let late = began.elapsed() > CATCH_UP_LIMIT;
            match read_back_of(&url, scene.clients()).await {
                Ok(own) if own == *held => break,
                Ok(own) if late => {
                    let lacks = rows.with(Fate::Acknowledged).map(Operation::key);
                    let lacks = lacks.filter(|k| held.contains(k) && !own.contains(k)).count();
                    let more = own.difference(held).count();
                    wrong.push(format!(
                        "{} lacks {lacks} acknowledged rows and has {more} of its own",
                        node.name
                    ));
                    break;
                }
                Err(why) if late => return Err(format!("{}: {why}", node.name)),
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
    Ok(wrong)
}

/// Async loses at most what a leader acknowledged since its standbys last heard
/// from it, until its lease ran out; and the history says so.
fn beyond_the_bound(ends: &[Duration], struck: Duration, told: &[String]) -> Vec<String> {
    let timing = Timing::default();
    let last = struck + Duration::from_millis(timing.async_lease_ms + timing.kill_ms) + SLACK;
    let early = ends.iter().filter(|e| **e + BEHIND < struck).count();
    let late = ends.iter().filter(|e| **e > last).count();
    let mut wrong = Vec::new();
    tell(&mut wrong, early, "lost writes were acknowledged long before the fault");
    tell(&mut wrong, late, "lost writes were acknowledged after the lease had run out");
    if !ends.is_empty() && !told.iter().any(|line| line.contains("may be lost")) {
        wrong.push(format!("{} writes are lost, and the history does not say that any may be", ends.len()));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn async_may_lose_a_lease_and_has_to_say_so() {
        let s = Duration::from_secs;
        let told = ["n2 elected; what n1 acknowledged after 0/1 may be lost".to_string()];
        assert!(beyond_the_bound(&[], s(10), &[]).is_empty());
        assert!(beyond_the_bound(&[s(10), s(13)], s(10), &told).is_empty());
        assert_eq!(beyond_the_bound(&[s(10)], s(10), &[]).len(), 1, "not told");
        assert_eq!(beyond_the_bound(&[s(8)], s(10), &told).len(), 1, "long before");
        assert_eq!(beyond_the_bound(&[s(14)], s(10), &told).len(), 1, "long after");
    }
}
