//! `demo`: a cluster under load, broken three times, and a verdict.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use api::verbs::{Done, SwitchoverBody};
use checker::{History, gap};
use drill::layout::{DEMO_MARK, Options, PlannedNode};
use drill::load::{CLIENTS, Load, prepare};
use drill::verdict::{Findings, examine};
use drill::{Stage, fault};

use super::look::Entry;
use crate::say;

/// Load runs alone before, between and after the events.
const BREATH: Duration = Duration::from_secs(3);
/// It ran, and a write was lost or the cluster did not heal.
const LIMIT_NOT_MET: u8 = 3;
/// Longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(clap::Args)]
pub struct Args {
    /// Data nodes.
    #[arg(long, default_value_t = 3)]
    nodes: u16,
    /// A witness that keeps WAL.
    #[arg(long)]
    wal_witness: bool,
    /// Its folder, an empty or a new one; removed at the end.
    #[arg(long, default_value = "./demo")]
    dir: PathBuf,
    /// First port; 0 takes free ones.
    #[arg(long, default_value_t = 0)]
    base_port: u16,
    /// PostgreSQL's programs.
    #[arg(long, value_name = "DIR")]
    pg_bin: Option<PathBuf>,
    /// Leave the cluster running.
    #[arg(long)]
    keep: bool,
}

struct Show {
    stage: Stage,
    load: Load,
    json: bool,
    events: Vec<(&'static str, Duration, Duration)>,
}

pub async fn run(args: &Args, json: bool) -> Result<ExitCode> {
    let tell = |text: &str| {
        if !json {
            say::out(text);
        }
    };
    let began = Instant::now();
    let options = Options {
        dir: args.dir.clone(),
        nodes: Some(args.nodes),
        wal_witness: args.wal_witness,
        base_port: Some(args.base_port),
        pg_bin: args.pg_bin.clone(),
        durability: None,
        binary: None,
        isolate: false,
    };
    tell(&format!("Making a cluster of {} nodes...", args.nodes));
    clear_away_former(&args.dir)?;
    let up = Stage::up(&options).await;
    // Also where it did not come up: what is left of it is ours.
    if !args.keep
        && let Ok(made) = Stage::open(&args.dir)
    {
        std::fs::write(made.plan.dir.join(DEMO_MARK), "")?;
    }
    let stage = up?;
    tell(&format!("It is whole after {}.", say::span(millis(began.elapsed()))));
    // Clients come in by the front door, as an application does.
    let url = stage.document().write_url;
    prepare(&url).await.map_err(|e| anyhow!("TAN0708: the cluster takes no writes: {e}. See its logs"))?;
    let load = Load::start(&url, CLIENTS)
        .map_err(|e| anyhow!("TAN0708: the cluster takes no writes: {e}. See its logs"))?;
    let mut show = Show { stage, load, json, events: Vec::new() };
    show.play().await?;
    let Show { stage, load, events, .. } = show;
    let healed = stage.wait_whole(PATIENCE).await.is_ok();
    let history = load.finish().await;
    let findings = examine(&stage, &history)
        .await
        .map_err(|e| anyhow!("TAN0709: a member could not be read back: {e}"))?;
    let told: Vec<Entry> = stage.client().get("/v1/history").await.unwrap_or_default();
    let pass = report(&events, &history, &findings, healed, &told, json)?;
    if !args.keep {
        stage.down(true)?;
        let _ = std::fs::remove_dir_all(&args.dir);
    }
    Ok(if pass { ExitCode::SUCCESS } else { ExitCode::from(LIMIT_NOT_MET) })
}

/// Removes what a demo that was broken off left; anybody else's cluster is
/// refused, for a demo hurts it and removes it at its end.
fn clear_away_former(dir: &Path) -> Result<()> {
    let Ok(former) = Stage::open(dir) else { return Ok(()) };
    if !former.plan.dir.join(DEMO_MARK).exists() {
        bail!(
            "TAN0716: there is a local cluster in '{}', and a demo makes its own, hurts it and removes it. Nothing was touched; name another folder with --dir DIR",
            dir.display()
        );
    }
    Ok(former.down(true)?)
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

impl Show {
    fn tell(&self, text: &str) {
        if !self.json {
            say::out(&format!("{:>8}  {text}", say::span(millis(self.load.elapsed()))));
        }
    }

    async fn play(&mut self) -> Result<()> {
        tokio::time::sleep(BREATH).await;
        let from = self.leader().await?;
        self.tell(&format!("planned switchover away from {}", from.name));
        let began = self.load.elapsed();
        let body = SwitchoverBody::default();
        let _: Done = self.stage.client().send("POST", "/v1/switchover", &body).await?;
        self.settle("switchover", began, &from).await?;
        let leader = self.leader().await?;
        self.tell(&format!("kill -9 of the postmaster of {}", leader.name));
        let began = self.load.elapsed();
        fault::kill_postmaster(&self.stage, &leader);
        self.settle("postmaster", began, &leader).await?;
        let leader = self.leader().await?;
        self.tell(&format!("every process of {} killed at once", leader.name));
        let began = self.load.elapsed();
        fault::kill_node(&self.stage, &leader);
        self.settle("node", began, &leader).await?;
        self.tell(&format!("{} is started again", leader.name));
        self.stage.start(&leader)?;
        self.stage.wait_whole(PATIENCE).await?;
        self.tell("the cluster is whole again");
        tokio::time::sleep(BREATH).await;
        Ok(())
    }

    async fn leader(&self) -> Result<PlannedNode> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let status = self.stage.status().await.filter(|s| s.writable);
            let node = status.and_then(|s| s.leader).and_then(|l| self.stage.plan.node(&l).cloned());
            if let Some(node) = node {
                return Ok(node);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(anyhow!("TAN0710: nobody leads. See 'tanist status'"))
    }

    /// Waits until another leads and writes flow, and lets the rest come back.
    async fn settle(&mut self, name: &'static str, began: Duration, old: &PlannedNode) -> Result<()> {
        let before = self.load.acknowledged();
        let patience = Instant::now();
        loop {
            let leader = self.leader().await?;
            let moved = leader.name != old.name || name == "postmaster";
            if moved && self.load.acknowledged() > before + 20 {
                self.tell(&format!("{} leads, writes flow", leader.name));
                break;
            }
            if patience.elapsed() > PATIENCE {
                return Err(anyhow!("TAN0711: writes did not come back after '{name}'. See 'tanist status'"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if name != "node" {
            self.stage.wait_whole(PATIENCE).await?;
        }
        tokio::time::sleep(BREATH).await;
        self.events.push((name, began, self.load.elapsed()));
        Ok(())
    }
}

fn report(
    events: &[(&'static str, Duration, Duration)],
    history: &History,
    findings: &Findings,
    healed: bool,
    told: &[Entry],
    json: bool,
) -> Result<bool> {
    let gaps: Vec<(&str, u64)> =
        events.iter().map(|(name, from, to)| (*name, millis(gap::longest(history, *from, *to)))).collect();
    let pass = healed && findings.is_clean() && findings.acknowledged > 0;
    let verdict = if pass { "pass" } else { "fail" };
    if json {
        let gaps_ms: serde_json::Map<String, serde_json::Value> =
            gaps.iter().map(|(n, ms)| ((*n).to_string(), (*ms).into())).collect();
        let document = serde_json::json!({
            "acknowledged": findings.acknowledged, "lost": findings.lost_total(), "gaps_ms": gaps_ms,
            "errors": { "unknown": findings.unknown, "failed": findings.failed },
            "healed": healed, "verdict": verdict,
        });
        say::out(&serde_json::to_string(&document)?);
        return Ok(pass);
    }
    say::out("\nWhat the cluster says happened:");
    for e in told {
        say::out(&format!("  {}  term {:<3} {:<4} {}", say::clock(e.at_ms), e.term, e.by, e.what));
    }
    say::out("\nWrites were away for:");
    for (name, ms) in &gaps {
        say::out(&format!("  {name:<12} {}", say::span(*ms)));
    }
    say::out(&format!(
        "\n{} writes acknowledged, {} of unknown fate, {} refused.",
        findings.acknowledged, findings.unknown, findings.failed
    ));
    for (member, lost) in &findings.lost {
        say::out(&format!("  {member} lacks {lost} of the acknowledged ones"));
    }
    say::out(&format!(
        "\nVerdict: {}",
        if pass { "PASS, no acknowledged write was lost and the cluster healed" } else { "FAIL" }
    ));
    Ok(pass)
}
