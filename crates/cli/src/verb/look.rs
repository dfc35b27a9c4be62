//! `status` and `history`: readable at three in the morning.

use std::process::ExitCode;

use anyhow::Result;
use api::{Client, Status};
use serde::{Deserialize, Serialize};

use crate::say;
use crate::verb::change::current;

#[derive(clap::Args)]
pub struct HistoryArgs {
    /// Only events after this revision.
    #[arg(long)]
    since: Option<u64>,
}

pub async fn status(client: &Client, json: bool) -> Result<ExitCode> {
    let status = current(client).await?;
    if json {
        say::out(&serde_json::to_string(&status)?);
    } else {
        say::out(&words(&status));
    }
    Ok(ExitCode::SUCCESS)
}

fn words(s: &Status) -> String {
    let mut out = Vec::new();
    let lead = match (&s.leader, s.writable) {
        (Some(leader), true) => {
            format!("Writable. {leader} leads {} for {} (term {}).", s.cluster, say::ago(s.since_ms), s.term)
        }
        (Some(leader), false) if s.phase == "open" => format!(
            "Not writable: {leader} leads {} for {} (term {}), and its commits are not acknowledged.",
            s.cluster,
            say::ago(s.since_ms),
            s.term
        ),
        (Some(leader), false) => format!(
            "Not writable: {leader} was elected {} ago and opens its server (term {}).",
            say::ago(s.since_ms),
            s.term
        ),
        (None, _) => {
            format!("Not writable for {}: choosing a leader (term {}).", say::ago(s.since_ms), s.term)
        }
    };
    out.push(lead);
    if !s.why.is_empty() {
        out.push(format!("  because {}", s.why));
    }
    let rule = if s.sync.acks == 0 {
        "the leader alone".to_string()
    } else {
        format!("any {} of {}", s.sync.acks, s.sync.names.join(", "))
    };
    let degraded = if s.degraded { " DEGRADED" } else { "" };
    let paused = if s.paused { ", PAUSED" } else { "" };
    out.push(format!("Commits wait for {rule} (durability {}{degraded}{paused}).", s.durability));
    if let Some(waiting) = &s.waiting {
        out.push(format!("This agent waits {waiting}."));
    }
    let head = ["node", "role", "state", "timeline", "WAL end", "lag", "acknowledges", "doing"];
    let mut rows = vec![head.iter().map(ToString::to_string).collect::<Vec<_>>()];
    for m in &s.members {
        let lag = m.lag_bytes.map_or("?".to_string(), say::bytes);
        let lag = if m.role == "standby" { lag } else { String::new() };
        let sync = if m.sync { "yes" } else { "" };
        let doing = m.progress.clone().or_else(|| m.trouble.clone()).unwrap_or_default();
        rows.push(vec![
            m.name.clone(),
            m.role.clone(),
            m.state.clone(),
            m.timeline.to_string(),
            m.lsn.clone(),
            lag,
            sync.into(),
            doing,
        ]);
    }
    out.push(say::table(&rows));
    for p in &s.problems {
        out.push(format!("! {} {}. {}.", p.code, p.what, p.advice));
    }
    out.join("\n")
}

/// One event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// The term.
    pub term: u64,
    /// Its number.
    pub revision: u64,
    /// Who asked.
    pub by: String,
    /// What and why.
    pub what: String,
}

pub async fn history(client: &Client, args: &HistoryArgs, json: bool) -> Result<ExitCode> {
    let path = format!("/v1/history?since={}", args.since.unwrap_or(0));
    let entries: Vec<Entry> = client.best(&path, |all: &Vec<Entry>| all.last().map(|e| e.revision)).await?;
    if json {
        say::out(&serde_json::to_string(&entries)?);
        return Ok(ExitCode::SUCCESS);
    }
    for e in &entries {
        say::out(&format!("{}  term {:<3} {:<4} {}", say::clock(e.at_ms), e.term, e.by, e.what));
    }
    Ok(ExitCode::SUCCESS)
}
