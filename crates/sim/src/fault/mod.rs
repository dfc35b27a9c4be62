//! What can go wrong, one kind a file, each in the words of stories.
//!
//! A kind draws lines for a storm and does what a line says. What lasts ends by
//! itself (`for 2s`) or with `calm`, which ends everything.

mod agent;
mod backend;
mod calm;
mod clock;
mod cut;
mod disk;
mod flap;
mod foreign;
mod freeze;
mod guard;
mod host;
mod loss;
pub(crate) mod nonsense;
mod operator;
mod pause_host;
mod port;
mod power;
mod process;
mod replay;
mod rogue;
mod store;
mod tear;
mod user_promote;
mod wipe;

use cluster::NodeId;
use cluster::command::Kind as NodeKind;

use crate::clock::{Us, us};
use crate::network::At;
use crate::rng::Rng;
use crate::story::Line;
use crate::world::{What, World};

/// A kind of fault.
pub struct Fault {
    /// Its name, by which storms switch it on and off.
    pub name: &'static str,
    /// The words a line of its begins with.
    pub verbs: &'static [&'static str],
    /// A line for a storm, if it has one for that scene.
    pub draw: fn(&mut Rng, &Scene) -> Option<String>,
    /// Does what a line says. `None`: the line is another kind's.
    pub act: fn(&mut World, &Line) -> Option<Result<(), String>>,
}

/// Whoever leads then, or is elected to.
pub const LEADER: &str = "leader";

/// What a storm knows when it draws.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Nodes with a database.
    pub data: Vec<String>,
    /// Everybody.
    pub all: Vec<String>,
    /// Whether commits are acknowledged by lease: what C-27 does not cover is left out.
    pub asynchronous: bool,
    /// Whether guards may stand still though it is asynchronous: then nothing else may
    /// keep agents from acting for them (C-27).
    pub still_guards: bool,
    /// Whether two standbys have to acknowledge.
    pub both: bool,
    /// Whether an operator may accept losses.
    pub losses: bool,
    /// The one node that a user may promote: two are more than any rule survives, and
    /// where a leader may be the only one to have a commit, one is.
    pub promoted: Option<String>,
    /// The one node whose disk may be lost: of two copies the rules keep one.
    pub wiped: Option<String>,
}

impl Scene {
    pub(crate) fn node<'a>(&'a self, rng: &mut Rng) -> &'a str {
        if rng.chance(350) { LEADER } else { rng.of(self.data.as_slice()).as_str() }
    }

    pub(crate) fn any<'a>(&'a self, rng: &mut Rng) -> &'a str {
        if rng.chance(350) { LEADER } else { rng.of(self.all.as_slice()).as_str() }
    }

    pub(crate) fn two<'a>(&'a self, rng: &mut Rng) -> Option<(&'a str, &'a str)> {
        let (a, b) = (self.any(rng), self.any(rng));
        (a != b).then_some((a, b))
    }
}

/// Every kind.
pub const FAULTS: [Fault; 23] = [
    host::FAULT,
    power::FAULT,
    process::FAULT,
    backend::FAULT,
    agent::FAULT,
    guard::FAULT,
    freeze::FAULT,
    pause_host::FAULT,
    cut::FAULT,
    flap::FAULT,
    port::FAULT,
    loss::FAULT,
    disk::FAULT,
    clock::FAULT,
    replay::FAULT,
    tear::FAULT,
    foreign::FAULT,
    wipe::FAULT,
    user_promote::FAULT,
    store::FAULT,
    operator::FAULT,
    rogue::FAULT,
    calm::FAULT,
];

/// A fault that lasts, and ends.
#[derive(Clone, Debug)]
pub enum Over {
    /// The agent waited for its disk and goes on.
    AgentGoesOn(At, u32),
    /// A stopped agent is continued.
    Agent(At),
    /// Stopped processes of the server of that life are continued.
    Processes(At, u32),
    /// A stopped guard is continued.
    Guard(At),
    /// A host gets its power back.
    Power(At),
    /// A paused host runs again.
    Host(At),
    /// A link that was cut works again.
    Link(At, At),
    /// A port can be reached again from that host.
    Port(At, At),
    /// A link flaps once more, so often.
    Flap(At, At, u32),
    /// A guard that died is started again, and its agent with it.
    Restart(At, u32),
    /// A rogue asks for that.
    Rogue(u64),
    /// There is room again.
    Room(At),
    /// The link between a proxy and a server works again.
    ProxyLink(usize, At),
    /// A proxy hears agents again.
    ProxyHears(usize),
}

/// Does what a line says.
///
/// # Errors
/// What is wrong with it.
pub fn act(world: &mut World, line: &Line) -> Result<(), String> {
    let verb = line.word(0);
    for fault in FAULTS.iter().filter(|f| f.verbs.contains(&verb)) {
        if let Some(done) = (fault.act)(world, line) {
            if done.is_ok() {
                world.counts.faults += u64::from(fault.name != "calm");
                world.mark(&format!("fault: {}", fault.name));
                let words = line.words.join(" ");
                world.note(None, || format!("! {words}"));
            }
            return done;
        }
    }
    if let Some(done) = crate::front::words::act(world, line) {
        let words = line.words.join(" ");
        world.note(None, || format!("! {words}"));
        return done;
    }
    Err(format!("'{}' is no verb of stories", line.words.join(" ")))
}

/// A lasting fault ends.
pub(crate) fn end(world: &mut World, calms: u32, over: Over) {
    // Whose process died still needs the next one.
    if calms < world.calms && !matches!(over, Over::Restart(..) | Over::AgentGoesOn(..)) {
        return;
    }
    world.note(None, || format!("ends {over:?}"));
    match over {
        Over::AgentGoesOn(at, life) => {
            if world.hosts[at].agent.life == life {
                world.hosts[at].agent.stopped = false;
                world.thaw_agent(at);
            }
        }
        Over::Agent(at) => agent::thaw(world, at),
        Over::Processes(at, life) => {
            if world.hosts[at].server.life == life {
                world.thaw_processes(at);
            }
        }
        Over::Guard(at) => guard::thaw(world, at),
        Over::Power(at) => host::on(world, at),
        Over::Host(at) => pause_host::resume(world, at),
        Over::Link(a, b) => world.network.mend(a, b),
        Over::Port(from, at) => world.network.open(from, at),
        Over::Flap(a, b, left) => flap::beat(world, a, b, left),
        Over::Restart(at, life) => guard::restart(world, at, life),
        Over::Rogue(number) => drop(rogue::go(world, number)),
        Over::Room(at) => world.hosts[at].disk.full = false,
        Over::ProxyLink(proxy, at) => world.mend_proxy_link(proxy, at),
        Over::ProxyHears(proxy) => world.front.proxies[proxy].deaf = false,
    }
}

/// The host named at `i` of a line.
fn host_at(world: &World, line: &Line, i: usize) -> Result<At, String> {
    let node = line.node(i)?;
    let leader = world.truth.ctl.leader.as_ref().filter(|_| node.as_str() == LEADER);
    world.place(leader.map_or(&node, |l| &l.node))
}

/// How long a line says that it lasts.
fn lasts(line: &Line) -> Result<Option<Us>, String> {
    Ok(line.span("for")?.map(us))
}

fn last(world: &mut World, span: Us, over: Over) {
    let calms = world.calms;
    world.after(span, What::Over(calms, Box::new(over)));
}

/// A span for a storm's line.
fn span_text(rng: &mut Rng, low_ms: u64, high_ms: u64) -> String {
    format!("{}ms", rng.range(low_ms, high_ms))
}

/// Registers and seats a node, with an empty disk.
pub(crate) fn join(world: &mut World, name: &NodeId) -> Result<(), String> {
    let nonce = world.truth.revision + 1;
    if world.store.group.is_some() {
        let at = world.place(name)?;
        world.raft_want_seat(at, nonce);
        return Ok(());
    }
    let addresses = cluster::command::Addresses::default();
    let change = cluster::command::Change::Join { node: name.clone(), addresses, nonce };
    world.ask(name, change).map_err(|e| e.to_string())
}

/// Adds a host of that kind, or its next life with an empty disk.
pub(crate) fn fresh(world: &mut World, name: &NodeId, kind: NodeKind) -> At {
    let at = world.places.get(name).copied().unwrap_or(world.hosts.len());
    // Its disk is empty, of the last entries as well.
    world.store.remember(at, std::sync::Arc::default());
    world.store.remember(at, std::sync::Arc::default());
    world.raft_wipe(at);
    world.add(name, kind)
}
