//! Tells a story to a world and checks what it expects.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster::command::{Addresses, Change, Kind, MemberState, Registration};
use cluster::state::Phase;
use cluster::{Durability, NodeId, Settings, Time};
use failover::forecast::{self, Asked, Scene};

use crate::story::{Line, parse, span};
use crate::world::{World, Write};

/// Longest that anything is waited for in a story that says nothing else.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// System identifier of somebody else's database.
const FOREIGN: u64 = 99;

/// Tells the whole story.
///
/// # Errors
/// The line that did not hold, what was found instead, and the cluster's history.
pub fn tell(text: &str) -> Result<World, String> {
    let mut teller = Teller { world: World::default(), settings: Settings::default() };
    for line in parse(text) {
        let told = teller.line(&line);
        let broken = teller.world.broken.clone().map_or(Ok(()), |law| Err(format!("law broken: {law}")));
        told.and(broken).map_err(|why| teller.complain(&line, &why))?;
    }
    Ok(teller.world)
}

struct Teller {
    world: World,
    settings: Settings,
}

impl Teller {
    fn complain(&self, line: &Line, why: &str) -> String {
        use std::fmt::Write as _;
        let mut out = format!("line {}: {}\n  {why}\n", line.number, line.words.join(" "));
        let ctl = &self.world.truth.ctl;
        let _ = writeln!(
            out,
            "  at {:?}: term {} {:?} leader {:?}",
            self.world.now, ctl.term, ctl.phase, ctl.leader
        );
        let _ = writeln!(
            out,
            "  rules {:?}",
            self.world.truth.rules.iter().map(|r| (r.sub, &r.rule)).collect::<Vec<_>>()
        );
        for e in self.world.truth.history.iter().rev().take(25).rev() {
            let _ = writeln!(out, "  {:>6} ms  {}: {}", e.at_ms, e.by, e.reason);
        }
        for n in self.world.nodes.values() {
            let s = &n.server;
            let _ = writeln!(
                out,
                "  {}: {:?} end {} tli {} upstream {:?} streaming {} promise {} resigned {} deed {:?} waiting {:?}",
                n.name,
                s.state,
                s.end(),
                s.lineage.timeline,
                s.upstream,
                s.streaming,
                n.vows.promise,
                n.vows.resigned,
                n.deed.as_ref().map(|(a, _)| a),
                n.controller.waiting(),
            );
        }
        let _ = writeln!(out, "  last refusal: {:?}", self.world.refused);
        out
    }

    fn line(&mut self, line: &Line) -> Result<(), String> {
        match line.word(0) {
            "cluster" => self.cluster(line),
            "lead" => self.lead(line),
            "write" => self.write(line),
            "try" => {
                self.try_write(line.word(1));
                Ok(())
            }
            "wait" => self.run_for(span(line.word(1))?),
            "kill" | "start" | "wipe" | "freeze" | "crash" | "replace" | "tear" => self.fault(line),
            "cut" => self.cut(line),
            "heal" => {
                self.world.cut.clear();
                Ok(())
            }
            "forfeit" => {
                let forgotten = self.world.writes.remove(line.word(1));
                forgotten.map(|_| ()).ok_or("no such write".to_string())
            }
            "switchover" | "failover" | "pause" | "resume" | "reinit" | "remove" | "add" | "durability" => {
                self.operator(line)
            }
            // As an operator who asks and takes no for an answer.
            "maybe" => {
                let asked = Line { number: line.number, words: line.words[1..].to_vec() };
                let _ = self.operator(&asked);
                Ok(())
            }
            "expect" => self.expect(line),
            other => Err(format!("'{other}' is no verb of stories")),
        }
    }

    fn cluster(&mut self, line: &Line) -> Result<(), String> {
        let mut words = line.words.iter().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "durability" => {
                    self.settings.durability = durability(words.next().map_or("", String::as_str))?;
                }
                "acks" => self.settings.acks = words.next().and_then(|w| w.parse().ok()).ok_or("acks N")?,
                "witness" => {
                    let name = words.next().ok_or("witness NAME")?;
                    self.world.add(NodeId::new(name).map_err(|e| e.to_string())?, Kind::Witness);
                }
                name => self.world.add(NodeId::new(name).map_err(|e| e.to_string())?, Kind::Data),
            }
        }
        Ok(())
    }

    fn lead(&mut self, line: &Line) -> Result<(), String> {
        let leader = line.node(1)?;
        let register = |kind| Registration { kind, ..Registration::default() };
        let members: BTreeMap<NodeId, Registration> =
            self.world.nodes.values().map(|n| (n.name.clone(), register(n.kind))).collect();
        let (cluster, settings) = ("story".to_string(), self.settings.clone());
        let claim = Change::Claim { cluster, settings, members };
        self.world.ask(&leader, claim).map_err(|e| e.to_string())?;
        let others: Vec<NodeId> = self.world.nodes.keys().filter(|n| **n != leader).cloned().collect();
        for node in others {
            self.join(&node)?;
        }
        let data = self.world.nodes.values().filter(|n| n.kind == Kind::Data).count() - 1;
        let expected = if self.settings.durability == Durability::Async { 0 } else { data };
        self.until(PATIENCE, "the cluster to be whole", |w| {
            let whole = w.truth.members.values().all(|m| m.state == MemberState::Voter);
            whole && w.open_leader().is_some() && rule_size(w) == Some(expected)
        })
    }

    fn join(&mut self, node: &NodeId) -> Result<(), String> {
        let nonce = self.world.truth.revision + 1;
        let change = Change::Join { node: node.clone(), addresses: Addresses::default(), nonce };
        self.world.ask(node, change).map_err(|e| e.to_string())
    }

    fn write(&mut self, line: &Line) -> Result<(), String> {
        let name = line.word(1).to_string();
        let named = line.after("on").map(NodeId::new).transpose().map_err(|e| e.to_string())?;
        let waits = named.is_none();
        let on = match named {
            Some(on) => on,
            None => self.world.open_leader().ok_or("nobody takes writes")?.1,
        };
        let server = &mut self.world.nodes.get_mut(&on).ok_or("no such node")?.server;
        let lsn = server.append(Some(name.clone()));
        self.world.writes.insert(name.clone(), Write { on, lsn, acked: false });
        if waits {
            return self.until(PATIENCE, "the write to be acknowledged", |w| w.writes[&name].acked);
        }
        Ok(())
    }

    /// A write to whoever seems to take writes, if anybody does; its fate is its own.
    fn try_write(&mut self, name: &str) {
        let Some((_, on)) = self.world.open_leader() else { return };
        let server = &mut self.world.nodes.get_mut(&on).expect("it leads").server;
        if !server.stopped {
            let lsn = server.append(Some(name.to_string()));
            self.world.writes.insert(name.to_string(), Write { on, lsn, acked: false });
        }
    }

    fn run_for(&mut self, span: Duration) -> Result<(), String> {
        let end = self.world.now + span;
        while self.world.now < end && self.world.broken.is_none() {
            self.world.step();
        }
        Ok(())
    }

    fn until(&mut self, span: Duration, what: &str, done: impl Fn(&World) -> bool) -> Result<(), String> {
        let end = self.world.now + span;
        while !done(&self.world) {
            if self.world.now >= end || self.world.broken.is_some() {
                return Err(format!("waited {span:?} for {what}"));
            }
            self.world.step();
        }
        Ok(())
    }

    fn fault(&mut self, line: &Line) -> Result<(), String> {
        let name = line.node(1)?;
        let restart = self.world.now + Duration::from_millis(200);
        let silence = self.world.nodes.get(&name).ok_or("no such node")?.silence(&self.world.truth);
        let killed = self.world.now + silence + Duration::from_millis(200);
        let node = self.world.nodes.get_mut(&name).ok_or("no such node")?;
        match (line.word(0), line.word(2)) {
            ("kill", "postmaster") => node.server.kill(),
            ("kill", "") => node.power_off(),
            ("start", "") => node.power_on(),
            ("freeze", "postmaster") => node.server.stopped = true,
            // The guard kills an agent that is silent for A, and starts another.
            ("freeze", "agent") => (node.agent_runs, node.agent_restart) = (false, Some(killed)),
            ("crash", "agent") => (node.agent_runs, node.agent_restart) = (false, Some(restart)),
            ("replace", "") => {
                node.server.initdb(FOREIGN);
                node.server.upstream = None;
            }
            ("tear", "") => node.server.torn |= !node.server.is_read_write(),
            ("wipe", "") => {
                let kind = node.kind;
                self.world.add(name.clone(), kind);
                self.join(&name)?;
            }
            (verb, what) => return Err(format!("can't {verb} a node's '{what}'")),
        }
        Ok(())
    }

    fn cut(&mut self, line: &Line) -> Result<(), String> {
        let a = line.node(1)?;
        let all: Vec<NodeId> = self.world.nodes.keys().filter(|n| **n != a).cloned().collect();
        let (one_way, others) = match line.word(2) {
            "" => (false, all),
            ">" => (true, vec![line.node(3)?]),
            _ => (false, vec![line.node(2)?]),
        };
        for b in others {
            self.world.cut.insert((a.clone(), b.clone()));
            if !one_way {
                self.world.cut.insert((b, a.clone()));
            }
        }
        Ok(())
    }

    /// As the HTTP API does it: foreseen by the agent that is asked, then
    /// judged by the store.
    fn operator(&mut self, line: &Line) -> Result<(), String> {
        let names = !["losing", ""].contains(&line.word(1)) && line.word(0) != "durability";
        let named = names.then(|| line.node(1)).transpose()?;
        let must = || named.clone().ok_or("name a node".to_string());
        let awake = |n: &&NodeId| self.world.nodes[*n].is_awake() && self.world.reaches_store(n);
        let by = self.world.nodes.keys().find(awake).cloned().ok_or("nobody reaches the store")?;
        let change = match line.word(0) {
            "switchover" => self.switchover(&by, named),
            "failover" => self.failover(&by, line, named)?,
            "pause" => Ok(Change::Pause),
            "resume" => Ok(Change::Resume),
            "reinit" => Ok(Change::Reinit { node: must()? }),
            "durability" => {
                let durability = durability(line.word(1))?;
                Ok(Change::SetSettings(Settings { durability, ..self.world.truth.settings.clone() }))
            }
            "remove" => Ok(Change::RemoveMember { node: must()? }),
            _ => return self.add_member(&must()?),
        };
        let judged = change.and_then(|c| self.world.ask(&by, c).map_err(|e| (e.code(), e.to_string())));
        self.world.refused = judged.err();
        Ok(())
    }

    fn switchover(&mut self, by: &NodeId, to: Option<NodeId>) -> Result<Change, (&'static str, String)> {
        let (state, reports) = (self.world.seen_by(by), self.world.reports(by));
        let scene = Scene { state: &state, reports: &reports };
        let found = forecast::switchover(scene, by, to.as_ref()).map_err(|e| (e.code(), e.to_string()))?;
        self.world.said = format!("to {found}");
        Ok(Change::Switchover { to, at_ms: None })
    }

    fn failover(
        &mut self,
        by: &NodeId,
        line: &Line,
        to: Option<NodeId>,
    ) -> Result<Result<Change, (&'static str, String)>, String> {
        let names = line.after("losing").unwrap_or("").split(',').filter(|n| !n.is_empty());
        let dead: Result<BTreeSet<NodeId>, _> = names.map(NodeId::new).collect();
        let accept_loss = dead.map_err(|e| e.to_string())?;
        let (state, reports) = (self.world.seen_by(by), self.world.reports(by));
        let asked = Asked { by: by.clone(), term: state.ctl.term.next(), to, accept_loss };
        let scene = Scene { state: &state, reports: &reports };
        let forecast = forecast::failover(scene, &asked);
        Ok(forecast.map_err(|e| (e.code(), e.to_string())).map(|f| {
            self.world.said = f.to_string();
            asked.change()
        }))
    }

    fn add_member(&mut self, node: &NodeId) -> Result<(), String> {
        self.world.add(node.clone(), Kind::Data);
        let by = self.world.open_leader().ok_or("nobody leads")?.1;
        let change = Change::AddMember { node: node.clone(), registration: Registration::default() };
        self.world.ask(&by, change).map_err(|e| e.to_string())?;
        self.join(node)
    }

    fn expect(&mut self, line: &Line) -> Result<(), String> {
        let within = line.span("within")?.unwrap_or(Duration::ZERO);
        let held = line.span("for")?;
        let what = line.words[1..].join(" ");
        let check = condition(line)?;
        match held {
            None => self.until(within, &what, |w| check(w)),
            Some(held) => {
                let end = self.world.now + held;
                while self.world.now < end {
                    if !check(&self.world) {
                        return Err("it did not hold for so long".into());
                    }
                    self.world.step();
                }
                Ok(())
            }
        }
    }
}

fn durability(word: &str) -> Result<Durability, String> {
    match word {
        "quorum" => Ok(Durability::Quorum),
        "quorum-relaxed" => Ok(Durability::QuorumRelaxed),
        "async" => Ok(Durability::Async),
        other => Err(format!("'{other}' is no durability")),
    }
}

fn rule_size(w: &World) -> Option<usize> {
    let stable = w.truth.rules.len() == 1 && w.truth.ctl.phase == Phase::Open;
    w.truth.newest_rule().filter(|_| stable).map(|r| r.rule.standbys().len())
}

type Check = Box<dyn Fn(&World) -> bool>;

/// What an `expect` line asks of the world.
fn condition(line: &Line) -> Result<Check, String> {
    let word = line.word(2).to_string();
    Ok(match line.word(1) {
        "term" | "leader" => leads(line)?,
        "no" => Box::new(|w| w.open_leader().is_none()),
        "durable" => Box::new(move |w| {
            let has = |n: &NodeId| w.nodes[n].server.wal.iter().any(|r| r.write.as_ref() == Some(&word));
            w.open_leader().is_some_and(|(_, n)| has(&n))
        }),
        "acked" => Box::new(move |w| w.writes.get(&word).is_some_and(|x| x.acked)),
        "unacked" => Box::new(move |w| w.writes.get(&word).is_some_and(|x| !x.acked)),
        "rule" => rule_is(line),
        "voter" => {
            let node = line.node(2)?;
            Box::new(move |w| w.truth.members.get(&node).is_some_and(|m| m.state == MemberState::Voter))
        }
        "gone" => {
            let node = line.node(2)?;
            Box::new(move |w| w.truth.members.get(&node).is_none_or(|m| m.state == MemberState::Removed))
        }
        "refused" => {
            Box::new(move |w| w.refused.as_ref().is_some_and(|(c, why)| *c == word || why.contains(&word)))
        }
        "accepted" => Box::new(|w| w.refused.is_none()),
        "said" => Box::new(move |w| w.said.contains(&word)),
        "history" => Box::new(move |w| w.truth.history.iter().any(|e| e.reason.to_string().contains(&word))),
        other => return Err(format!("'{other}' can't be expected")),
    })
}

fn leads(line: &Line) -> Result<Check, String> {
    let term: Option<u64> =
        line.after("term").map(|t| t.parse().map_err(|_| "a term is a number")).transpose()?;
    let names: Vec<String> =
        line.after("leader").unwrap_or("").split('|').filter(|s| !s.is_empty()).map(Into::into).collect();
    Ok(Box::new(move |w| {
        let led = w.open_leader();
        let named =
            names.is_empty() || led.as_ref().is_some_and(|(_, n)| names.iter().any(|x| x == n.as_str()));
        let termed = term.is_none_or(|t| {
            if names.is_empty() {
                w.truth.ctl.term.0 == t
            } else {
                led.as_ref().is_some_and(|(x, _)| x.0 == t)
            }
        });
        named && termed
    }))
}

fn rule_is(line: &Line) -> Check {
    let rest = line.words.iter().skip(2).take_while(|w| *w != "within" && *w != "for");
    let wanted: BTreeSet<String> = rest.filter(|w| *w != "nobody").cloned().collect();
    Box::new(move |w| {
        let names = |r: &cluster::ActiveRule| {
            r.rule.standbys().iter().map(|m| m.node.to_string()).collect::<BTreeSet<_>>()
        };
        let others = |r: &cluster::ActiveRule| {
            let data = w
                .truth
                .members
                .iter()
                .filter(|(_, m)| m.kind == Kind::Data && m.state != MemberState::Removed);
            data.map(|(n, _)| n.to_string()).filter(|n| *n != r.leader.node.as_str()).collect::<BTreeSet<_>>()
        };
        let everybody = wanted.contains("all");
        let holds = |r: &cluster::ActiveRule| names(r) == if everybody { others(r) } else { wanted.clone() };
        w.truth.rules.len() == 1 && w.truth.newest_rule().is_some_and(holds)
    })
}

/// Virtual time since the world began, for tests that look at more than stories say.
#[must_use]
pub fn elapsed(world: &World) -> Duration {
    world.now.since(Time::default())
}
