//! Whether a text surely only reads, so that it may be run again whatever became of it.

use super::tokens::{Token, Tokens};
use super::{Verb, WORD_BYTES_MAX, look, lowercase};

/// Functions that surely change nothing: what drivers and dashboards call all the time.
const HARMLESS: &[&[u8]] = &[
    b"abs",
    b"array_agg",
    b"avg",
    b"bool_and",
    b"bool_or",
    b"cast",
    b"ceil",
    b"coalesce",
    b"concat",
    b"count",
    b"current_setting",
    b"date_trunc",
    b"exists",
    b"extract",
    b"floor",
    b"format",
    b"generate_series",
    b"greatest",
    b"in",
    b"json_agg",
    b"json_build_object",
    b"jsonb_agg",
    b"jsonb_build_object",
    b"least",
    b"left",
    b"length",
    b"lower",
    b"max",
    b"min",
    b"now",
    b"nullif",
    b"over",
    b"pg_backend_pid",
    b"position",
    b"random",
    b"repeat",
    b"replace",
    b"right",
    b"round",
    b"row_number",
    b"row_to_json",
    b"string_agg",
    b"substr",
    b"substring",
    b"sum",
    b"to_char",
    b"to_date",
    b"to_timestamp",
    b"trim",
    b"upper",
    b"version",
];
/// Words before a bracket that call nothing.
const NO_CALL: &[&[u8]] = &[
    b"all",
    b"and",
    b"any",
    b"as",
    b"between",
    b"by",
    b"case",
    b"else",
    b"except",
    b"filter",
    b"from",
    b"having",
    b"intersect",
    b"join",
    b"lateral",
    b"like",
    b"limit",
    b"not",
    b"offset",
    b"on",
    b"or",
    b"select",
    b"some",
    b"then",
    b"union",
    b"using",
    b"values",
    b"when",
    b"where",
    b"within",
];
/// Words with which a SELECT is more than a look.
const NOT_ONLY_READING: &[&[u8]] =
    &[b"into", b"insert", b"update", b"delete", b"merge", b"share", b"create", b"nextval", b"setval"];

/// Whether a text surely only reads: one SELECT that calls nothing but what is known to be harmless.
///
/// Views and operators that somebody made with functions that write are beyond it; nobody can see those.
#[must_use]
pub fn only_reads(text: &[u8]) -> bool {
    let traits = look(text);
    if traits.many || !matches!(traits.verb, Verb::Select) || traits.sets || traits.locks {
        return false;
    }
    let mut lower = [0; WORD_BYTES_MAX];
    // Whether a bracket that comes next would call something unknown: also what is in a schema by name.
    let (mut unknown, mut dotted) = (false, false);
    for token in Tokens::of(text) {
        let behind_dot = core::mem::replace(&mut dotted, matches!(token, Token::Symbol(b'.')));
        match token {
            Token::Word(word) => {
                let word = lowercase(word, &mut lower);
                if NOT_ONLY_READING.contains(&word) {
                    return false;
                }
                unknown = behind_dot || !HARMLESS.contains(&word) && !NO_CALL.contains(&word);
            }
            Token::Symbol(b'(') if unknown => return false,
            Token::Quoted(_) => unknown = true,
            Token::Symbol(_) | Token::Literal(_) => unknown = false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_surely_reads_reads() {
        for text in
            ["select 1", "SELECT count(*) FROM t WHERE a IN (1,2)", "select \"a\" from t", "values (1)"]
        {
            assert!(only_reads(text.as_bytes()), "{text}");
        }
        for text in [
            "select f(1)",
            "select * from t for update",
            "select 1 into x",
            "select nextval('s')",
            "insert into t values (1)",
            "select app.replace(1)",
            "select 1; select 2",
            "with a as (delete from t returning *) select * from a",
            "select \"count\"(1)",
        ] {
            assert!(!only_reads(text.as_bytes()), "{text}");
        }
    }
}
