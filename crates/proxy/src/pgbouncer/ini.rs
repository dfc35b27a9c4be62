//! The syntax of PgBouncer's files: sections, keys, `%include`, connection strings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use api::host_config::ConfigError as FileError;

/// Files that include one another, at most: PgBouncer's `MAX_INCLUDE`.
pub const INCLUDES_MAX: usize = 10;

/// One `key = value`, and its section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The section that it stands in.
    pub section: String,
    /// Its key, unquoted.
    pub key: String,
    /// Its value, as it stands there.
    pub value: String,
}

/// What stands in a file, and in those that it includes.
#[derive(Clone, Debug, Default)]
pub struct File(Vec<Entry>);

impl File {
    /// The entries of a section, in their order. Of a key that is there twice the last counts.
    pub fn of<'a>(&'a self, section: &'a str) -> impl Iterator<Item = &'a Entry> {
        let mut seen = BTreeSet::new();
        let ours = self.0.iter().rev().filter(move |e| e.section == section && seen.insert(e.key.as_str()));
        ours.collect::<Vec<_>>().into_iter().rev()
    }

    /// The sections that have an entry.
    #[must_use]
    pub fn sections(&self) -> BTreeSet<&str> {
        self.0.iter().map(|e| e.section.as_str()).collect()
    }
}

/// Reads a file and what it includes.
///
/// # Errors
/// `Unreadable`, or `Wrong` with the number of the line.
pub fn read(path: &Path) -> Result<File, FileError> {
    let mut file = File::default();
    let mut section = String::new();
    include(path, 0, &mut section, &mut file)?;
    Ok(file)
}

fn include(path: &Path, depth: usize, section: &mut String, file: &mut File) -> Result<(), FileError> {
    let unreadable = |e: std::io::Error| FileError::unreadable(path, &e);
    let wrong = |why: String| FileError::wrong(path, why);
    if depth >= INCLUDES_MAX {
        return Err(wrong("it is included too deep".to_string()));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    for (number, line) in text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())) {
        let bad = |why: &str| wrong(format!("line {number}: {why}"));
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some(other) = line.strip_prefix("%include") {
            include(&PathBuf::from(other.trim()), depth + 1, section, file)?;
        } else if let Some(name) = line.strip_prefix('[') {
            *section = name.strip_suffix(']').ok_or_else(|| bad("a section ends with ]"))?.trim().to_string();
        } else {
            let (key, value) = pair(line).ok_or_else(|| bad("it is no key = value"))?;
            if section.is_empty() {
                return Err(bad("it stands in no section"));
            }
            file.0.push(Entry { section: section.clone(), key, value });
        }
    }
    Ok(())
}

fn pair(line: &str) -> Option<(String, String)> {
    let (key, rest) = match line.strip_prefix('"') {
        Some(quoted) => unquote(quoted, '"')?,
        None => {
            let end = line.find(|c: char| c == '=' || c.is_whitespace())?;
            (line[..end].to_string(), &line[end..])
        }
    };
    let value = rest.trim_start().strip_prefix('=')?;
    (!key.is_empty()).then(|| (key, value.trim().to_string()))
}

/// What stands before the closing quote, and what behind it. Two quotes are one.
fn unquote(quoted: &str, quote: char) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            c if c == quote && chars.as_str().starts_with(quote) => {
                chars.next();
                word.push(quote);
            }
            c if c == quote => return Some((word, chars.as_str())),
            c => word.push(c),
        }
    }
}

/// Keys and values of a connection string: `host=db dbname='my shop'`.
///
/// # Errors
/// What is none, in words.
pub fn connection(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let bad = || format!("'{rest}' is no key=value");
        let (key, behind) = rest.split_once('=').ok_or_else(bad)?;
        let (key, behind) = (key.trim(), behind.trim_start());
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(bad());
        }
        let (value, behind) = match behind.strip_prefix('\'') {
            Some(quoted) => unquote(quoted, '\'').ok_or_else(bad)?,
            None => {
                let end = behind.find(char::is_whitespace).unwrap_or(behind.len());
                (behind[..end].to_string(), &behind[end..])
            }
        };
        if value.is_empty() {
            return Err(bad());
        }
        pairs.push((key.to_string(), value));
        rest = behind.trim_start();
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_are_split() {
        let pairs = connection(" host = db  dbname='it''s mine' port=5 ").expect("it is one");
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("host", "db"), ("dbname", "it's mine"), ("port", "5")]);
        for bad in ["host", "host=", "=db", "host='db", "a b=c"] {
            assert!(connection(bad).is_err(), "{bad}");
        }
        assert_eq!(connection(""), Ok(Vec::new()));
    }
}
