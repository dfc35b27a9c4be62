//! The cells in order, from where an earlier run stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::task::block_in_place;

use super::blow;
use super::cell::{Cell, all};
use super::judge::judge;
use super::ledger::{self, Line, Verdict};
use super::scene::Scene;
use crate::layout::find_postgres;
use crate::stage::{StageError, folder};

/// Time away beyond that of the fault that no cell may take.
const AWAY_LIMIT: Duration = Duration::from_secs(30);

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Where clusters are made; each mode has a folder there.
    pub dir: PathBuf,
    /// Tanist's program; `None` is this one.
    pub binary: Option<PathBuf>,
    /// PostgreSQL's programs; `None` finds the newest.
    pub pg_bin: Option<PathBuf>,
    /// The lines of all runs.
    pub state: PathBuf,
    /// The table, if one is wanted.
    pub table: Option<PathBuf>,
    /// What the program was made of.
    pub commit: String,
    /// Only cells whose name holds one of these; all without any.
    pub only: Vec<String>,
    /// Those that have passed before, too.
    pub again: bool,
    /// No cell is begun after this.
    pub time: Option<Duration>,
}

impl Asked {
    /// The cells that are meant and not impossible.
    #[must_use]
    pub fn cells(&self) -> Vec<Cell> {
        let meant = |c: &Cell| self.only.is_empty() || self.only.iter().any(|o| c.id().contains(o.as_str()));
        all().into_iter().filter(|c| c.impossible().is_none()).filter(meant).collect()
    }
}

/// Runs them; `tell` is told of each. Gives the lines of this run.
///
/// # Errors
/// Any `StageError` that leaves nothing to go on with.
pub async fn run(asked: &Asked, tell: impl Fn(&str)) -> Result<Vec<Line>, StageError> {
    let began = Instant::now();
    fs::create_dir_all(&asked.dir).map_err(folder(&asked.dir))?;
    let mut scene: Option<Scene> = None;
    let mut lines = Vec::new();
    for cell in asked.cells() {
        let known = ledger::read(&asked.state)?;
        let passed = known.get(&cell.id()).is_some_and(|l| l.verdict == Verdict::Pass);
        if passed && !asked.again {
            continue;
        }
        if asked.time.is_some_and(|t| began.elapsed() + cell.fault.lasts() > t) {
            break;
        }
        let line = one(asked, &mut scene, &cell).await?;
        tell(&words(&line));
        ledger::add(&asked.state, &line)?;
        if let Some(path) = &asked.table {
            ledger::write_table(path, &ledger::read(&asked.state)?)?;
        }
        if line.verdict == Verdict::Fail {
            keep_logs(asked, scene.as_ref(), &cell);
            // The next cell begins with a cluster that nothing is wrong with.
            if let Some(broken) = scene.take() {
                block_in_place(|| broken.down())?;
            }
        }
        lines.push(line);
    }
    if let Some(path) = &asked.table {
        ledger::write_table(path, &ledger::read(&asked.state)?)?;
    }
    if let Some(scene) = scene {
        block_in_place(|| scene.down())?;
    }
    Ok(lines)
}

fn words(line: &Line) -> String {
    let verdict = match line.verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::NotRun => "not run",
    };
    let wrong = if line.wrong.is_empty() { String::new() } else { format!(": {}", line.wrong.join("; ")) };
    format!(
        "{verdict:<7} {:<34} away {:>6} ms, whole after {:>6} ms, {} terms, {} lost{wrong}",
        line.cell, line.away_ms, line.healed_ms, line.terms, line.lost
    )
}

/// One cell, on the cluster that there is if it has the right mode.
async fn one(asked: &Asked, scene: &mut Option<Scene>, cell: &Cell) -> Result<Line, StageError> {
    if scene.as_ref().is_some_and(|s| s.mode != cell.mode)
        && let Some(other) = scene.take()
    {
        block_in_place(|| other.down())?;
    }
    let mut line = blank(asked, cell);
    if let Some(why) = blow::missing(cell) {
        line.verdict = Verdict::NotRun;
        line.wrong.push(why.into());
        return Ok(line);
    }
    let mut ready = match scene.take() {
        Some(ready) => ready,
        None => Scene::up(asked, cell.mode).await?,
    };
    if let Err(why) = played(&mut ready, cell, &mut line).await {
        line.wrong.push(why);
    }
    if line.away_ms > millis(cell.fault.lasts() + AWAY_LIMIT) {
        line.wrong.push(format!("writes were away for more than {AWAY_LIMIT:?} beyond the fault"));
    }
    // Where a run was made is of no use to whoever reads what came of it.
    let home = format!("{}/", asked.dir.display());
    line.wrong.iter_mut().for_each(|why| *why = why.replace(&home, ""));
    line.verdict = if line.wrong.is_empty() { Verdict::Pass } else { Verdict::Fail };
    *scene = Some(ready);
    Ok(line)
}

async fn played(scene: &mut Scene, cell: &Cell, line: &mut Line) -> Result<(), String> {
    let before = |e: StageError| format!("before the fault: {e}");
    let aim = blow::aim(scene, cell).await.map_err(before)?;
    let status = scene.wait_whole().await.map_err(before)?;
    let loads = scene.load().await.map_err(before)?;
    let (struck, ended) = blow::strike(scene, cell, &aim).await?;
    let healed = scene.wait_whole().await;
    let mut trouble = None;
    match &healed {
        Ok(_) => line.healed_ms = millis(ended.elapsed()),
        Err(why) => trouble = Some(why.to_string()),
    }
    if trouble.is_none() {
        trouble = scene.wait_until_writes_flow(&loads).await.err().map(|e| e.to_string());
    }
    let (now, told) = told(scene, status.revision, status.term).await;
    line.terms = now.saturating_sub(status.term);
    line.history = told;
    let found = judge(scene, loads, struck, &line.history).await;
    line.wrong.extend(trouble);
    let found = found?;
    line.away_ms = millis(found.away);
    line.acknowledged = found.acknowledged;
    line.unknown = found.unknown;
    line.deeds = found.deeds;
    line.lost = found.lost;
    line.wrong.extend(found.wrong);
    Ok(())
}

/// An event of the cluster's own history.
#[derive(Deserialize)]
struct Event {
    revision: u64,
    term: u64,
    by: String,
    what: String,
}

/// The term now, and what happened since `revision`.
async fn told(scene: &Scene, revision: u64, term: u64) -> (u64, Vec<String>) {
    let path = format!("/v1/history?since={revision}");
    let newest = |all: &Vec<Event>| all.last().map(|e| e.revision);
    let events: Vec<Event> = scene.stage.client().best(&path, newest).await.unwrap_or_default();
    let last = events.last().map_or(term, |e| e.term);
    (last, events.iter().map(|e| format!("term {} {}: {}", e.term, e.by, e.what)).collect())
}

fn blank(asked: &Asked, cell: &Cell) -> Line {
    Line {
        cell: cell.id(),
        verdict: Verdict::Fail,
        wrong: Vec::new(),
        away_ms: 0,
        healed_ms: 0,
        terms: 0,
        acknowledged: 0,
        unknown: 0,
        deeds: 0,
        lost: 0,
        commit: asked.commit.clone(),
        postgres: version(asked).unwrap_or_else(|| "?".into()),
        history: Vec::new(),
    }
}

/// `15.20`, as `postgres --version` says last but for the packager's words.
fn version(asked: &Asked) -> Option<String> {
    let bin = asked.pg_bin.clone().or_else(find_postgres)?;
    let out = Command::new(bin.join("postgres")).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&out.stdout).split_whitespace().nth(2)?.to_string())
}

/// Copies the logs of a cell that failed, for whoever looks into it.
fn keep_logs(asked: &Asked, scene: Option<&Scene>, cell: &Cell) {
    let Some(scene) = scene else { return };
    let to = asked.dir.join("failed").join(cell.id().replace('/', "-"));
    let _ = fs::create_dir_all(&to);
    for node in &scene.stage.plan.nodes {
        let dir = scene.stage.plan.node_dir(node);
        copy(&dir.join("tanist.log"), &to.join(format!("{}.log", node.name)));
        let logs = fs::read_dir(dir.join("log")).into_iter().flatten().flatten();
        for entry in logs {
            let name = entry.file_name().to_string_lossy().into_owned();
            copy(&entry.path(), &to.join(format!("{}-{name}", node.name)));
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::copy(from, to);
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
