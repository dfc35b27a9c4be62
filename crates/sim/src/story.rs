//! Stories as text: one deed or expectation a line, `#` begins a comment.
//!
//! ```text
//! seed 7                                  chance plays a part from here on, this one; before the cluster
//! cluster n1 n2 n3 durability quorum      hosts; 'witness w' adds one without a database, 'witness w wal' one that keeps WAL, 'acks 2' sets k,
//!                                         'no_failover n3' tags one that must not lead
//! weather 1ms 3ms loss 10 twice 5 stray 5 delay of links and its jitter; per mille of words lost, doubled, strayed
//! store lost 20 late 30 slow 40           per mille of answers lost, news that is late, processes slow to reload
//! store raft                              the store is the Raft group that ships, once there is a cluster
//! lead n1                                 n1 makes the cluster; go on until all are voters and in the rule
//! late 3 tail                             or begin three terms later, with an old leader's unacknowledged tail
//! load 6 60ms                             so many clients write and read, with pauses up to that
//! write w1 | write w1 on n1               a client writes; without 'on', to the open leader, and waits
//! try w1                                  the same, without waiting, if there is an open leader
//! when promote:6 n2 kill it               the fault comes when n2's deed is about to do that step
//! switchover [n2] | failover [n2] [losing n1,n3] | pause | resume | reinit n2 | remove n2 | add n4
//! durability quorum | durability quorum-relaxed | durability async | acks 2
//! maybe switchover n2                     any of these, whether it is refused or not
//! forfeit w1                              an operator accepts that this write is lost
//! crowd                                   an operator adds members until no more are let in
//! wait 500ms
//! expect term 2 leader n2|n3 within 1500ms
//! expect leader n1 within 5s | expect term 1 for 2s | expect no leader for 2s
//! expect durable w1 | expect unacked w2 | expect acked w2 within 2s | expect serving within 5s
//! expect rule n2 n3 within 5s | expect rule nobody within 5s | expect voter n1 within 5s
//! expect refused TAN0118 | expect refused "words" | expect accepted | expect said "words" | expect history "words"
//! rehearse kill leader within 9s          an outage that lasts, of a whole cluster: after that time it serves again
//! end                                     clients stop, and the laws look at what is left
//! ```
//! Proxies and applications have words of their own (`front/words.rs`).
//! Faults are the words of `fault`, one kind a file there; any of them, as
//! `kill n1 postmaster` or `cut n1 > n2 for 2s`, is a line of a story.

use std::time::Duration;

use cluster::NodeId;

/// One line of a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it stands.
    pub number: usize,
    /// Its words.
    pub words: Vec<String>,
}

impl Line {
    /// The word at `i`, or an empty one.
    #[must_use]
    pub fn word(&self, i: usize) -> &str {
        self.words.get(i).map_or("", String::as_str)
    }

    /// The word after `key`.
    #[must_use]
    pub fn after(&self, key: &str) -> Option<&str> {
        let at = self.words.iter().position(|w| w == key)?;
        self.words.get(at + 1).map(String::as_str)
    }

    /// The node named at `i`.
    ///
    /// # Errors
    /// That there is none.
    pub fn node(&self, i: usize) -> Result<NodeId, String> {
        NodeId::new(self.word(i)).map_err(|e| e.to_string())
    }

    /// The time span after `key`.
    ///
    /// # Errors
    /// That it is none.
    pub fn span(&self, key: &str) -> Result<Option<Duration>, String> {
        self.after(key).map(span).transpose()
    }
}

/// Reads `500ms` or `5s`.
///
/// # Errors
/// That it is neither.
pub fn span(text: &str) -> Result<Duration, String> {
    let bad = || format!("'{text}' is no time span: say 500ms or 5s");
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?);
    let n: u64 = digits.parse().map_err(|_| bad())?;
    match unit {
        "ms" => Ok(Duration::from_millis(n)),
        "s" => Ok(Duration::from_secs(n)),
        _ => Err(bad()),
    }
}

/// Splits a story into lines of words; a quoted phrase is one word.
#[must_use]
pub fn parse(text: &str) -> Vec<Line> {
    let lines = text.lines().enumerate().map(|(i, l)| (i + 1, l.split('#').next().unwrap_or("")));
    let full = lines.map(|(number, l)| Line { number, words: split(l) });
    full.filter(|l| !l.words.is_empty()).collect()
}

fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in line.split('"').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_string());
        } else {
            words.extend(part.split_whitespace().map(str::to_string));
        }
    }
    words
}
