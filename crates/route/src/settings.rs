//! The settings of a session, which follow its client from server to server.
//!
//! What a client has SET is asked of PostgreSQL itself after the transaction that
//! did it (`ASK`): savepoints, functions and rollbacks are then right without
//! being understood here. `set_config` sets them on another server: unlike SET it
//! takes lists such as search_path as pg_settings shows them.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Names and values, in the order of their names.
pub type Settings = BTreeMap<String, String>;

/// Most settings that one client may have.
pub const SETTINGS_MAX: usize = 256;

/// Whether two have the same. Where they do they share it from now on, so that it is compared once and
/// not for every transaction: both take the one at the lower address, so in the end all share one.
pub fn share(a: &mut Arc<Settings>, b: &mut Arc<Settings>) -> bool {
    if Arc::ptr_eq(a, b) {
        return true;
    }
    if a != b {
        return false;
    }
    if Arc::as_ptr(a) < Arc::as_ptr(b) {
        *b = a.clone();
    } else {
        *a = b.clone();
    }
    true
}

/// The statement that turns a server set up as `from` into one set up as `to`; `None` if nothing differs. What is
/// gone is as in `base` again, or as the server has it by itself.
#[must_use]
pub fn change(from: &Settings, to: &Settings, base: Option<&Settings>) -> Option<Vec<u8>> {
    let before = |name: &String| base.and_then(|base| base.get(name));
    let gone = from.keys().filter(|name| !to.contains_key(*name)).map(|name| (name, before(name)));
    let new = to.iter().filter(|(name, value)| from.get(*name) != Some(value)).map(|(n, v)| (n, Some(v)));
    let mut out = Vec::new();
    for (name, value) in gone.chain(new) {
        out.extend_from_slice(if out.is_empty() { b"SELECT " } else { b", " });
        out.extend_from_slice(b"pg_catalog.set_config(");
        literal(&mut out, name);
        out.extend_from_slice(b", ");
        match value {
            Some(value) => literal(&mut out, value),
            None => out.extend_from_slice(b"NULL"),
        }
        out.extend_from_slice(b", false)");
    }
    (!out.is_empty()).then_some(out)
}

/// Takes out of what a session has set what it has not set itself, as it was in `base` before. Gives the names of
/// what it has RESET since.
pub fn without_base(all: &mut Settings, base: &Settings) -> Vec<String> {
    let mut reset = Vec::new();
    for (name, before) in base {
        match all.get(name) {
            Some(now) if now == before => drop(all.remove(name)),
            Some(_) => {}
            None => reset.push(name.clone()),
        }
    }
    reset
}

/// The question for all that this session has set; `own` are names with a dot, which pg_settings does not list.
/// Names and values come in two columns.
#[must_use]
pub fn question<'a>(own: impl Iterator<Item = &'a String>) -> Vec<u8> {
    let mut out = ASK.as_bytes().to_vec();
    for name in own {
        out.extend_from_slice(b" UNION ALL SELECT ");
        literal(&mut out, name);
        out.extend_from_slice(b", pg_catalog.current_setting(");
        literal(&mut out, name);
        out.extend_from_slice(b", true)");
    }
    out
}

/// Settings with the source 'session' are those of SET and `set_config`; the role is in no list.
const ASK: &str = "SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session' \
    UNION ALL SELECT 'role', pg_catalog.current_setting('role') \
    WHERE pg_catalog.current_setting('role') <> 'none'";

/// A string in quotes, whatever `standard_conforming_strings` is.
fn literal(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"E'");
    for b in text.bytes() {
        if matches!(b, b'\'' | b'\\') {
            out.push(b);
        }
        out.push(b);
    }
    out.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect()
    }

    #[test]
    fn only_what_differs_is_changed() {
        let a = settings(&[("search_path", "a, \"b c\""), ("work_mem", "4096")]);
        let b = settings(&[("work_mem", "4096"), ("app.x", "it's \\")]);
        assert_eq!(change(&a, &a, None), None);
        let text = String::from_utf8(change(&a, &b, None).unwrap()).unwrap();
        assert_eq!(
            text,
            "SELECT pg_catalog.set_config(E'search_path', NULL, false), pg_catalog.set_config(E'app.x', E'it''s \\\\', false)"
        );
    }
    #[test]
    fn what_was_there_before_is_nobodys_and_comes_back() {
        let base = settings(&[("work_mem", "64"), ("app.x", "1"), ("jit", "off")]);
        let mut all = settings(&[("work_mem", "64"), ("app.x", "2"), ("DateStyle", "ISO")]);
        assert_eq!(without_base(&mut all, &base), ["jit"]);
        assert_eq!(all, settings(&[("app.x", "2"), ("DateStyle", "ISO")]));
        let text = String::from_utf8(change(&all, &Settings::new(), Some(&base)).unwrap()).unwrap();
        assert!(text.contains("(E'app.x', E'1', false)") && text.contains("(E'DateStyle', NULL, false)"));
    }
}
