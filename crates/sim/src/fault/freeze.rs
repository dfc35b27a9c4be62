//! Processes of a server are stopped by a signal: `freeze n1 walsender for 3s`.

use super::{Fault, Over, host_at, last, lasts, span_text};
use crate::server::Process;

const PROCESSES: [(&str, Process); 6] = [
    ("postmaster", Process::Postmaster),
    ("backend", Process::Backend),
    ("walsender", Process::Walsender),
    ("walreceiver", Process::Walreceiver),
    ("startup", Process::Startup),
    ("checkpointer", Process::Checkpointer),
];

pub(super) const FAULT: Fault = Fault {
    name: "freeze",
    verbs: &["freeze"],
    draw: |rng, scene| {
        let (what, _) = rng.of(&PROCESSES);
        Some(format!("freeze {} {what} for {}", scene.node(rng), span_text(rng, 100, 8000)))
    },
    act: |world, line| {
        let (_, process) = PROCESSES.iter().find(|(name, _)| *name == line.word(2))?;
        Some((|| {
            let at = host_at(world, line, 1)?;
            if !world.hosts[at].server.runs() {
                return Ok(());
            }
            world.hosts[at].server.stopped.insert(*process);
            world.again(at);
            if let Some(span) = lasts(line)? {
                let life = world.hosts[at].server.life;
                last(world, span, Over::Processes(at, life));
            }
            Ok(())
        })())
    },
};
