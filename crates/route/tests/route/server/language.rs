//! The toy language: what its statements do.

use std::collections::VecDeque;

use wire::back;

use super::{Block, Copy, Failure, Server, fail};
use crate::words::literals;

impl Server {
    /// Runs one statement and says its tag.
    pub(super) fn run(&mut self, text: &str, simple: bool) -> Result<(), Failure> {
        self.check(text)?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let tag = match words.as_slice() {
            ["BEGIN"] => {
                self.block = Block::Open;
                "BEGIN".into()
            }
            ["COMMIT"] | ["COMMIT", "AND", "CHAIN"] => self.ends(true, words.len() > 1)?,
            ["ROLLBACK"] => self.ends(false, false)?,
            ["SELECT", n] if n.parse::<u64>().is_ok() => self.rows_of(&[vec![Some((*n).into())]], simple),
            ["SHOW", name] => {
                let value = self.settings.get(*name).cloned().unwrap_or_default();
                self.rows_of(&[vec![Some(value)]], simple);
                "SHOW".into()
            }
            ["INSERT", "INTO", "t", "VALUES", n] => {
                self.writes(n.trim_matches(['(', ')']).parse().expect("a number"));
                "INSERT 0 1".into()
            }
            ["SET", name, "TO", value] => {
                self.settings.insert((*name).into(), value.trim_matches('\'').into());
                "SET".into()
            }
            ["FAIL"] => return fail("22012", "division by zero"),
            ["LISTEN", _] => "LISTEN".into(),
            ["COPY", "t", direction, _] => return self.copy(direction == &"FROM", simple),
            ["PREPARE", name, "AS", ..] => {
                self.statements.insert(name.as_bytes().into(), words[3..].join(" "));
                "PREPARE".into()
            }
            ["EXECUTE", name] => {
                let text = self.statement(name.as_bytes())?;
                return self.run(&text, simple);
            }
            ["DISCARD", "ALL"] if self.block == Block::Open => {
                return fail("25001", "DISCARD ALL cannot run inside a transaction block");
            }
            ["DEALLOCATE" | "DISCARD", "ALL"] => {
                let unnamed = self.statements.remove(b"".as_slice());
                self.statements.clear();
                unnamed.map(|text| self.statements.insert(Vec::new(), text));
                if words[0] == "DISCARD" {
                    self.settings.clear();
                    self.temps.clear();
                }
                text.into()
            }
            ["DEALLOCATE", name] => {
                self.statement(name.as_bytes())?;
                self.statements.remove(name.as_bytes());
                "DEALLOCATE".into()
            }
            _ => match self.temporary(&words) {
                Some(tag) => tag?.into(),
                None => self.select(text, simple)?,
            },
        };
        back::command_complete(&mut self.output, tag.as_bytes());
        Ok(())
    }

    fn temporary(&mut self, words: &[&str]) -> Option<Result<&'static str, Failure>> {
        Some(match words {
            ["CREATE", "TEMP", "TABLE", name, ends @ ..] => {
                if !self.temps.insert((*name).into()) {
                    return Some(fail("42P07", format!("relation \"{name}\" already exists")));
                }
                if !ends.is_empty() {
                    self.dropping.insert((*name).into());
                }
                Ok("CREATE TABLE")
            }
            ["DROP", "TABLE", name] if self.temps.remove(*name) => Ok("DROP TABLE"),
            ["DROP", "TABLE", name] => fail("42P01", format!("table \"{name}\" does not exist")),
            ["DISCARD", "TEMP"] => {
                self.temps.clear();
                Ok("DISCARD TEMP")
            }
            _ => return None,
        })
    }

    fn ends(&mut self, commits: bool, chains: bool) -> Result<String, Failure> {
        let failed = self.block == Block::Failed;
        if commits && !failed && self.rows.contains(&666) {
            self.block = Block::Implicit;
            return fail("23505", "deferred");
        }
        if chains && self.block == Block::Implicit {
            return fail("25P01", "COMMIT AND CHAIN can only be used in transaction blocks");
        }
        let portals = std::mem::take(&mut self.portals);
        if commits && !failed {
            self.commit();
        } else {
            self.undo();
        }
        drop(portals);
        if chains {
            self.start();
            self.block = Block::Open;
        }
        Ok(if commits && !failed { "COMMIT" } else { "ROLLBACK" }.into())
    }

    fn rows_of(&mut self, rows: &[Vec<Option<String>>], simple: bool) -> String {
        if simple {
            let columns = vec!["x"; rows.first().map_or(2, Vec::len)];
            back::text_columns(&mut self.output, &columns);
        }
        for row in rows {
            let values: Vec<Option<&[u8]>> = row.iter().map(|v| v.as_deref().map(str::as_bytes)).collect();
            back::text_row(&mut self.output, values.into_iter());
        }
        format!("SELECT {}", rows.len())
    }

    fn copy(&mut self, from: bool, simple: bool) -> Result<(), Failure> {
        let tag = if from { back::COPY_IN } else { back::COPY_OUT };
        wire::put::message(&mut self.output, tag, |to| to.extend([0, 0, 0]));
        if from {
            self.copies = Some(Copy { extended: !simple, rows: Vec::new(), rest: VecDeque::new() });
            self.flushed = self.output.len();
        } else {
            wire::put::message(&mut self.output, back::COPY_DATA, |to| to.extend(b"1\n"));
            back::bare(&mut self.output, back::COPY_DONE);
            back::command_complete(&mut self.output, b"COPY 1");
        }
        Ok(())
    }

    /// SELECTs of functions and catalogs.
    fn select(&mut self, text: &str, simple: bool) -> Result<String, Failure> {
        if text.contains("pg_logical_emit_message") {
            self.writes(0);
            self.rows.clear();
            return Ok(self.rows_of(&[vec![Some("0/1".into())]], simple));
        }
        if text.contains("pg_my_temp_schema") {
            let none = if self.temps.is_empty() { "t" } else { "f" };
            return Ok(self.rows_of(&[vec![Some(none.into())]], simple));
        }
        if text.contains("pg_settings") {
            let mut rows: Vec<Vec<Option<String>>> = Vec::new();
            for (name, value) in self.settings.iter().filter(|(name, _)| !name.contains('.')) {
                rows.push(vec![Some(name.clone()), Some(value.clone())]);
            }
            for part in text.split("UNION ALL SELECT").skip(2) {
                let name = literals(part).first().cloned().flatten().expect("a name");
                rows.push(vec![Some(name.clone()), self.settings.get(&name).cloned()]);
            }
            return Ok(self.rows_of(&rows, simple));
        }
        if text.starts_with("SELECT") && text.contains("set_config(") {
            let mut row = Vec::new();
            for call in text.split("set_config(").skip(1) {
                let found = literals(call);
                let (name, value) = (found[0].clone().expect("a name"), found[1].clone());
                row.push(value.clone());
                match value {
                    Some(value) => self.settings.insert(name, value),
                    None => self.settings.remove(&name),
                };
            }
            return Ok(self.rows_of(&[row], simple));
        }
        fail("42601", format!("syntax error at {text}"))
    }
}
