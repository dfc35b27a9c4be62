//! Any agent may send any command at any time: `rogue 12345` sends one that is
//! made by chance from what an agent truthfully knows. Whatever it is, `apply`
//! must keep the laws.

use std::collections::BTreeSet;

use cluster::command::{Addresses, Ballot, Change, Evidence, Kind, MemberState, Registration, Trigger};
use cluster::state::Phase;
use cluster::{MemberId, NodeId, Rule, Settings, Timeline};

use super::{Fault, Over, last, span_text};
use crate::clock::us;
use crate::network::At;
use crate::rng::Rng;
use crate::world::World;

pub(super) const FAULT: Fault = Fault {
    name: "rogue",
    verbs: &["rogue", "nonsense"],
    draw: |rng, _| {
        let after =
            if rng.chance(500) { format!(" after {}", span_text(rng, 1, 120)) } else { String::new() };
        Some(format!("rogue {}{after}", rng.below(1_000_000)))
    },
    act: |world, line| {
        Some((|| {
            if line.word(0) == "nonsense" {
                super::nonsense::ask(world, &mut Rng::new(1));
                return Ok(());
            }
            if let Some(after) = line.span("after")? {
                let number = line.word(1).parse().map_err(|_| "rogue NUMBER")?;
                last(world, us(after), Over::Rogue(number));
                return Ok(());
            }
            go(world, line.word(1).parse().map_err(|_| "rogue NUMBER")?)
        })())
    },
};

/// Asks for a few things, since most are refused.
pub(super) fn go(world: &mut World, number: u64) -> Result<(), String> {
    world.rogue = true;
    let done = ask_some(world, number);
    world.rogue = false;
    done
}

fn ask_some(world: &mut World, number: u64) -> Result<(), String> {
    let mut rng = Rng::new(number);
    for _ in 0..8 {
        let at = rng.below(world.hosts.len() as u64) as At;
        if !world.hosts[at].is_awake() || !world.reaches_store(at) || !world.truth.exists() {
            continue;
        }
        let change = draw(world, &mut rng, at);
        let leads = matches!(change, Change::RuleBegin { .. } | Change::RuleEnd { .. });
        let leader = world.truth.ctl.leader.as_ref().filter(|_| leads && rng.chance(800));
        let by = leader.map_or(&world.hosts[at].name, |l| &l.node).clone();
        let added = match &change {
            Change::AddMember { node, .. } => Some(node.clone()),
            _ => None,
        };
        if world.ask(&by, change).is_ok()
            && let Some(node) = added
        {
            // A node that was taken out asks for a seat as soon as it may.
            if let Some(at) = world.places.get(&node).copied() {
                world.kill_server(at);
            }
            super::fresh(world, &node, Kind::Data);
            super::join(world, &node)?;
        }
    }
    if world.truth.exists() {
        super::nonsense::ask(world, &mut rng);
        spoil(world, &mut rng);
    }
    Ok(())
}

/// An election that would pass, but for one thing.
fn spoil(world: &mut World, rng: &mut Rng) {
    let at = rng.below(world.hosts.len() as u64) as At;
    let Change::Elect(ballot) = elect(world, rng, at) else { return };
    let own = Rule::new(BTreeSet::from([ballot.leader.clone()]), 1);
    let own = Ballot { rule: own.unwrap_or_else(|_| Rule::leader_only()), ..ballot.clone() };
    let elsewhere = Ballot { parent_tli: Timeline(ballot.parent_tli.0 + 1000), ..ballot };
    let by = world.hosts[at].name.clone();
    super::nonsense::refused(world, &by, Change::Elect(own));
    super::nonsense::refused(world, &by, Change::Elect(elsewhere));
}

fn draw(world: &World, rng: &mut Rng, at: At) -> Change {
    let s = &world.truth;
    let names: Vec<NodeId> = s.members.keys().cloned().collect();
    let node = rng.of(&names).clone();
    let ids: Vec<MemberId> = names.iter().filter_map(|n| s.member_id(n)).collect();
    let member = rng.of(&ids).clone();
    let set =
        |rng: &mut Rng| -> BTreeSet<NodeId> { names.iter().filter(|_| rng.chance(500)).cloned().collect() };
    let term = if rng.chance(850) { s.ctl.term.next() } else { s.ctl.term };
    if s.ctl.phase == Phase::Revoking && rng.chance(700) {
        return elect(world, rng, at);
    }
    match rng.below(17) {
        0..=2 => {
            let by = set(rng);
            Change::BeginTerm { term, trigger: trigger(world, rng, &member, by) }
        }
        3..=6 => elect(world, rng, at),
        7 | 8 => {
            let from_sub = s.newest_rule().map_or(0, |r| r.sub).saturating_sub(u64::from(rng.chance(100)));
            let rule = rule(rng, &ids);
            Change::RuleBegin { term: s.ctl.term, from_sub, rule, agreed_by: set(rng) }
        }
        9 => {
            // Never what would drop a rule for the newer one: that is a leader's proof to give.
            let subs: Vec<u64> = s.rules.iter().map(|r| r.sub).collect();
            let (keep, drop) = (subs.first().copied().unwrap_or(0), subs.last().copied().unwrap_or(0));
            Change::RuleEnd { term: s.ctl.term, keep, drop, lsn: cluster::Lsn::ZERO }
        }
        10 => {
            let place = world.places.get(&member.node).copied().unwrap_or(at);
            let attached = world.hosts[place].vows.attached;
            Change::SetMemberState { member, state: MemberState::Clone, attached }
        }
        11 => Change::Reincarnate { member },
        12 => Change::AddMember { node, registration: Registration::default() },
        13 => {
            let nonce = s.members.get(&node).map_or(0, |m| m.nonce);
            Change::Join { node, addresses: Addresses::default(), nonce }
        }
        14 => Change::Aim { to: node },
        15 => {
            let mut settings = Settings { acks: *rng.of(&[0, 1, 2, 9]), ..s.settings.clone() };
            // A lease that outlives the wait for it.
            settings.timing.async_lease_ms *= if rng.chance(500) { 4 } else { 1 };
            Change::SetSettings(settings)
        }
        _ => Change::Claim {
            cluster: "another".into(),
            settings: Settings::default(),
            members: names.iter().map(|n| (n.clone(), Registration::default())).collect(),
        },
    }
}

fn trigger(world: &World, rng: &mut Rng, member: &MemberId, by: BTreeSet<NodeId>) -> Trigger {
    let s = &world.truth;
    let resigned =
        |m: &MemberId| world.places.get(&m.node).map_or(cluster::Term(0), |p| world.hosts[*p].vows.resigned);
    match rng.below(5) {
        0 => Trigger::Stuck { phase: s.ctl.phase, waited_ms: 0 },
        1 => Trigger::Resigned { leader: member.clone(), term: resigned(member) },
        2 => Trigger::HandedOver { leader: member.clone(), term: resigned(member) },
        3 => Trigger::Operator {
            to: rng.chance(500).then(|| member.node.clone()),
            accept_loss: BTreeSet::new(),
        },
        _ => Trigger::Missed { by, silent_ms: 1 },
    }
}

fn rule(rng: &mut Rng, ids: &[MemberId]) -> Rule {
    let standbys: BTreeSet<MemberId> = ids.iter().filter(|_| rng.chance(500)).cloned().collect();
    let acks = rng.below(standbys.len() as u64 + 1) as u32;
    Rule::new(standbys, acks).unwrap_or_else(|_| Rule::leader_only())
}

/// An election on some of what one agent has heard.
fn elect(world: &World, rng: &mut Rng, at: At) -> Change {
    let s = &world.truth;
    let host = &world.hosts[at];
    let view = host.agent.controller.view(host.clock.local(world.now), 0);
    // Time has not run out because somebody says so: that would be a lie.
    let honest = |mut e: Evidence| {
        e.time_fenced &= view.term() == s.ctl.term;
        e
    };
    let all = failover::election::evidence(&view, s.ctl.term);
    let some: Vec<Evidence> = all.into_iter().map(honest).filter(|_| rng.chance(700)).collect();
    let Some(best) = (!some.is_empty()).then(|| rng.of(&some)) else { return Change::Pause };
    let others: Vec<MemberId> = some.iter().map(|e| e.member.clone()).filter(|m| *m != best.member).collect();
    Change::Elect(Ballot {
        term: s.ctl.term,
        leader: best.member.clone(),
        rule: rule(rng, &others),
        parent_tli: best.lineage.timeline,
        tli: Timeline(s.tli_next),
        evidence: some.clone(),
    })
}
