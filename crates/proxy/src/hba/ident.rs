//! Which names outside stand for which users: PostgreSQL's pg_ident.conf.
//!
//! A certificate or a process has a name of its own. Without a map it must be
//! the user's; with one, the pair must stand there.

use serde::Deserialize;

use super::read::{Word, fields};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The map's name.
    pub map: String,
    /// The name outside.
    pub system: String,
    /// The user; `all` for every one.
    pub user: String,
}

/// All maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps(Vec<Entry>);

impl Maps {
    /// Of these entries.
    #[must_use]
    pub fn of(entries: &[Entry]) -> Maps {
        Maps(entries.to_vec())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// The line, and what is wrong with it.
    pub fn read(text: &str) -> Result<Maps, String> {
        let mut entries = Vec::new();
        for (number, line) in text.lines().enumerate().map(|(i, l)| (i + 1, l)) {
            let all = fields(line).map_err(|why| format!("line {number}: {why}"))?;
            if all.is_empty() {
                continue;
            }
            entries.push(entry(&all).map_err(|why| format!("line {number}: {why}"))?);
        }
        Ok(Maps(entries))
    }

    /// Whether there is a map of that name.
    #[must_use]
    pub fn has(&self, map: &str) -> bool {
        self.0.iter().any(|e| e.map == map)
    }

    /// Whether a name outside stands for a user.
    #[must_use]
    pub fn allow(&self, map: Option<&str>, system: &str, user: &str) -> bool {
        match map {
            None => system == user,
            Some(map) => {
                let ours = self.0.iter().filter(|e| e.map == map && e.system == system);
                ours.into_iter().any(|e| e.user == user || e.user == "all")
            }
        }
    }
}

fn entry(all: &[Vec<Word>]) -> Result<Entry, String> {
    let [map, system, user] = all else {
        return Err("it must have three words: a map, a name outside, a user".to_string());
    };
    let one = |words: &[Word]| match words {
        [word] if !word.quoted && word.text.starts_with(['/', '+', '@']) => {
            Err(format!("{}: patterns, roles and files are not understood here", word.text))
        }
        [word] => Ok(word.text.clone()),
        _ => Err("a list is not understood here".to_string()),
    };
    Ok(Entry { map: one(map)?, system: one(system)?, user: one(user)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_say_who_stands_for_whom() {
        let text =
            "# a comment\nweb  web.acme.org  app\nweb\tweb.acme.org \"other app\" # more\n\nops root all\n";
        let maps = Maps::read(text).expect("it is right");
        for (map, system, user, allows) in [
            (None, "app", "app", true),
            (None, "web.acme.org", "app", false),
            (Some("web"), "web.acme.org", "app", true),
            (Some("web"), "web.acme.org", "other app", true),
            (Some("web"), "web.acme.org", "postgres", false),
            (Some("web"), "app", "app", false),
            (Some("ops"), "root", "postgres", true),
            (Some("none"), "root", "root", false),
        ] {
            assert_eq!(maps.allow(map, system, user), allows, "{map:?} {system} {user}");
        }
        assert!(maps.has("web") && !maps.has("none"));
    }

    #[test]
    fn what_is_none_is_named_with_its_line() {
        for bad in ["a b", "a b c d", "a /^x b", "a b,c d", "a \"b c d"] {
            let said = Maps::read(&format!("\n{bad}\n")).expect_err(bad);
            assert!(said.starts_with("line 2: "), "{bad}: {said}");
        }
    }
}
