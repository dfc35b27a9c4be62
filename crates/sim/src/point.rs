//! Faults between any two lines of a deed or a change: `when promote:6 n2 kill n2`.
//!
//! A point is a step of a deed that is about to be done, or a kind of command
//! that was just agreed. What is armed there is done once, at the first that comes.

use crate::network::At;
use crate::story::Line;
use crate::world::World;

/// A moment in the life of a deed or of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The kind of deed or of command.
    pub what: &'static str,
    /// Which step is about to be done; 0 for a command.
    pub step: u8,
}

/// A fault that waits for a point.
#[derive(Clone, Debug)]
pub struct Armed {
    /// For which, as text.
    pub point: String,
    /// On whose host; nobody's in particular if `None`.
    pub on: Option<At>,
    /// What is done then; the word `it` stands for the host at which it happened.
    pub line: Line,
}

/// Something has come to a point.
pub(crate) fn reach(world: &mut World, point: Point, at: At) {
    let text =
        if point.step == 0 { point.what.to_string() } else { format!("{}:{}", point.what, point.step) };
    let due = |a: &Armed| a.point == text && a.on.is_none_or(|on| on == at);
    while let Some(found) = world.armed.iter().position(due) {
        let armed = world.armed.remove(found);
        let name = world.hosts[at].name.to_string();
        let mut line = armed.line;
        for word in line.words.iter_mut().filter(|w| *w == "it") {
            word.clone_from(&name);
        }
        world.mark(&format!("point: {text}"));
        // What can't be done now is not done.
        let _ = crate::fault::act(world, &line);
    }
}
