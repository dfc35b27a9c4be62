//! Reads every member back by itself and says what was lost.

use std::time::{Duration, Instant};

use checker::law::{ack_durable, no_resurrect};
use checker::{Fate, History};

use crate::load::read_back;
use crate::stage::Stage;

/// Longest that a member may take to hold all that was acknowledged.
pub const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Acknowledged writes.
    pub acknowledged: usize,
    /// Writes whose fate nobody knows.
    pub unknown: usize,
    /// Writes that the server refused.
    pub failed: usize,
    /// By member: acknowledged writes that it lacks.
    pub lost: Vec<(String, usize)>,
    /// By member: failed writes that it holds.
    pub resurrected: Vec<(String, usize)>,
}

impl Findings {
    /// Acknowledged writes that some member lacks.
    #[must_use]
    pub fn lost_total(&self) -> usize {
        self.lost.iter().map(|(_, n)| n).sum()
    }

    /// Whether every law held.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost_total() == 0 && self.resurrected.iter().all(|(_, n)| *n == 0)
    }
}

/// Reads back every data node, giving each time to catch up.
///
/// # Errors
/// When a member can't be read at all.
pub async fn examine(stage: &Stage, history: &History) -> Result<Findings, String> {
    let count = |fate| history.with(fate).count();
    let mut findings = Findings {
        acknowledged: count(Fate::Acknowledged),
        unknown: count(Fate::Unknown),
        failed: count(Fate::Failed),
        ..Findings::default()
    };
    let password = std::fs::read_to_string(stage.plan.dir.join("superuser.pass")).unwrap_or_default();
    for node in stage.plan.data_nodes() {
        let url = format!(
            "postgresql://postgres:{password}@{}:{}/postgres?connect_timeout=2{}",
            node.address,
            node.postgres,
            stage.plan.tls()
        );
        let began = Instant::now();
        let (lost, back) = loop {
            let found = read_back(&url).await;
            let late = began.elapsed() > CATCH_UP_LIMIT;
            match found {
                Ok(held) => {
                    let lost = ack_durable::lost(history, &held).len();
                    if lost == 0 || late {
                        break (lost, no_resurrect::resurrected(history, &held).len());
                    }
                }
                Err(why) if late => return Err(format!("{}: {why}", node.name)),
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        findings.lost.push((node.name.to_string(), lost));
        findings.resurrected.push((node.name.to_string(), back));
    }
    Ok(findings)
}
