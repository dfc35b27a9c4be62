//! Values inside PostgreSQL's configuration files, conninfo strings and SQL.
//!
//! Three languages with three rules; a slip in the first turns synchronous
//! replication off at the next reload without a word.
//!
//! Never refuses: what can't be written at all is refused by `parameters::check`.

/// `name = 'value'` and a line end, for `postgresql.conf`. In there a quote is
/// doubled and a backslash starts an escape, so both are doubled.
#[must_use]
pub fn setting_line(name: &str, value: &str) -> String {
    format!("{name} = '{}'\n", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// `key='value' key='value'`: in a conninfo string a quote is escaped by a backslash.
#[must_use]
pub fn conninfo(pairs: &[(&str, String)]) -> String {
    let quoted = pairs.iter().map(|(key, value)| {
        let value = value.replace('\\', "\\\\").replace('\'', "\\'");
        format!("{key}='{value}'")
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// A string as an SQL literal, whatever `standard_conforming_strings` says.
#[must_use]
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// A name as an SQL identifier.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_language_has_its_own_escapes() {
        assert_eq!(setting_line("a", r#"ANY 1 ("n-2_1")"#), "a = 'ANY 1 (\"n-2_1\")'\n");
        assert_eq!(setting_line("a", r"\'"), "a = '\\\\'''\n");
        assert_eq!(conninfo(&[("a", r"\'".to_string()), ("b", "c d".to_string())]), r"a='\\\'' b='c d'");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"\"), r" E'\\'");
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
    }
}
