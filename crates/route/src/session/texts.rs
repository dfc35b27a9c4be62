//! What the requests that are kept would do, as far as words tell.

use alloc::sync::Arc;
use core::ops::Range;

use wire::frame::{HEADER_BYTES, Header};
use wire::front::{self, BindNames, Object, Parse};

use super::Session;
use crate::expect::Expect;
use crate::prepared::Statement;
use crate::sql::{self, Verb};

impl Session {
    /// Whether all that is kept of the first request surely leaves nothing behind: it only reads, or
    /// begins a transaction and does not end it.
    pub(super) fn only_reads(&self) -> bool {
        let mut begun = false;
        self.every_run(0..self.batch.again.first().len(), |text, runs| {
            let traits = sql::look(text);
            let begins = traits.verb == Verb::Begin && !traits.ends;
            begun |= begins && runs;
            // What it runs by name may be a COMMIT.
            let in_block = begun && !traits.ends && sql::prepared_name(text).is_none();
            let empty = traits.verb == Verb::Empty;
            in_block || begins && !traits.many || empty || sql::only_reads(text)
        })
    }

    /// Whether nothing of the first request is left for a server to do: it runs nothing, and what it prepares was
    /// answered.
    pub(super) fn needs_no_server(&self) -> bool {
        let first = self.batch.again.first();
        let runs_nothing = |(tag, body): (u8, &[u8])| match tag {
            front::CLOSE => matches!(Object::read(body), Some(Object::Statement(_))),
            tag => matches!(tag, front::SYNC | front::FLUSH | front::PARSE | front::DESCRIBE),
        };
        let mut left = self.owed.iter().take_while(|expect| !expect.ends_ready());
        let ours = left.all(|expect| matches!(expect, Expect::Said { .. }));
        ours && !first.is_empty() && each(first).all(runs_nothing)
    }

    /// Whether the first request leaves nothing behind, and begins nothing that another could commit.
    pub(super) fn first_only_reads(&self) -> bool {
        self.all_only_read(0..self.batch.again.first().len())
    }

    /// Whether nothing in that part of what is kept can leave anything behind.
    pub(super) fn all_only_read(&self, part: Range<usize>) -> bool {
        let reads = |text: &[u8]| sql::look(text).verb == Verb::Empty || sql::only_reads(text);
        self.every_text(part, reads)
    }

    /// Whether all that is kept of the first request is done as a whole or not at all.
    pub(super) fn is_all_or_nothing(&self) -> bool {
        self.every_text(0..self.batch.again.first().len(), |text| {
            let traits = sql::look(text);
            !traits.loose && !traits.ends
        })
    }

    /// Whether nothing of the first request commits by itself.
    pub(super) fn none_is_loose(&self) -> bool {
        self.every_text(0..self.batch.again.first().len(), |text| !sql::look(text).loose)
    }

    /// Whether `holds` for the text of everything in a part of what is kept that runs.
    fn every_text(&self, part: Range<usize>, mut holds: impl FnMut(&[u8]) -> bool) -> bool {
        self.every_run(part, |text, _| holds(text))
    }

    /// The same, with whether it surely runs before what stands behind it: who is bound need not be executed.
    fn every_run(&self, part: Range<usize>, mut holds: impl FnMut(&[u8], bool) -> bool) -> bool {
        let again = self.batch.again.all();
        let end = part.end;
        let mut rest = &again[part];
        let mut any = false;
        while let Ok(Some(header)) = Header::read(rest) {
            let Some(body) = header.body(rest) else { return false };
            let so = match header.tag {
                front::QUERY => holds(body.strip_suffix(b"\0").unwrap_or(body), true),
                front::BIND => {
                    let before = &again[..end - rest.len()];
                    let behind = &rest[HEADER_BYTES + body.len()..];
                    BindNames::read(body).is_some_and(|names| {
                        let runs = is_executed(names.portal, behind);
                        match text_of(names.statement, before) {
                            Bound::Here(text) => holds(text, runs),
                            Bound::Before => {
                                let stood_for = self.stood_for(names.statement, again);
                                stood_for.is_some_and(|s| holds(s.text(), runs))
                            }
                            Bound::Changes => false,
                        }
                    })
                }
                front::FUNCTION_CALL => false,
                _ => true,
            };
            if !so {
                return false;
            }
            any = true;
            rest = &rest[HEADER_BYTES + body.len()..];
        }
        any
    }

    /// What a name stood for before all that is kept, if that is certain.
    fn stood_for(&self, name: &[u8], again: &[u8]) -> Option<Arc<Statement>> {
        if let Some(old) = self.batch.again.before(name) {
            return old.cloned();
        }
        let changes = parsed(name, again).next().is_some() || closed(name, again);
        if changes { None } else { self.statement(name) }
    }
}

/// Whether a portal that was just bound is executed before anything else is.
fn is_executed(portal: &[u8], behind: &[u8]) -> bool {
    let next = each(behind).find(|(tag, _)| !matches!(*tag, front::DESCRIBE | front::FLUSH));
    next.is_some_and(|(tag, body)| {
        tag == front::EXECUTE && front::execute_of(body).is_some_and(|(name, _)| name == portal)
    })
}

/// Where a Bind has its statement from.
enum Bound<'a> {
    /// From a Parse of the same request.
    Here(&'a [u8]),
    /// From a request before it.
    Before,
    /// The name means different things in the course of the request.
    Changes,
}

fn text_of<'a>(name: &[u8], before: &'a [u8]) -> Bound<'a> {
    match parsed(name, request_of(before)).last() {
        _ if closed(name, before) => Bound::Changes,
        Some(parse) => Bound::Here(parse.text),
        // It may have been refused.
        None if parsed(name, before).next().is_some() => Bound::Changes,
        None => Bound::Before,
    }
}

/// What of the messages belongs to the request that is not over.
fn request_of(messages: &[u8]) -> &[u8] {
    let mut rest = messages;
    let mut begin = 0;
    for (tag, body) in each(messages) {
        rest = &rest[HEADER_BYTES + body.len()..];
        if matches!(tag, front::SYNC | front::QUERY | front::FUNCTION_CALL) {
            begin = messages.len() - rest.len();
        }
    }
    &messages[begin..]
}

fn parsed<'a>(name: &[u8], messages: &'a [u8]) -> impl Iterator<Item = Parse<'a>> {
    let parses = each(messages).filter(|(tag, _)| *tag == front::PARSE);
    parses.filter_map(|(_, body)| Parse::read(body)).filter(move |parse| parse.name == name)
}

fn closed(name: &[u8], messages: &[u8]) -> bool {
    each(messages).any(|(tag, body)| {
        tag == front::CLOSE && matches!(Object::read(body), Some(Object::Statement(n)) if n == name)
    })
}

/// Messages with their types.
fn each(messages: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = messages;
    core::iter::from_fn(move || {
        let header = Header::read(rest).ok().flatten()?;
        let body = header.body(rest)?;
        rest = &rest[HEADER_BYTES + body.len()..];
        Some((header.tag, body))
    })
}
