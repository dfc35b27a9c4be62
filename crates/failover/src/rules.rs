//! Which standbys a leader lets acknowledge: shrink, grow, and the way there.
//!
//! One procedure for every direction (protocol (i)): store the new rule beside
//! the old (M1), put it in force and prove it (M2), drop the old (M3). Each step
//! is elementary (C-6). A member is dropped only on another agent's word too
//! (C-13), added only while it streams and has caught up.

use alloc::collections::BTreeSet;

use cluster::command::{Change, Member};
use cluster::mutant::{Mutant, on};
use cluster::report::{Report, ServerState, StandbyProgress};
use cluster::state::Phase;
use cluster::{Action, ActiveRule, Durability, Lsn, MemberId, NodeId, Rule};

use crate::facts::Proof;
use crate::view::View;
use crate::{lease, severed};

/// A standby that lags by more than this is not let into the rule.
pub const GROW_LAG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A standby that has not replied for so long is not let into the rule.
pub const GROW_REPLY_AGE_MS_MAX: u64 = 2_000;

/// What a leader has to do about its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Put a rule in force on every walsender and prove it.
    Prove(Action),
    /// Ask the store.
    Ask(Change),
    /// Reads may still be given that the old rule stands for.
    Wait,
}

/// The next step, if there is one. Only for the leader of an opened server.
#[must_use]
pub fn step(view: &View<'_>) -> Option<Step> {
    let newest = view.state.newest_rule()?;
    let older = view.state.own_rules().find(|r| r.sub != newest.sub);
    let proven = is_proven(view, newest) || (on(Mutant::NotReasserted) && view.phase() == Phase::Open);
    match older {
        Some(older) => Some(finish(view, older, newest)),
        None if !proven => {
            // C-14: where none of its standbys is there any more, it is not waited for.
            let out = if can_be_satisfied(view, &newest.rule) { None } else { begin(view, newest) };
            Some(out.unwrap_or_else(|| Step::Prove(reassert(view, newest))))
        }
        None => begin(view, newest),
    }
}

/// Whether we have forgotten what is agreed: an agent that was restarted, and can't
/// reach the others, does not know of the last entries. The rule that it knows of may
/// be nobody's any more, and must not be put in force again.
#[must_use]
pub fn is_behind(view: &View<'_>) -> bool {
    let known = view.state.newest_rule().map_or(0, |r| r.sub);
    let done = view.me.vows.last_rule_seen.as_ref().filter(|(term, ..)| *term == view.term());
    !on(Mutant::OldNews) && done.is_some_and(|(_, sub, _)| *sub > known)
}

fn is_proven(view: &View<'_>, rule: &ActiveRule) -> bool {
    view.me.proof.is_some_and(|p| p.term == rule.term && p.sub == rule.sub)
}

/// After an agent's restart nothing is known of what walsenders have in force.
fn reassert(view: &View<'_>, rule: &ActiveRule) -> Action {
    Action::ChangeRule { term: view.term(), from: rule.rule.clone(), to: rule.rule.clone(), sub: rule.sub }
}

/// M2, then M3, once no lease runs that the old rule stood for. Never back: a `RuleEnd` of ours that keeps the newer rule may
/// still be on its way, and the older in force would then be nobody's rule.
fn finish(view: &View<'_>, older: &ActiveRule, newest: &ActiveRule) -> Step {
    let unproven =
        on(Mutant::EndUnproven).then_some(Proof { term: newest.term, sub: newest.sub, lsn: Lsn::ZERO });
    let proof = view.me.proof.filter(|p| p.term == newest.term && p.sub == newest.sub);
    if let Some(proof) = proof.or(unproven) {
        if !lease::may_drop_before(view, newest.sub) {
            return Step::Wait;
        }
        let (keep, drop, lsn) = (newest.sub, older.sub, proof.lsn);
        return Step::Ask(Change::RuleEnd { term: view.term(), keep, drop, lsn });
    }
    let (from, to) = (older.rule.clone(), newest.rule.clone());
    Step::Prove(Action::ChangeRule { term: view.term(), from, to, sub: newest.sub })
}

/// Whether a change leads where nobody is left to acknowledge, while those of
/// the rule before are well: n3 dies while n2 is being dropped, say. Only a new
/// term leads out of it (C-14).
#[must_use]
pub fn leads_nowhere(view: &View<'_>) -> bool {
    let Some(newest) = view.state.newest_rule().filter(|r| !is_proven(view, r)) else { return false };
    let older = view.state.own_rules().find(|r| r.sub != newest.sub);
    let well = older.is_some_and(|r| can_be_satisfied(view, &r.rule));
    !on(Mutant::NowhereForever)
        && view.phase() == Phase::Open
        && view.i_lead()
        && well
        && !can_be_satisfied(view, &newest.rule)
}

/// Whether a term can't open because nobody of its rule comes, while another member is
/// there that only a new term can take instead: one that an active rule binds (C-10),
/// or, where nobody whom the rule names has a copy that counts, one that streams.
#[must_use]
pub fn opens_nowhere(view: &View<'_>) -> bool {
    let Some(newest) = view.state.newest_rule().filter(|r| !is_proven(view, r)) else { return false };
    let primary = view.server().is_some_and(|s| s.state == ServerState::Primary);
    let elected = view.phase() == Phase::Elected && view.i_lead() && primary;
    let counts = |m: &MemberId| view.state.member(m).is_some_and(Member::is_data_voter);
    let hopeless = !newest.rule.standbys().iter().any(counts);
    let there = |(node, member): (&NodeId, &Member)| {
        let id = MemberId::new(node.clone(), member.incarnation);
        let report = view.fresh(&id, view.timing().suspicion_ms);
        let streams = |r: &Report| r.server.as_ref().is_some_and(|s| s.streaming == Some(view.term()));
        let spare = |r: &Report| hopeless && streams(r) && !newest.rule.names(&id);
        *node != view.me.node && member.kind.keeps_wal() && report.is_some_and(|r| r.wants_out || spare(r))
    };
    elected && !can_be_satisfied(view, &newest.rule) && view.state.members.iter().any(there)
}

/// Whether standbys enough for this rule reply to our server.
pub(crate) fn can_be_satisfied(view: &View<'_>, rule: &Rule) -> bool {
    rule.is_acked_by(rule.standbys().iter().filter(|m| replies(view, m)))
}

/// M1 towards the wanted rule, one elementary step at a time.
fn begin(view: &View<'_>, current: &ActiveRule) -> Option<Step> {
    let (wanted, agreed_by) = wanted(view, &current.rule);
    let rule = next_towards(&current.rule, &wanted).or_else(|| anew(view, current))?;
    let (term, from_sub) = (view.term(), current.sub);
    Some(Step::Ask(Change::RuleBegin { term, from_sub, rule, agreed_by }))
}

/// A leader alone that stays so, but under another promise: until that is agreed,
/// the rule is blocked as the old one says (C-3). Kept as quorum after the settings
/// say async, a dead leader is waited for; kept as async, it is not, and loses.
fn anew(view: &View<'_>, current: &ActiveRule) -> Option<Rule> {
    let differs = current.mode != view.state.settings.durability;
    (differs && current.rule.is_leader_only()).then(Rule::leader_only)
}

/// The rule we would like, and who agrees that those it drops are gone.
fn wanted(view: &View<'_>, current: &Rule) -> (Rule, BTreeSet<NodeId>) {
    if view.state.settings.durability == Durability::Async {
        return (Rule::leader_only(), BTreeSet::new());
    }
    let mut agreed_by = BTreeSet::new();
    let mut standbys: BTreeSet<MemberId> = BTreeSet::new();
    let stalls = !can_be_satisfied(view, current);
    for member in current.standbys() {
        match standing(view, member, stalls) {
            Standing::Fit => {
                standbys.insert(member.clone());
            }
            Standing::Leaving => {}
            Standing::Gone(by)
                if (by.is_empty() && !on(Mutant::AloneShrinks))
                    || (view.state.ctl.paused && !on(Mutant::PausedShrink)) =>
            {
                standbys.insert(member.clone());
            }
            Standing::Gone(by) => agreed_by.extend(by),
        }
    }
    standbys.extend(view.wal_voters().map(|(id, _)| id).filter(|id| may_grow(view, id)));
    let strict = view.state.settings.durability == Durability::Quorum;
    let kept = strict && !view.state.is_alone(&view.me.node);
    if standbys.is_empty() && kept {
        // Whoever is being taken out stays for as long as nobody else acknowledges.
        let stays =
            |m: &&MemberId| view.state.member(m).is_some_and(|r| r.leaving && !r.reinit) && replies(view, m);
        standbys.extend(current.standbys().iter().filter(stays).cloned());
    }
    // Rather than alone: another leads, with the others (protocol (c)).
    if standbys.is_empty() && (kept || severed::should_hand_over(view, view.shrink())) {
        return (current.clone(), BTreeSet::new());
    }
    let acks = view.state.settings.acks.min(u32::try_from(standbys.len()).unwrap_or(u32::MAX));
    let wanted = Rule::new(standbys, acks).unwrap_or_else(|_| current.clone());
    if can_be_satisfied(view, &wanted) { (wanted, agreed_by) } else { (current.clone(), BTreeSet::new()) }
}

enum Standing {
    /// It may stay.
    Fit,
    /// It wants or has to go, and the agreed state or its own word says so.
    Leaving,
    /// It is silent; these agree.
    Gone(BTreeSet<NodeId>),
}

/// `stalls`: commits wait, because too few reply.
fn standing(view: &View<'_>, member: &MemberId, stalls: bool) -> Standing {
    let Some(record) = view.state.member(member) else { return Standing::Leaving };
    if record.reinit || !record.is_wal_voter() {
        return Standing::Leaving;
    }
    let report = view.fresh(member, view.timing().shrink_ms);
    if report.is_some_and(|r| r.wants_out) {
        return Standing::Gone(BTreeSet::from([member.node.clone()]));
    }
    if view.now.since(view.watch.phase_since) < view.shrink() || replies(view, member) {
        return Standing::Fit;
    }
    Standing::Gone(agreeing(view, member, report, stalls))
}

/// Whether the leader's server has heard it within the limit.
fn replies(view: &View<'_>, member: &MemberId) -> bool {
    view.me.leading.as_ref().is_some_and(|l| l.hears(member, view.timing().shrink_ms))
}

fn progress<'a>(view: &View<'a>, member: &MemberId) -> Option<&'a StandbyProgress> {
    view.me.leading.as_ref()?.standbys.iter().find(|p| p.member == *member)
}

/// Other agents by whose word it may be dropped: its own that says it does not stream,
/// any that has not heard it either, or, where commits wait for it, any that hears us:
/// then it is not we who are isolated (C-24).
fn agreeing(view: &View<'_>, member: &MemberId, own: Option<&Report>, stalls: bool) -> BTreeSet<NodeId> {
    let mut by = BTreeSet::new();
    let says_so = |r: &Report| {
        r.server.as_ref().is_none_or(|s| s.state != ServerState::Standby || s.streaming != Some(view.term()))
    };
    if own.is_some_and(says_so) {
        by.insert(member.node.clone());
    }
    for (node, heard) in view.peers {
        let seated = view.state.members.get(node).is_some_and(Member::has_seat);
        let other = seated && *node != member.node && *node != view.me.node;
        let recent = view.now.since(heard.at) < view.shrink();
        // One that has just been started has not heard anybody yet, which says nothing.
        let silent_ms = heard.report.hears.get(&member.node).unwrap_or(&heard.report.up_ms);
        let deaf = *silent_ms >= view.timing().shrink_ms;
        let hears_us = heard.report.hears.get(&view.me.node);
        let linked = stalls && hears_us.is_some_and(|ms| *ms < view.timing().suspicion_ms);
        if other && recent && (deaf || (linked && !on(Mutant::LinkedIsNoWord))) {
            by.insert(node.clone());
        }
    }
    by
}

/// Whether it may be let in: a voter that streams, replies and is close.
fn may_grow(view: &View<'_>, member: &MemberId) -> bool {
    let Some(record) = view.state.member(member) else { return false };
    let end = view.me.leading.as_ref().map_or(Lsn::ZERO, |l| l.end);
    let report = view.fresh(member, view.timing().shrink_ms);
    let close = progress(view, member).is_some_and(|p| {
        p.streaming && p.reply_age_ms < GROW_REPLY_AGE_MS_MAX && end.bytes_past(p.flush) < GROW_LAG_BYTES_MAX
    });
    let willing = report.is_some_and(|r| !r.wants_out && r.vows.promise <= view.term());
    member.node != view.me.node && close && willing && !record.reinit && !view.state.ctl.paused
}

/// The next elementary rule between two (C-6): grow by adding first and then
/// raising k, shrink by lowering k first and then dropping.
#[must_use]
pub fn next_towards(current: &Rule, wanted: &Rule) -> Option<Rule> {
    if current == wanted {
        return None;
    }
    if current.is_elementary_to(wanted) {
        return Some(wanted.clone());
    }
    let union: BTreeSet<MemberId> = current.standbys().union(wanted.standbys()).cloned().collect();
    let lower = current.acks().min(wanted.acks());
    let tries = [(current.standbys().clone(), lower), (union.clone(), current.acks()), (union, lower)];
    tries
        .into_iter()
        .filter_map(|(s, k)| Rule::new(s, k).ok())
        .find(|r| r != current && !r.is_leader_only() && current.is_elementary_to(r))
}

/// Takes out for good who was asked to leave and is out of the rules.
#[must_use]
pub fn let_go(view: &View<'_>) -> Option<Change> {
    let gone = view
        .state
        .members
        .iter()
        .find(|(n, m)| m.leaving && !view.state.is_needed(&MemberId::new((*n).clone(), m.incarnation)));
    let (node, _) = gone.filter(|_| view.phase() == Phase::Open)?;
    Some(Change::RemoveMember { node: node.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn rule(names: &[&str], acks: u32) -> Rule {
        Rule::new(names.iter().map(|n| format!("{n}_1").parse().unwrap()).collect(), acks).unwrap()
    }

    #[test]
    fn c6_every_way_from_rule_to_rule_goes_by_elementary_steps() {
        let sets: [&[&str]; 6] = [&[], &["b"], &["c"], &["b", "c"], &["c", "d"], &["b", "c", "d"]];
        let all = || sets.iter().flat_map(|s| (0..=s.len() as u32).map(|k| rule(s, k)));
        for from in all() {
            for to in all() {
                let mut at = from.clone();
                for _ in 0..6 {
                    let Some(next) = next_towards(&at, &to) else { break };
                    assert!(at.is_elementary_to(&next), "{at} to {next}");
                    at = next;
                }
                assert_eq!(at, to, "from {from}");
            }
        }
    }
}
