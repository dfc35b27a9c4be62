//! What can be seen of a statement by its words, without parsing it.
//!
//! The truth about transactions is ReadyForQuery, and about most session state
//! the tag of CommandComplete. What remains is what must be known *before* a
//! statement is sent (is it a COMMIT?), or what no tag tells (a temporary
//! table, a session lock). A lexer is enough for that, and it costs nanoseconds.

mod follow;
mod on_commit;
mod ours;
mod plain;
mod reads;
mod tokens;

pub use follow::can_follow;
use on_commit::OnCommit;
pub use ours::{LSN_QUESTION, asks_lsn, sets_read_after};
pub use reads::only_reads;
use tokens::{Token, Tokens};

/// What kind of statement it is, by its first word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verb {
    /// Nothing but blanks, comments and semicolons.
    #[default]
    Empty,
    /// BEGIN, START TRANSACTION.
    Begin,
    /// COMMIT, END; not COMMIT PREPARED.
    Commit,
    /// ROLLBACK, ABORT; not to a savepoint, and not ROLLBACK PREPARED.
    Rollback,
    /// INSERT, UPDATE, DELETE, MERGE.
    Write,
    /// SELECT, VALUES, TABLE.
    Select,
    /// WITH: may read or write.
    With,
    /// COPY.
    Copy,
    /// DEALLOCATE.
    Deallocate,
    /// DISCARD.
    Discard,
    /// Anything else.
    Other,
}

/// What is known of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Its first statement.
    pub verb: Verb,
    /// There is more than one.
    pub many: bool,
    /// It changes a setting beyond the transaction, or may (SET, `set_config`).
    pub sets: bool,
    /// It makes a temporary table that outlives the transaction.
    pub temporary: bool,
    /// It declares a cursor WITH HOLD.
    pub holds: bool,
    /// It takes an advisory lock that outlives the transaction.
    pub locks: bool,
    /// It ends a transaction and begins the next at once (AND CHAIN).
    pub chains: bool,
    /// One of its statements may end the transaction block that it runs in.
    pub ends: bool,
    /// One of its statements may commit by itself outside of a block (CALL, VACUUM), or is not known.
    pub loose: bool,
}

/// Longest word that means something here.
const WORD_BYTES_MAX: usize = 32;

/// Reads a text. One that is cut off is read as far as it goes.
#[must_use]
pub fn look(text: &[u8]) -> Traits {
    if plain::is_plain_select(text) { Traits { verb: Verb::Select, ..Traits::default() } } else { read(text) }
}

fn read(text: &[u8]) -> Traits {
    let mut traits = Traits::default();
    let mut sentence = Sentence::default();
    for token in Tokens::of(text) {
        match token {
            Token::Symbol(b';') => {
                sentence = Sentence { ended: sentence.ended || sentence.words > 0, ..Sentence::default() };
            }
            Token::Word(word) if sentence.passes_over(word) => sentence.words += 1,
            Token::Word(word) => {
                let mut lower = [0; WORD_BYTES_MAX];
                sentence.word(lowercase(word, &mut lower), &mut traits);
            }
            Token::Quoted(name) => {
                sentence.on_commit.symbol(b'"');
                sentence.other(&mut traits);
                traits.quoted(name.strip_prefix(b"\"").and_then(|n| n.strip_suffix(b"\"")).unwrap_or(name));
            }
            Token::Symbol(symbol) => {
                sentence.on_commit.symbol(symbol);
                sentence.other(&mut traits);
            }
            Token::Literal(text) => {
                sentence.on_commit.literal(text);
                sentence.other(&mut traits);
            }
        }
    }
    traits
}

impl Traits {
    /// A name in double quotes calls and names as well as one without.
    fn quoted(&mut self, name: &[u8]) {
        match name {
            b"set_config" => self.sets = true,
            b"pg_temp" => self.temporary = true,
            b"pg_advisory_lock"
            | b"pg_advisory_lock_shared"
            | b"pg_try_advisory_lock"
            | b"pg_try_advisory_lock_shared" => self.locks = true,
            _ => {}
        }
    }
}

/// Where in a statement we are.
#[derive(Default)]
struct Sentence {
    /// One came before it.
    ended: bool,
    words: u32,
    creates: bool,
    declares: bool,
    into: bool,
    prepares: bool,
    rolls: bool,
    /// It begins with SET; and whether a statement before it has set something.
    sets_first: bool,
    set_before: bool,
    /// The text could end a block before this statement.
    could_end: bool,
    on_commit: OnCommit,
}

impl Sentence {
    fn begin(&mut self, traits: &mut Traits) -> bool {
        if self.words > 0 {
            return false;
        }
        traits.many |= self.ended;
        true
    }

    fn other(&mut self, traits: &mut Traits) {
        if self.begin(traits) {
            traits.loose = true;
            if !self.ended && traits.verb == Verb::Empty {
                traits.verb = Verb::Other;
            }
        }
        self.words += 1;
    }

    /// Whether a word means nothing where it stands. Every statement is read, and most words are such.
    fn passes_over(&self, word: &[u8]) -> bool {
        self.words > 0 && !self.into && self.on_commit.is_nowhere() && !may_mean(word)
    }

    fn word(&mut self, word: &[u8], traits: &mut Traits) {
        if self.begin(traits) {
            let verb = verb(word);
            if !self.ended {
                traits.verb = verb;
            }
            // What a DO block sets is not seen, but asked for.
            self.set_before = traits.sets;
            self.sets_first = word == b"set";
            traits.sets |= matches!(word, b"set" | b"reset" | b"do");
            self.could_end = traits.ends;
            traits.ends |= matches!(word, b"commit" | b"end" | b"rollback" | b"abort");
            traits.loose |= !is_atomic(verb, word);
            self.prepares = word == b"prepare";
            self.rolls = word == b"rollback" || word == b"abort" || word == b"commit";
            self.creates = word == b"create";
            self.declares = word == b"declare";
        }
        self.words += 1;
        self.on_commit.word(word, traits);
        let ends = matches!(traits.verb, Verb::Commit | Verb::Rollback) && !self.ended;
        if self.rolls && self.words <= 3 && matches!(word, b"prepared" | b"to") {
            traits.ends = self.could_end;
        }
        match word {
            b"transaction" if self.prepares && self.words == 2 => traits.ends = true,
            // Of a prepared transaction or to a savepoint: the transaction goes on, or is another one.
            b"prepared" | b"to" if ends && self.words <= 3 => traits.verb = Verb::Other,
            b"no" if ends => self.into = true,
            b"chain" if ends => traits.chains = !self.into,
            b"into" => self.into = true,
            b"temp" | b"temporary" if self.creates && self.words <= 3 => self.on_commit.made(traits),
            b"temp" | b"temporary" => traits.temporary |= self.creates && self.words <= 5 || self.into,
            b"pg_temp" => traits.temporary = true,
            b"hold" => traits.holds |= self.declares,
            b"set_config" => traits.sets = true,
            // An UPDATE of this view is a SET.
            b"pg_settings" => traits.sets |= traits.verb == Verb::Write,
            // For the transaction only.
            b"local" | b"transaction" | b"constraints" if self.sets_first && self.words == 2 => {
                traits.sets = self.set_before
            }
            b"pg_advisory_lock"
            | b"pg_advisory_lock_shared"
            | b"pg_try_advisory_lock"
            | b"pg_try_advisory_lock_shared" => traits.locks = true,
            _ => self.into &= ends || matches!(word, b"local" | b"global"),
        }
    }
}

/// Words that mean something behind the first of a statement, but for those of ON COMMIT and after INTO.
const MEANINGS: &[&[u8]] = &[
    b"chain",
    b"constraints",
    b"hold",
    b"into",
    b"local",
    b"no",
    b"pg_advisory_lock",
    b"pg_advisory_lock_shared",
    b"pg_settings",
    b"pg_temp",
    b"pg_try_advisory_lock",
    b"pg_try_advisory_lock_shared",
    b"prepared",
    b"set_config",
    b"temp",
    b"temporary",
    b"to",
    b"transaction",
];

/// For each first letter, and for each last one, the lengths of those words, as bits.
const LENGTHS: ([u32; 256], [u32; 256]) = {
    let (mut first, mut last) = ([0; 256], [0; 256]);
    let mut n = 0;
    while n < MEANINGS.len() {
        let word = MEANINGS[n];
        let (a, z, bit) = (word[0], word[word.len() - 1], 1 << word.len());
        first[a as usize] |= bit;
        first[a.to_ascii_uppercase() as usize] |= bit;
        last[z as usize] |= bit;
        last[z.to_ascii_uppercase() as usize] |= bit;
        n += 1;
    }
    (first, last)
};

fn may_mean(word: &[u8]) -> bool {
    let [first, .., last] = word else { return false };
    let lengths = LENGTHS.0[usize::from(*first)] & LENGTHS.1[usize::from(*last)];
    word.len() < WORD_BYTES_MAX && lengths >> word.len() & 1 != 0
}

/// Whether a statement with this first word is all or nothing, whatever happens to its server.
fn is_atomic(verb: Verb, word: &[u8]) -> bool {
    match verb {
        Verb::Begin | Verb::Commit | Verb::Rollback => true,
        Verb::Write | Verb::Select | Verb::With | Verb::Copy => true,
        Verb::Other => matches!(word, b"fetch" | b"show"),
        Verb::Empty | Verb::Deallocate | Verb::Discard => false,
    }
}

fn verb(word: &[u8]) -> Verb {
    match word {
        b"begin" | b"start" => Verb::Begin,
        b"commit" | b"end" => Verb::Commit,
        b"rollback" | b"abort" => Verb::Rollback,
        b"insert" | b"update" | b"delete" | b"merge" => Verb::Write,
        b"select" | b"values" | b"table" => Verb::Select,
        b"with" => Verb::With,
        b"copy" => Verb::Copy,
        b"deallocate" => Verb::Deallocate,
        b"discard" => Verb::Discard,
        _ => Verb::Other,
    }
}

/// Where in a text the name of a prepared statement is: DEALLOCATE [PREPARE] name, EXECUTE name,
/// EXPLAIN ... EXECUTE name. Names in double quotes come without them.
#[must_use]
pub fn prepared_name(text: &[u8]) -> Option<core::ops::Range<usize>> {
    let mut lower = [0; WORD_BYTES_MAX];
    let (mut explains, mut follows) = (false, false);
    for token in Tokens::of(text) {
        let bytes = match token {
            Token::Word(bytes) | Token::Quoted(bytes) => bytes,
            // What follows is another statement.
            Token::Symbol(b';') if explains || follows => return None,
            Token::Symbol(_) | Token::Literal(_) => continue,
        };
        let at = bytes.as_ptr() as usize - text.as_ptr() as usize;
        let quotes = usize::from(bytes.first() == Some(&b'"'));
        if follows && quotes == 0 && bytes.eq_ignore_ascii_case(b"prepare") {
            continue;
        }
        if follows {
            let range = at + quotes..(at + bytes.len()).saturating_sub(quotes);
            let keyword = quotes == 0 && bytes.eq_ignore_ascii_case(b"all");
            return (!keyword && range.start < range.end).then_some(range);
        }
        match lowercase(bytes, &mut lower) {
            b"deallocate" | b"execute" => follows = true,
            b"explain" => explains = true,
            b"analyze" | b"verbose" | b"costs" | b"buffers" | b"format" | b"json" | b"off" | b"on"
                if explains => {}
            _ => return None,
        }
    }
    None
}

/// Names of settings with a dot (an application's own) that a text sets: no list of PostgreSQL's shows those.
pub fn own_settings(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| !b.is_ascii_alphanumeric() && *b != b'_' && *b != b'.').filter(|word| {
        let first = word.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_');
        first && word.contains(&b'.') && word.last() != Some(&b'.') && word.len() < 2 * WORD_BYTES_MAX
    })
}

fn lowercase<'a>(word: &[u8], room: &'a mut [u8; WORD_BYTES_MAX]) -> &'a [u8] {
    let Some(room) = room.get_mut(..word.len()) else { return b"" };
    room.copy_from_slice(word);
    room.make_ascii_lowercase();
    room
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verb_of(text: &str) -> (Verb, bool) {
        let t = look(text.as_bytes());
        (t.verb, t.many)
    }

    #[test]
    fn verbs() {
        for (text, verb, many) in [
            ("", Verb::Empty, false),
            (" ; -- nothing\n ;", Verb::Empty, false),
            ("BEGIN", Verb::Begin, false),
            ("start transaction isolation level serializable;", Verb::Begin, false),
            ("/* c /* nested */ ; */ commit ;", Verb::Commit, false),
            ("END", Verb::Commit, false),
            ("COMMIT PREPARED 'x'", Verb::Other, false),
            ("rollback to savepoint a", Verb::Other, false),
            ("ROLLBACK WORK TO a", Verb::Other, false),
            ("abort", Verb::Rollback, false),
            ("insert into t values (';')", Verb::Write, false),
            ("insert into t values ($$;$$); commit", Verb::Write, true),
            ("select $a$ ; $b$ ; $a$, 'it''s;', E'\\';', \"a;b\", $1", Verb::Select, false),
            ("select 1; select 2", Verb::Select, true),
            ("; select 1", Verb::Select, false),
            ("(select 1)", Verb::Other, false),
        ] {
            assert_eq!(verb_of(text), (verb, many), "{text}");
        }
    }

    #[test]
    fn what_outlives_a_transaction() {
        assert!(look(b"CREATE TEMP TABLE x ()").temporary);
        assert!(look(b"create or replace temporary view v as select 1").temporary);
        assert!(look(b"select 1 into temp x").temporary);
        assert!(look(b"select 1 into local temp x").temporary);
        assert!(!look(b"select temp from weather").temporary);
        assert!(!look(b"create table x (a int, b int, c int, temp int)").temporary);
        assert!(look(b"select 1; select pg_advisory_lock(1)").locks);
        assert!(!look(b"select pg_advisory_xact_lock(1)").locks);
        assert!(look(b"declare c cursor with hold for select 1").holds);
        assert!(look(b"set search_path to a").sets);
        assert!(look(b"select set_config('a.b', '1', false)").sets);
        assert!(!look(b"update t set a = 1").sets);
        assert!(look(b"commit and chain").chains);
        assert!(!look(b"commit and no chain").chains);
    }

    #[test]
    fn a_plain_select_is_what_reading_it_says() {
        let words = [
            "a",
            "1",
            "$1",
            "*",
            "=",
            "(",
            ")",
            ",",
            ";",
            "'",
            "\"",
            "-",
            "/",
            "--",
            "/*",
            "*/",
            "$$",
            "$a$",
            "e'",
            "into",
            "temp",
            "LOCAL",
            "set_config",
            "pg_temp",
            "commit",
            "pg_advisory_lock",
            "$$$$set_config",
            "for",
            "update",
            "\n",
            "x",
        ];
        for (a, b, c) in words.iter().flat_map(|a| words.iter().flat_map(move |b| words.map(|c| (*a, *b, c))))
        {
            for text in [alloc::format!("SELECT {a} {b} {c};"), alloc::format!("select{a}{b} {c}")] {
                assert_eq!(look(text.as_bytes()), read(text.as_bytes()), "{text}");
            }
        }
    }

    #[test]
    fn a_plain_select_says_nothing_that_has_a_meaning() {
        for word in MEANINGS.iter().map(|word| core::str::from_utf8(word).unwrap_or_default()) {
            for blank in [" ", "(", "\n", "."] {
                let text = alloc::format!("select x{blank}{word}{blank}y");
                assert!(!plain::is_plain_select(text.as_bytes()), "{text}");
                let text = alloc::format!("select x_{word}{blank}y{word}");
                assert!(plain::is_plain_select(text.as_bytes()), "{text}");
            }
        }
    }

    #[test]
    fn words_that_mean_something_are_not_passed_over() {
        for word in MEANINGS {
            assert!(may_mean(word) && may_mean(&word.to_ascii_uppercase()));
        }
        let sees = |text: &str, what: fn(Traits) -> bool| assert!(what(look(text.as_bytes())), "{text}");
        sees("update PG_SETTINGS set setting = 1", |t| t.sets);
        sees("select PG_TEMP.f()", |t| t.temporary);
        sees("prepare TRANSACTION 'x'", |t| t.ends);
        sees("rollback work TO x", |t| !t.ends);
        sees("set LOCAL a = 1", |t| !t.sets);
        sees("set CONSTRAINTS all deferred", |t| !t.sets);
    }

    #[test]
    fn names_of_prepared_statements() {
        let found = |text: &'static str| prepared_name(text.as_bytes()).map(|r| &text[r]);
        assert_eq!(found("DEALLOCATE _pg3_0"), Some("_pg3_0"));
        assert_eq!(found("/* whose */ -- why\nEXECUTE x"), Some("x"));
        assert_eq!(found("; EXECUTE x"), Some("x"));
        assert_eq!(found("analyze; deallocate x"), None);
        assert_eq!(found("explain analyze; execute x"), None);
        assert_eq!(found(" deallocate prepare \"a b\";"), Some("a b"));
        assert_eq!(found("EXECUTE x(1, 2)"), Some("x"));
        assert_eq!(found("explain (costs off) execute x"), Some("x"));
        assert_eq!(found("DEALLOCATE ALL"), None);
        assert_eq!(found("delete from t"), None);
        assert_eq!(found("explain select 1"), None);
    }

    #[test]
    fn settings_of_an_application() {
        let found = |text: &'static str| own_settings(text.as_bytes()).collect::<alloc::vec::Vec<_>>();
        assert_eq!(found("SET app.user_id = '7.5'"), [b"app.user_id".as_slice()]);
        assert_eq!(found("select set_config('a.b','x',false)"), [b"a.b".as_slice()]);
    }
}
