//! How long a deed takes in the model, and what it changes when it ends.
//!
//! Mirrors what the real executor promises: what must be durable is durable
//! before the deed is reported, and a deed that finds its ground gone fails.

use std::time::Duration;

use cluster::local::{Promoting, Rebuild};
use cluster::report::ServerState;
use cluster::{Action, MemberId, NodeId, Rule, Term};
use failover::Outcome;

use crate::server::{Server, SyncRule};
use crate::world::World;

/// How long a deed waits for others before it is given up, beyond its own time.
#[must_use]
pub fn patience(action: &Action) -> Duration {
    Duration::from_secs(match action {
        Action::HandOver { .. } => 3,
        Action::Barrier { .. } => 5,
        Action::ChangeRule { .. } => 15,
        Action::Initdb
        | Action::StartCut
        | Action::Fence { .. }
        | Action::Recruit { .. }
        | Action::Prepare { .. }
        | Action::FastForward { .. }
        | Action::Promote { .. }
        | Action::Follow { .. }
        | Action::Rewind { .. }
        | Action::Clone { .. }
        | Action::Checkpoint { .. }
        | Action::Stop => 0,
    })
}

/// Model time that a deed takes, in milliseconds; none waits for others.
#[must_use]
pub fn duration(action: &Action) -> Duration {
    Duration::from_millis(match action {
        Action::Fence { .. } | Action::Recruit { .. } => 20,
        Action::Follow { afresh: false, .. } | Action::Barrier { .. } | Action::ChangeRule { .. } => 20,
        Action::Promote { .. } | Action::HandOver { .. } => 60,
        Action::Prepare { .. } | Action::Checkpoint { .. } | Action::Stop | Action::FastForward { .. } => 50,
        Action::StartCut | Action::Follow { afresh: true, .. } => 100,
        Action::Initdb | Action::Rewind { .. } => 500,
        Action::Clone { .. } => 1000,
    })
}

/// Whether the deed's own waiting is over: barriers wait for acknowledgements.
#[must_use]
pub fn is_over(world: &World, node: &NodeId, action: &Action) -> bool {
    let server = &world.nodes[node].server;
    match action {
        Action::Barrier { rule, .. } => proven(server, rule),
        Action::ChangeRule { from, to, .. } => {
            let all = |m: &MemberId| server.acked.get(m).is_none_or(|at| *at >= server.end());
            proven(server, to) && from.standbys().union(to.standbys()).all(all)
        }
        Action::HandOver { .. } => server.state == ServerState::Down,
        Action::Initdb
        | Action::StartCut
        | Action::Fence { .. }
        | Action::Recruit { .. }
        | Action::Prepare { .. }
        | Action::FastForward { .. }
        | Action::Promote { .. }
        | Action::Follow { .. }
        | Action::Rewind { .. }
        | Action::Clone { .. }
        | Action::Checkpoint { .. }
        | Action::Stop => true,
    }
}

fn proven(server: &Server, rule: &Rule) -> bool {
    rule.is_acked_by(server.acked.iter().filter(|(_, at)| **at >= server.end()).map(|(m, _)| m))
}

/// What happens when the deed begins.
pub fn begin(world: &mut World, node: &NodeId, action: &Action) {
    let n = world.nodes.get_mut(node).expect("deeds belong to nodes");
    match action {
        Action::Barrier { .. } if n.server.state == ServerState::Primary => {
            n.server.append(None);
        }
        Action::ChangeRule { to, .. } if n.server.state == ServerState::Primary => {
            n.server.rule = SyncRule::Set(to.clone());
            n.server.append(None);
        }
        Action::Clone { .. } => n.vows.rebuilding = Some(Rebuild::Clone),
        Action::Rewind { .. } => n.vows.rebuilding = Some(Rebuild::Rewind),
        Action::HandOver { .. } if n.server.state == ServerState::Primary => {
            n.server.append(None);
            n.server.rule = SyncRule::Placeholder;
        }
        Action::Follow { afresh: true, .. } => n.server.kill(),
        Action::Barrier { .. }
        | Action::ChangeRule { .. }
        | Action::HandOver { .. }
        | Action::Initdb
        | Action::StartCut
        | Action::Fence { .. }
        | Action::Recruit { .. }
        | Action::Prepare { .. }
        | Action::FastForward { .. }
        | Action::Promote { .. }
        | Action::Follow { .. }
        | Action::Checkpoint { .. }
        | Action::Stop => {}
    }
}

/// What the deed changes when it ends.
///
/// # Errors
/// Why it could not be done.
pub fn finish(world: &mut World, node: &NodeId, action: &Action) -> Result<Outcome, String> {
    let state = world.seen_by(node);
    let over = is_over(world, node, action);
    let n = world.nodes.get_mut(node).expect("deeds belong to nodes");
    match action {
        Action::Initdb => n.server.initdb(7),
        Action::StartCut => {
            n.server.state = ServerState::Standby;
            n.server.upstream = None;
            n.server.rule = SyncRule::Placeholder;
        }
        Action::Fence { term } => resign(world, node, *term, false),
        Action::Recruit { term } => {
            n.vows.promise = n.vows.promise.max(*term);
            n.server.upstream = None;
            n.server.streaming = false;
            let answer = n.position(&state, *term);
            return Ok(Outcome::Recruited(answer));
        }
        // Given up it is killed, and what it had not sent is not known to be elsewhere.
        Action::HandOver { term } => resign(world, node, *term, over),
        Action::Barrier { .. } | Action::ChangeRule { .. } if !over => {
            return Err("its standbys did not acknowledge in time".into());
        }
        Action::Prepare { .. } | Action::Checkpoint { .. } | Action::FastForward { .. } => {}
        Action::Promote { term, timeline, rule, .. } => {
            if n.vows.promise > *term || n.vows.promoting.is_some_and(|p| p.term >= *term) {
                return Err("promised or promoted already".into());
            }
            if world.truth.ctl.term != *term || world.truth.ctl.leader.as_ref().map(|l| &l.node) != Some(node)
            {
                return Err("another term has begun".into());
            }
            n.vows.promise = *term;
            n.vows.promoting = Some(Promoting { term: *term, next_xid: 3 });
            n.server.promote(*timeline, rule.clone());
        }
        Action::Barrier { .. } | Action::ChangeRule { .. } => return Ok(Outcome::Proven(n.server.end())),
        Action::Follow { term, leader, afresh } => {
            // What follows the last whole record is cut off while the server is down.
            n.server.torn &= !afresh;
            return follow(world, node, *term, &leader.node);
        }
        Action::Rewind { leader, .. } => return rebuild(world, node, &leader.node, false),
        Action::Clone { leader, .. } => return rebuild(world, node, &leader.node, true),
        Action::Stop => n.server.kill(),
    }
    Ok(Outcome::Done)
}

fn resign(world: &mut World, node: &NodeId, term: Term, clean: bool) {
    let state = world.seen_by(node);
    let n = world.nodes.get_mut(node).expect("deeds belong to nodes");
    n.server.kill();
    n.server.upstream = None;
    let answer = n.position(&state, term);
    n.vows.resigned = n.vows.resigned.max(term);
    n.vows.resigned_at = answer.position.filter(|_| clean);
    n.vows.resigned_lineage = clean.then_some(answer.lineage);
    n.vows.resigned_clean = clean;
}

fn follow(world: &mut World, node: &NodeId, term: Term, leader: &NodeId) -> Result<Outcome, String> {
    let n = world.nodes.get_mut(node).expect("deeds belong to nodes");
    if n.vows.promise > term {
        return Err("a later term is promised".into());
    }
    n.vows.promise = term;
    n.vows.attached = n.vows.attached.max(term);
    if n.server.state == ServerState::Empty {
        return Err("no data directory".into());
    }
    n.server.state = ServerState::Standby;
    n.server.rule = SyncRule::Placeholder;
    n.server.upstream = Some((leader.clone(), term));
    Ok(Outcome::Done)
}

fn rebuild(world: &mut World, node: &NodeId, leader: &NodeId, clone: bool) -> Result<Outcome, String> {
    let source = world.nodes[leader].server.clone();
    if source.state != ServerState::Primary || !world.linked(node, leader) {
        return Err("the source is gone".into());
    }
    let n = world.nodes.get_mut(node).expect("deeds belong to nodes");
    if clone {
        n.server = Server { sysid: source.sysid, ..Server::default() };
    }
    n.server.kill();
    n.server.rewind_to(&source);
    n.server.state = ServerState::Down;
    n.server.upstream = None;
    n.vows.rebuilding = None;
    Ok(Outcome::Done)
}
