//! Tells a story to a world and checks what it expects.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster::command::{Change, Kind, MemberState, Registration, Tags};
use cluster::state::Phase;
use cluster::{Durability, NodeId, Settings};

use crate::client::Fate;
use crate::clock::{Clock, ms, us};
use crate::disk::Disk;
use crate::fault;
use crate::host::Host;
use crate::law::Moment;
use crate::mutation::Mutation;
use crate::network::Weather;
use crate::operator;
use crate::point::Armed;
use crate::rehearsal;
use crate::story::{Line, parse, span};
use crate::world::World;

/// Longest that anything is waited for in a story that says nothing else.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// An acknowledgement is news for so long.
const RECENT: Duration = Duration::from_secs(1);

/// How a story failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The law that was broken; none if the story expected something that did not come.
    pub law: Option<&'static str>,
    /// In words: the line, what was found, the cluster's history.
    pub text: String,
}

/// Tells the whole story.
///
/// # Errors
/// The line that did not hold, what was found instead, and the cluster's history.
pub fn tell(text: &str) -> Result<World, String> {
    let (world, outcome) = told(text, None, false);
    outcome.map(|()| world).map_err(|f| f.text)
}

/// Tells a story with a deliberate mistake, if one is named, and keeps its trace,
/// if that is wanted. Gives the trace, and the world or how it failed.
pub fn told(text: &str, mutation: Option<Mutation>, keep: bool) -> (World, Result<(), Failure>) {
    let lines = parse(text);
    let seed = lines.iter().find(|l| l.word(0) == "seed").and_then(|l| l.word(1).parse().ok());
    let mut world = World::new(seed);
    world.mutation = mutation;
    Mutation::arm(mutation);
    if keep {
        world.trace.keep();
    }
    let mut teller = Teller { world, settings: Settings::default(), tagged: BTreeSet::new(), raft: false };
    for line in &lines {
        let told = teller.line(line);
        let broken = teller.world.broken.clone();
        if let Some(broken) = broken {
            let (law, what) = (broken.law, format!("law broken: {}: {}", broken.law, broken.what));
            let at = teller.world.now;
            teller.world.trace.line(at, "-", &format!("LAW {what}"));
            let text = teller.complain(line, &what);
            return (teller.world, Err(Failure { law: Some(law), text }));
        }
        if let Err(why) = told {
            let text = teller.complain(line, &why);
            return (teller.world, Err(Failure { law: None, text }));
        }
    }
    (teller.world, Ok(()))
}

struct Teller {
    world: World,
    settings: Settings,
    /// Who is tagged `no_failover`.
    tagged: BTreeSet<NodeId>,
    /// The store is the Raft group that ships.
    raft: bool,
}

impl Teller {
    fn complain(&self, line: &Line, why: &str) -> String {
        use std::fmt::Write as _;
        let w = &self.world;
        let mut out = format!("line {}: {}\n  {why}\n", line.number, line.words.join(" "));
        let ctl = &w.truth.ctl;
        let _ = writeln!(
            out,
            "  at {} ms: term {} {:?} leader {:?}",
            w.now / 1000,
            ctl.term,
            ctl.phase,
            ctl.leader
        );
        let rules: Vec<_> = w.truth.rules.iter().map(|r| (r.term.0, r.sub, &r.rule)).collect();
        let _ = writeln!(out, "  rules {rules:?}");
        for e in w.truth.history.iter().rev().take(25).rev() {
            let _ = writeln!(out, "  {:>6} ms  {}: {}", e.at_ms, e.by, e.reason);
        }
        for n in &w.hosts {
            let s = &n.server;
            let _ = writeln!(
                out,
                "  {}: {}{:?} end {} tli {} upstream {:?} receiver {} promise {} resigned {} deed {:?} waiting {:?} member {:?}",
                n.name,
                if n.up { "" } else { "off " },
                s.state,
                s.wal.end(),
                s.wal.lineage.timeline,
                s.upstream,
                s.receiver.is_some(),
                n.vows.promise,
                n.vows.resigned,
                n.agent.deed.as_ref().map(|d| (&d.action, d.step)),
                n.agent.controller.waiting(),
                w.truth.members.get(&n.name).map(|m| (&m.state, m.reinit, m.leaving)),
            );
        }
        out.push_str(&w.front.describe());
        let _ = writeln!(out, "  last refusal: {:?}", w.refused);
        out
    }

    fn line(&mut self, line: &Line) -> Result<(), String> {
        match line.word(0) {
            "seed" => Ok(()),
            "cluster" => self.cluster(line),
            "weather" => self.weather(line),
            "store" => self.store(line),
            "lead" => self.lead(line).map(|()| self.form_group()),
            "late" => crate::late::begin(&mut self.world, &self.settings, line).map(|()| self.form_group()),
            "load" => self.load(line),
            "write" => self.write(line),
            "try" => {
                self.try_write(line.word(1));
                Ok(())
            }
            "wait" => {
                self.world.run_for(span(line.word(1))?);
                Ok(())
            }
            "when" => self.arm(line),
            "forfeit" => {
                let write = *self.world.named.get(line.word(1)).ok_or("no such write")?;
                self.world.writes[write as usize].forfeited = true;
                Ok(())
            }
            "expect" => self.expect(line),
            "rehearse" => self.rehearse(line),
            "crowd" => {
                self.world.refused = operator::crowd(&mut self.world);
                Ok(())
            }
            "end" => self.end(),
            "switchover" | "failover" | "pause" | "resume" | "reinit" | "remove" | "add" | "durability"
            | "acks" | "cancel" => operator::ask(&mut self.world, line),
            _ => fault::act(&mut self.world, line),
        }
    }

    fn cluster(&mut self, line: &Line) -> Result<(), String> {
        let mut words = line.words.iter().skip(1).peekable();
        while let Some(word) = words.next() {
            match word.as_str() {
                "durability" => {
                    self.settings.durability = operator::durability(words.next().map_or("", String::as_str))?;
                }
                "acks" => self.settings.acks = words.next().and_then(|w| w.parse().ok()).ok_or("acks N")?,
                "no_failover" => {
                    let name = words.next().ok_or("no_failover NAME")?;
                    self.tagged.insert(NodeId::new(name).map_err(|e| e.to_string())?);
                }
                "witness" => {
                    let name = words.next().ok_or("witness NAME")?;
                    let wal = words.next_if(|w| *w == "wal").is_some();
                    let kind = if wal { Kind::WalWitness } else { Kind::Witness };
                    self.add(&NodeId::new(name).map_err(|e| e.to_string())?, kind);
                }
                name => self.add(&NodeId::new(name).map_err(|e| e.to_string())?, Kind::Data),
            }
        }
        Ok(())
    }

    /// A host, whose clocks are its own where chance plays a part.
    fn add(&mut self, name: &NodeId, kind: Kind) {
        let w = &mut self.world;
        let at = w.add(name, kind);
        if w.chancy {
            let drift_ppm = i64::try_from(w.rng.below(2001)).unwrap_or(0) - 1000;
            let origin = ms(w.rng.below(10_000_000));
            let wall_offset = i64::try_from(ms(w.rng.below(4000))).unwrap_or(0);
            w.hosts[at].clock = Clock { origin, drift_ppm, wall_offset };
            w.hosts[at].disk = Disk::ordinary();
            let now = w.hosts[at].clock.local(w.now);
            w.hosts[at].restart_agent(now);
            w.start_agent(at);
        }
    }

    fn weather(&mut self, line: &Line) -> Result<(), String> {
        let number = |key: &str| line.after(key).and_then(|w| w.parse().ok()).unwrap_or(0);
        self.world.network.weather = Weather {
            delay: us(span(line.word(1))?),
            jitter: us(span(line.word(2))?),
            loss: number("loss"),
            twice: number("twice"),
            stray: number("stray"),
        };
        Ok(())
    }

    fn store(&mut self, line: &Line) -> Result<(), String> {
        let number = |key: &str| line.after(key).and_then(|w| w.parse().ok()).unwrap_or(0);
        self.raft = line.words.iter().any(|w| w == "raft");
        let store = &mut self.world.store;
        (store.lost_replies, store.late_news, store.slow_reload) =
            (number("lost"), number("late"), number("slow"));
        Ok(())
    }

    /// Once there is a cluster.
    fn form_group(&mut self) {
        if self.raft {
            self.world.form_group();
        }
    }

    fn load(&mut self, line: &Line) -> Result<(), String> {
        let count = line.word(1).parse().map_err(|_| "load CLIENTS PAUSE")?;
        self.world.start_load(count, us(span(line.word(2))?));
        Ok(())
    }

    fn arm(&mut self, line: &Line) -> Result<(), String> {
        let (point, on) = (line.word(1).to_string(), line.word(2));
        let on = if on == "any" { None } else { Some(self.world.place(&line.node(2)?)?) };
        let line = Line { number: line.number, words: line.words[3..].to_vec() };
        self.world.armed.push(Armed { point, on, line });
        Ok(())
    }

    fn lead(&mut self, line: &Line) -> Result<(), String> {
        let leader = line.node(1)?;
        let register = |n: &Host| {
            let tags = Tags { no_failover: self.tagged.contains(&n.name), ..Tags::default() };
            Registration { kind: n.kind, tags, ..Registration::default() }
        };
        let members: BTreeMap<NodeId, Registration> =
            self.world.hosts.iter().map(|n| (n.name.clone(), register(n))).collect();
        let (cluster, settings) = ("story".to_string(), self.settings.clone());
        fault::nonsense::before_the_claim(&mut self.world, &leader);
        let claim = Change::Claim { cluster, settings, members };
        self.world.ask(&leader, claim).map_err(|e| e.to_string())?;
        fault::nonsense::before_joining(&mut self.world, &leader);
        let others: Vec<NodeId> = self.world.places.keys().filter(|n| **n != leader).cloned().collect();
        for node in others {
            fault::join(&mut self.world, &node)?;
        }
        fault::nonsense::before_opening(&mut self.world, &leader);
        let data = self.world.hosts.iter().filter(|n| n.kind.keeps_wal()).count() - 1;
        let expected = if self.settings.durability == Durability::Async { 0 } else { data };
        self.until(PATIENCE, "the cluster to be whole", |w| {
            let whole = w.truth.members.values().all(|m| m.state == MemberState::Voter);
            whole && w.open_leader().is_some() && rule_size(w) == Some(expected)
        })
    }

    fn write(&mut self, line: &Line) -> Result<(), String> {
        let name = line.word(1).to_string();
        let named = line.after("on").map(NodeId::new).transpose().map_err(|e| e.to_string())?;
        let waits = named.is_none();
        let at = match named {
            Some(on) => self.world.place(&on)?,
            None => self.world.open_leader().ok_or("nobody takes writes")?.1,
        };
        let write = self.named(&name, at);
        if waits {
            return self.until(PATIENCE, "the write to be acknowledged", |w| {
                w.writes[write as usize].fate == Fate::Acked
            });
        }
        Ok(())
    }

    fn named(&mut self, name: &str, at: usize) -> u32 {
        let write = self.world.new_write();
        self.world.named.insert(name.to_string(), write);
        if !self.world.execute(at, write, usize::MAX) {
            self.world.writes[write as usize].fate = Fate::Failed;
        }
        write
    }

    /// A write to whoever seems to take writes, if anybody does; its fate is its own.
    fn try_write(&mut self, name: &str) {
        if let Some((_, at)) = self.world.open_leader() {
            self.named(name, at);
        }
    }

    fn until(&mut self, span: Duration, what: &str, done: impl Fn(&World) -> bool) -> Result<(), String> {
        let end = self.world.now + us(span);
        if self.world.run_while(end, done) { Ok(()) } else { Err(format!("waited {span:?} for {what}")) }
    }

    fn expect(&mut self, line: &Line) -> Result<(), String> {
        let within = line.span("within")?.unwrap_or(Duration::ZERO);
        let held = line.span("for")?;
        let what = line.words[1..].join(" ");
        let check = condition(line)?;
        match held {
            None => self.until(within, &what, |w| check(w)),
            Some(held) => {
                let end = self.world.now + us(held);
                let fails = self.world.run_while(end, |w| !check(w));
                if fails { Err("it did not hold for so long".into()) } else { Ok(()) }
            }
        }
    }

    /// The outage lasts for the whole time, and when it is over somebody serves.
    fn rehearse(&mut self, line: &Line) -> Result<(), String> {
        if !rehearsal::begin(&mut self.world, line)? {
            return Ok(());
        }
        self.world.run_for(line.span("within")?.ok_or("rehearse WHAT within SPAN")?);
        self.until(RECENT, "writes to be taken", |w| rehearsal::is_well(w, line))
    }

    /// No more writes; what is on its way settles, and the laws look at the rest.
    fn end(&mut self) -> Result<(), String> {
        self.world.load = false;
        let term = self.world.truth.ctl.term;
        self.world.run_for(Duration::from_secs(3));
        self.world.judge(&Moment::Ended);
        if self.world.broken.is_none() && self.world.truth.ctl.term != term {
            return Err(format!("term {} ended with nothing wrong", term));
        }
        Ok(())
    }
}

/// Whether the open leader has acknowledged a write just now.
#[must_use]
pub fn is_serving(w: &World) -> bool {
    let last = w.witnessed.acked.last().map(|x| &w.writes[*x as usize]);
    let recent = last.is_some_and(|x| x.acked_at + us(RECENT) > w.now);
    recent && w.open_leader().is_some_and(|(term, _)| last.is_some_and(|x| x.term == term))
}

/// Whether the leader's agent tells others that it takes writes: who waits for that waits
/// for ever where it has not proven its rule.
fn says_so(w: &World) -> bool {
    let leading = w.open_leader().and_then(|(_, at)| w.hosts[at].agent.controller.leading());
    leading.is_some_and(|l| l.writable)
}

fn rule_size(w: &World) -> Option<usize> {
    let stable = w.truth.rules.len() == 1 && w.truth.ctl.phase == Phase::Open;
    w.truth.newest_rule().filter(|_| stable).map(|r| r.rule.standbys().len())
}

fn fate(w: &World, name: &str) -> Option<Fate> {
    w.named.get(name).map(|x| w.writes[*x as usize].fate)
}

type Check = Box<dyn Fn(&World) -> bool>;

/// What an `expect` line asks of the world.
fn condition(line: &Line) -> Result<Check, String> {
    let word = line.word(2).to_string();
    if let Some(check) = crate::front::words::condition(line) {
        return Ok(check);
    }
    Ok(match line.word(1) {
        "term" | "leader" => leads(line)?,
        "no" => Box::new(|w| w.open_leader().is_none()),
        "durable" => Box::new(move |w| {
            let write = w.named.get(&word);
            w.open_leader().zip(write).is_some_and(|((_, at), write)| w.hosts[at].server.wal.holds(*write))
        }),
        "acked" => Box::new(move |w| fate(w, &word) == Some(Fate::Acked)),
        "unacked" => Box::new(move |w| fate(w, &word).is_some_and(|f| f != Fate::Acked)),
        "serving" => Box::new(|w| is_serving(w) && says_so(w)),
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
        let named = names.is_empty()
            || led.is_some_and(|(_, at)| names.iter().any(|x| x == w.hosts[at].name.as_str()));
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
            let data =
                w.truth.members.iter().filter(|(_, m)| m.kind.keeps_wal() && m.state != MemberState::Removed);
            data.map(|(n, _)| n.to_string()).filter(|n| *n != r.leader.node.as_str()).collect::<BTreeSet<_>>()
        };
        let everybody = wanted.contains("all");
        let holds = |r: &cluster::ActiveRule| names(r) == if everybody { others(r) } else { wanted.clone() };
        w.truth.rules.len() == 1 && w.truth.newest_rule().is_some_and(holds)
    })
}
