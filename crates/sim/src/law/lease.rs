//! F8 Lease: while a proxy holds a lease, nobody is elected after the term that it is for, or that term's leader is
//! dead. So whatever it sends to that leader then sees all that was acknowledged before.
//!
//! Source: docs/protocol.md, section 5, I9 in its strict form, C-12 and C-19 to C-21. The lease is what the proxy
//! believes, by its own clock; the elections are those that were agreed.

use cluster::Term;
use cluster::command::Change;

use super::Moment;
use crate::world::World;

pub(super) fn judge(world: &World, moment: &Moment) -> Option<String> {
    match moment {
        Moment::Leased { proxy } => outlived(world, *proxy),
        Moment::Agreed { old, command } => {
            let elects = matches!(command.change, Change::Elect(_) | Change::BeginAndElect(_));
            // Whom an operator declared dead may live, and grant (C-18).
            let word = old.ctl.written_off.is_empty() && world.truth.ctl.written_off.is_empty();
            let all = 0..world.front.proxies.len();
            if elects && word { all.into_iter().find_map(|proxy| outlived(world, proxy)) } else { None }
        }
        _ => None,
    }
}

/// The lease of a proxy, if it runs on beside a later election.
fn outlived(world: &World, proxy: usize) -> Option<String> {
    let term = world.leased(proxy)?;
    let later = world.truth.elections.last().filter(|e| e.term > term)?;
    let leader = world.truth.elections.iter().find(|e| e.term == term).map(|e| &e.leader)?;
    let host = &world.hosts[*world.places.get(&leader.node)?];
    let dead = host.vows.resigned >= term || world.witnessed.is_dead(&host.name, term);
    (!dead && !declared(world, term)).then(|| {
        format!(
            "{} may give reads of term {term}, whose leader {leader} has not resigned, and {} is elected in term {}",
            world.front.proxies[proxy].name, later.leader, later.term
        )
    })
}

/// Whether an operator has declared anybody dead since.
fn declared(world: &World, term: Term) -> bool {
    world.witnessed.dead.values().any(|at| *at > term)
}
