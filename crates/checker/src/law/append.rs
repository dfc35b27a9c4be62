//! Lists of appended values: nothing lost, nothing twice, nothing from nowhere,
//! and everybody saw the same order.
//!
//! Source: docs/protocol.md, section 5 (I1, I9, I12); K. Kingsbury and
//! P. Alvaro, "Elle", 2020, for what a list can show.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::append::Append;
use crate::history::Fate;

/// The lists at the end, by key.
pub type Lists = BTreeMap<u32, Vec<u64>>;

/// Acknowledged values that are not in their list at the end.
#[must_use]
pub fn lost(appends: &[Append], lists: &Lists) -> Vec<Append> {
    let there = |a: &&Append| lists.get(&a.key).is_some_and(|l| l.contains(&a.value));
    appends.iter().filter(|a| a.fate == Fate::Acknowledged).filter(|a| !there(a)).cloned().collect()
}

/// What no single list could have shown, in words.
#[must_use]
pub fn impossible(appends: &[Append], lists: &Lists) -> Vec<String> {
    let mut found = Vec::new();
    for (key, list) in lists {
        let mine: Vec<&Append> = appends.iter().filter(|a| a.key == *key).collect();
        let tried: BTreeSet<u64> = mine.iter().filter(|a| a.fate != Fate::Failed).map(|a| a.value).collect();
        let mut once = BTreeSet::new();
        for value in list {
            if !tried.contains(value) {
                found.push(format!("list {key} holds {value}, which was refused or never appended"));
            }
            if !once.insert(value) {
                found.push(format!("list {key} holds {value} twice"));
            }
        }
        found.extend(mine.iter().filter(|a| a.fate == Fate::Acknowledged).filter_map(|a| unlike(a, list)));
        found.extend(out_of_order(&mine));
    }
    found
}

/// What was seen is the beginning of what is there at the end.
fn unlike(append: &Append, list: &[u64]) -> Option<String> {
    let (key, value) = (append.key, append.value);
    if append.seen.last() != Some(&value) {
        return Some(format!("appending {value} to list {key} did not show it last"));
    }
    let begins = list.len() >= append.seen.len() && list.iter().zip(&append.seen).all(|(a, b)| a == b);
    (!begins).then(|| format!("list {key} is not at the end what the client that appended {value} saw"))
}

/// Who was answered before another asked stands before the other.
fn out_of_order(mine: &[&Append]) -> Vec<String> {
    let mut answered: Vec<&Append> = mine.iter().copied().filter(|a| a.fate == Fate::Acknowledged).collect();
    answered.sort_by_key(|a| a.ended);
    let mut longest = Vec::new();
    let mut most = 0;
    for a in &answered {
        most = most.max(a.seen.len());
        longest.push((a.ended, most));
    }
    let late = |a: &&Append| {
        let before = longest.partition_point(|(ended, _)| *ended < a.sent);
        before > 0 && longest[before - 1].1 >= a.seen.len()
    };
    let say = |a: &Append| format!("list {}: {} stands before what was there already", a.key, a.value);
    answered.iter().filter(|a| late(a)).map(|a| say(a)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    fn append(value: u64, seen: &[u64], at: u64, fate: Fate) -> Append {
        let ms = Duration::from_millis;
        Append { key: 1, value, seen: seen.into(), sent: ms(at), ended: ms(at + 5), fate, timeline: 1 }
    }

    #[test]
    fn a_list_that_no_single_server_could_have_kept_is_found() {
        use Fate::{Acknowledged, Failed, Unknown};
        let all = [
            append(1, &[1], 0, Acknowledged),
            append(2, &[], 10, Unknown),
            append(3, &[1, 2, 3], 20, Acknowledged),
            append(4, &[], 30, Failed),
        ];
        let judged = |list: &[u64]| {
            let lists = Lists::from([(1, list.to_vec())]);
            (lost(&all, &lists).len(), impossible(&all, &lists).len())
        };
        assert_eq!(judged(&[1, 2, 3]), (0, 0));
        assert_eq!(judged(&[1, 2]), (1, 1), "one is lost, and its client saw it");
        assert_eq!(judged(&[1, 3]), (0, 1), "another list than was seen");
        assert_eq!(judged(&[1, 2, 3, 4]), (0, 1), "refused and there");
        assert_eq!(judged(&[1, 2, 3, 2]), (0, 1), "twice");
    }

    #[test]
    fn two_that_saw_another_order_than_time_had_are_found() {
        let all = [append(1, &[2, 1], 0, Fate::Acknowledged), append(2, &[2], 10, Fate::Acknowledged)];
        assert_eq!(impossible(&all, &Lists::from([(1, [2, 1].to_vec())])).len(), 1);
    }
}
