//! The messages of the console: simple queries, and as much of the extended protocol as commands without
//! parameters need, which PgBouncer has not.
//!
//! Answers are sent as soon as they are there, so Flush has nothing to do. The
//! limit of rows of an Execute is not kept: tables here are short.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;

use wire::back::{self, Transaction, Words};
use wire::frame::{cstr, int16};
use wire::front::{self, BindNames, Object, Parse};

use super::command::{Command, Refused, read};
use super::table::{self, Formats};
use super::{Interrupt, May, change, show};
use crate::gates::Stop;
use crate::line::Line;
use crate::reactor::Reactor;

/// Longest message of an administrator.
const MESSAGE_BYTES_MAX: u64 = 64 << 10;
/// Statements and portals that a console may keep.
const NAMES_MAX: usize = 1_000;

/// What may come in while a command is waited for.
const AHEAD_BYTES_MAX: usize = 64 << 10;
/// Longest that an administrator may take to take an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

struct Talk<'a> {
    reactor: &'a Rc<Reactor>,
    interrupt: &'a Interrupt,
    may: May,
    statements: BTreeMap<Vec<u8>, Command>,
    portals: BTreeMap<Vec<u8>, (Command, Formats)>,
    /// Messages are dropped until Sync.
    skips: bool,
    out: Vec<u8>,
}

/// Serves a console until it leaves, or until the proxy ends.
pub async fn talk(reactor: &Rc<Reactor>, line: &mut Line, may: May, interrupt: &Interrupt) {
    let mut talk = Talk {
        reactor,
        interrupt,
        may,
        statements: BTreeMap::new(),
        portals: BTreeMap::new(),
        skips: false,
        out: Vec::new(),
    };
    while reactor.threads.gates.stop() != Stop::Now {
        let Ok((tag, body)) = line.message(MESSAGE_BYTES_MAX).await else { return };
        let goes = while_there(line, interrupt, talk.hear(tag, &body)).await;
        let said = timeout(ANSWER_LIMIT, line.tell(&std::mem::take(&mut talk.out))).await;
        if !goes || !matches!(said, Ok(Ok(()))) {
            break;
        }
    }
    if reactor.threads.gates.stop() == Stop::Now {
        reactor.threads.stops.notify_one();
    }
}

/// Does something, and stops what it waits for if the administrator leaves.
async fn while_there<T>(line: &mut Line, interrupt: &Interrupt, done: impl Future<Output = T>) -> T {
    let mut done = pin!(done);
    let mut listens = true;
    loop {
        tokio::select! {
            biased;
            done = &mut done => return done,
            read = poll_fn(|cx| line.poll_fill(cx)), if listens => {
                let gone = !matches!(read, Ok(n) if n > 0);
                if gone {
                    interrupt.notify_one();
                }
                listens = !gone && line.input.filled().len() < AHEAD_BYTES_MAX;
            }
        }
    }
}

impl Talk<'_> {
    /// Answers one message; whether another may come.
    async fn hear(&mut self, tag: u8, body: &[u8]) -> bool {
        if tag == front::TERMINATE {
            return false;
        }
        if !front::is_known(tag) {
            Words::fatal("08P01", "invalid frontend message type").put(&mut self.out);
            return false;
        }
        match tag {
            front::SYNC => {
                self.skips = false;
                back::ready(&mut self.out, Transaction::Idle);
            }
            front::QUERY => self.query(body).await,
            front::FUNCTION_CALL => {
                Refused::new("0A000", "the console has no functions").put(&mut self.out);
                back::ready(&mut self.out, Transaction::Idle);
            }
            _ if self.skips => {}
            _ => {
                if let Err(refused) = self.extended(tag, body).await {
                    refused.put(&mut self.out);
                    self.skips = true;
                }
            }
        }
        true
    }

    async fn query(&mut self, body: &[u8]) {
        let done = match text_of(body) {
            Ok(command) => self.run(&command, &Formats::default(), true).await,
            Err(refused) => Err(refused),
        };
        if let Err(refused) = done {
            refused.put(&mut self.out);
        }
        back::ready(&mut self.out, Transaction::Idle);
    }

    async fn extended(&mut self, tag: u8, body: &[u8]) -> Result<(), Refused> {
        let malformed = || Refused::new("08P01", "malformed message");
        match tag {
            front::PARSE => self.parse(&Parse::read(body).ok_or_else(malformed)?),
            front::BIND => self.bind(body),
            front::DESCRIBE => self.describe(Object::read(body).ok_or_else(malformed)?),
            front::CLOSE => {
                match Object::read(body).ok_or_else(malformed)? {
                    Object::Statement(name) => drop(self.statements.remove(name)),
                    Object::Portal(name) => drop(self.portals.remove(name)),
                }
                back::bare(&mut self.out, back::CLOSE_COMPLETE);
                Ok(())
            }
            front::EXECUTE => {
                let (portal, _) = front::execute_of(body).ok_or_else(malformed)?;
                let (command, formats) =
                    self.portals.get(portal).cloned().ok_or_else(|| no_portal(portal))?;
                self.run(&command, &formats, false).await
            }
            // Flush; what belongs to a COPY is dropped, as PostgreSQL does outside of one.
            _ => Ok(()),
        }
    }

    fn parse(&mut self, parse: &Parse<'_>) -> Result<(), Refused> {
        let text = String::from_utf8_lossy(parse.text);
        if text.contains('$') {
            return Err(Refused::new("0A000", "commands of the console take no parameters"));
        }
        let command = read(&text)?;
        if self.statements.len() >= NAMES_MAX {
            return Err(Refused::new("53400", "too many prepared statements"));
        }
        self.statements.insert(parse.name.to_vec(), command);
        back::bare(&mut self.out, back::PARSE_COMPLETE);
        Ok(())
    }

    fn bind(&mut self, body: &[u8]) -> Result<(), Refused> {
        let malformed = || Refused::new("08P01", "malformed Bind message");
        let names = BindNames::read(body).ok_or_else(malformed)?;
        let formats = formats_of(&body[names.bytes..]).ok_or_else(malformed)?;
        let command = self.statement(names.statement)?.clone();
        if self.portals.len() >= NAMES_MAX {
            self.portals.clear();
        }
        self.portals.insert(names.portal.to_vec(), (command, formats));
        back::bare(&mut self.out, back::BIND_COMPLETE);
        Ok(())
    }

    fn statement(&self, name: &[u8]) -> Result<&Command, Refused> {
        let words = || format!("prepared statement \"{}\" does not exist", String::from_utf8_lossy(name));
        self.statements.get(name).ok_or_else(|| Refused::new("26000", words()))
    }

    fn describe(&mut self, object: Object<'_>) -> Result<(), Refused> {
        let (command, formats) = match object {
            Object::Statement(name) => {
                let command = self.statement(name)?.clone();
                wire::put::message(&mut self.out, back::PARAMETER_DESCRIPTION, |out| out.extend([0; 2]));
                (command, Formats::default())
            }
            Object::Portal(name) => self.portals.get(name).cloned().ok_or_else(|| no_portal(name))?,
        };
        match show::columns(&command) {
            Some(columns) => table::describe(&mut self.out, &columns, &formats),
            None => back::bare(&mut self.out, back::NO_DATA),
        }
        Ok(())
    }

    /// Does one command and appends what it answers.
    async fn run(&mut self, command: &Command, formats: &Formats, described: bool) -> Result<(), Refused> {
        change::allowed(self.may, command)?;
        if let Command::Show(super::command::Show::Help) = command {
            Words { severity: back::Severity::Notice, ..Words::error("00000", "Console usage") }
                .detail(show::HELP)
                .put(&mut self.out);
        }
        if let Some(columns) = show::columns(command) {
            if described {
                table::describe(&mut self.out, &columns, formats);
            }
            for row in show::rows(self.reactor, command).await {
                table::row(&mut self.out, &columns, formats, &row);
            }
        }
        if let Command::Set(key, _) = command
            && let Some(why) = crate::pgbouncer::settings::idle(key)
        {
            let words = format!("{key} means nothing here: {why}");
            Words { severity: back::Severity::Notice, ..Words::error("00000", &words) }.put(&mut self.out);
        }
        if *command == Command::Empty {
            back::bare(&mut self.out, back::EMPTY_QUERY);
            return Ok(());
        }
        let tag = change::run(self.reactor, command, self.interrupt).await?;
        back::command_complete(&mut self.out, tag.as_bytes());
        Ok(())
    }
}

fn no_portal(name: &[u8]) -> Refused {
    Refused::new("34000", format!("portal \"{}\" does not exist", String::from_utf8_lossy(name)))
}

fn text_of(body: &[u8]) -> Result<Command, Refused> {
    let (text, _) = cstr(body).ok_or_else(|| Refused::new("08P01", "malformed query"))?;
    read(&String::from_utf8_lossy(text))
}

/// The formats that a Bind wants its columns in; `None` if it brings parameters, or is none.
fn formats_of(rest: &[u8]) -> Option<Formats> {
    let (count, mut rest) = int16(rest)?;
    for _ in 0..count {
        rest = int16(rest)?.1;
    }
    let (0, rest) = int16(rest)? else { return None };
    let (count, mut rest) = int16(rest)?;
    let mut formats = Vec::new();
    for _ in 0..count {
        let (format, behind) = int16(rest)?;
        formats.push(format);
        rest = behind;
    }
    rest.is_empty().then_some(Formats(formats))
}
