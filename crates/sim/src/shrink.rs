//! Cuts a story that fails down to what makes it fail.

use crate::mutation::Mutation;
use crate::runner::told;

/// Most stories that are told on the way.
pub const TRIES_MAX: usize = 400;

/// A shorter story that breaks the same law, or as it was told: lines are left out,
/// many at first and then one by one, as long as it goes on failing (delta debugging,
/// Zeller and Hildebrandt 2002).
#[must_use]
pub fn shrink(story: &str, mutation: Option<Mutation>) -> String {
    let law = match told(story, mutation, false).1 {
        Ok(()) => return story.to_string(),
        Err(failure) => failure.law,
    };
    let fails = |lines: &[&str]| told(&lines.join("\n"), mutation, false).1.is_err_and(|f| f.law == law);
    let mut lines: Vec<&str> = story.lines().collect();
    let mut tries = 0;
    let mut chunk = lines.len() / 2;
    while chunk > 0 && tries < TRIES_MAX {
        let mut at = 0;
        let mut shorter = false;
        while at < lines.len() && tries < TRIES_MAX {
            let end = (at + chunk).min(lines.len());
            // What makes the world stays.
            if lines[at..end].iter().any(|l| is_head(l)) {
                at += 1;
                continue;
            }
            let rest: Vec<&str> = lines[..at].iter().chain(&lines[end..]).copied().collect();
            tries += 1;
            if fails(&rest) {
                (lines, shorter) = (rest, true);
            } else {
                at = end;
            }
        }
        chunk = if shorter && chunk == 1 { 1 } else { chunk / 2 };
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn is_head(line: &str) -> bool {
    ["seed", "cluster", "lead", "late", "load", "proxy", "apps", "calm", "maybe resume", "expect", "end"]
        .iter()
        .any(|w| line.starts_with(w))
}
