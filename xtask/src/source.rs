//! Tells Rust code from comments and literals, without parsing it.
//!
//! A word search over raw text would find `unsafe` in a sentence and a brace
//! in a string. So each text is blanked twice, byte for byte at the same
//! place: `code` without comments and literals, `spoken` without comments
//! only. Line numbers and offsets of the three texts agree.
//!
//! Never needs the text to compile; on an unclosed literal it blanks the rest.

/// A Rust text, blanked.
pub struct Rust {
    /// Neither comments nor literals: what the compiler acts on.
    pub code: String,
    /// Literals kept, comments gone: what the program may say.
    pub spoken: String,
}

/// What a stretch of text is, if not code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Comment,
    Literal,
}

impl Rust {
    /// Blanks `text`.
    pub fn read(text: &str) -> Rust {
        let mut code = text.as_bytes().to_vec();
        let mut spoken = code.clone();
        for (kind, from, to) in stretches(text.as_bytes()) {
            blank(&mut code[from..to]);
            if kind == Kind::Comment {
                blank(&mut spoken[from..to]);
            }
        }
        Rust { code: text_of(code), spoken: text_of(spoken) }
    }

    /// Places in the code where `word` stands as a whole word.
    pub fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        words(&self.code, word)
    }

    /// The line, from 1, of the byte at `offset`.
    pub fn line_of(&self, offset: usize) -> usize {
        line_of(&self.code, offset)
    }

    /// The stretches of `#[cfg(test)] mod … { … }`.
    pub fn test_modules(&self) -> Vec<(usize, usize)> {
        let mut found: Vec<(usize, usize)> = Vec::new();
        for (at, _) in self.code.match_indices("#[cfg(") {
            let attribute_end = self.code[at..].find(']').map_or(self.code.len(), |n| at + n + 1);
            let inside_another = found.last().is_some_and(|&(_, end)| at < end);
            if !inside_another && words(&self.code[at..attribute_end], "test").next().is_some() {
                found.extend(module_after(&self.code, attribute_end).map(|end| (at, end)));
            }
        }
        found
    }
}

/// Where the module that starts right after `from` ends; `None` if something else starts there.
fn module_after(code: &str, from: usize) -> Option<usize> {
    let rest = code[from..].trim_start();
    let start = code.len() - rest.len();
    let is_module =
        rest.starts_with("mod ") || rest.starts_with("pub mod ") || rest.starts_with("pub(crate) mod ");
    let open = rest.find(['{', ';'])?;
    (is_module && rest.as_bytes()[open] == b'{').then(|| closing_brace(code, start + open))
}

/// The offset just past the brace that closes the one at `open`.
pub fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (i, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return i + 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    code.len()
}

/// Places in `text` where `word` stands with no letter, digit or underscore beside it.
pub fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = text.as_bytes();
    text.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = at.checked_sub(1).map(|i| bytes[i]);
        let after = bytes.get(at + word.len()).copied();
        !before.is_some_and(in_word) && !after.is_some_and(in_word)
    })
}

/// The line, from 1, of the byte at `offset` of `text`.
pub fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset].iter().filter(|&&b| b == b'\n').count()
}

/// Whether `byte` may stand in a name.
pub fn in_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

fn blank(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
}

fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("stretches begin and end at ASCII characters, so no character was cut")
}

/// Every comment and literal: its kind, its first byte, the byte after its last.
fn stretches(text: &[u8]) -> Vec<(Kind, usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        if let Some((kind, end)) = stretch_at(text, at) {
            found.push((kind, at, end));
            at = end;
        } else if in_word(text[at]) {
            // A whole name at once: the `r` of `for"` must not look like a raw string's.
            at += text[at..].iter().take_while(|b| in_word(**b)).count();
        } else {
            at += 1;
        }
    }
    found
}

/// The comment or literal that begins at `at`, and where it ends.
fn stretch_at(text: &[u8], at: usize) -> Option<(Kind, usize)> {
    let rest = &text[at..];
    match rest {
        [b'/', b'/', ..] => Some((Kind::Comment, at + line_length(rest))),
        [b'/', b'*', ..] => Some((Kind::Comment, at + block_length(rest))),
        [b'\'', ..] => character_length(rest).map(|n| (Kind::Literal, at + n)),
        _ => string_length(rest).map(|n| (Kind::Literal, at + n)),
    }
}

fn line_length(rest: &[u8]) -> usize {
    rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len())
}

/// Block comments nest.
fn block_length(rest: &[u8]) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i < rest.len() {
        match &rest[i..] {
            [b'/', b'*', ..] => (depth, i) = (depth + 1, i + 2),
            [b'*', b'/', ..] if depth == 1 => return i + 2,
            [b'*', b'/', ..] => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    rest.len()
}

/// `'x'` and `'\n'` are characters; `'a` is a lifetime and no literal.
fn character_length(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        let end = rest.iter().skip(3).position(|&b| b == b'\'')?;
        return Some(3 + end + 1);
    }
    let width = match rest.get(1)? {
        b if b.is_ascii() => 1,
        b => b.leading_ones() as usize,
    };
    (rest.get(1 + width) == Some(&b'\'')).then_some(1 + width + 1)
}

/// A string with any of the prefixes `b`, `c`, `r`, `br`, `cr`, or none.
fn string_length(rest: &[u8]) -> Option<usize> {
    let prefix = rest.iter().take(2).take_while(|b| matches!(b, b'b' | b'c' | b'r')).count();
    if rest.get(prefix) == Some(&b'\'') && rest.first() == Some(&b'b') {
        return character_length(&rest[prefix..]).map(|n| prefix + n);
    }
    let raw = prefix > 0 && rest[prefix - 1] == b'r';
    let hashes = if raw { rest[prefix..].iter().take_while(|b| **b == b'#').count() } else { 0 };
    let open = prefix + hashes;
    (rest.get(open) == Some(&b'"')).then(|| {
        let body = &rest[open + 1..];
        open + 1 + if raw { raw_body_length(body, hashes) } else { body_length(body) }
    })
}

fn body_length(body: &[u8]) -> usize {
    let mut i = 0;
    while i < body.len() {
        match body[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    body.len()
}

fn raw_body_length(body: &[u8], hashes: usize) -> usize {
    let closes = |i: usize| {
        body[i] == b'"' && body[i + 1..].iter().take(hashes).filter(|b| **b == b'#').count() == hashes
    };
    (0..body.len()).find(|&i| closes(i)).map_or(body.len(), |i| i + 1 + hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of `text` as code, its blanks removed.
    fn check(text: &str, code: &str) {
        let rust = Rust::read(text);
        assert_eq!(rust.code.len(), text.len(), "{text}");
        assert_eq!(rust.code.split_whitespace().collect::<String>(), code, "{text}");
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        check("a // b {\nc", "ac");
        check("a /* b /* c */ d */ e", "ae");
        check(r#"a "b\"{" c"#, "ac");
        check(r##"a r#"b"{"# c"##, "ac");
        check(r#"a r"\" c"#, "ac");
        check(r#"a br"b" c"d" b"e" f"#, "af");
        check("a '{' '\\'' '\\u{7b}' b'}' 'ä' b", "ab");
        check("a 'b' //'", "a");
        check("\"ä{\" a", "a");
    }

    #[test]
    fn lifetimes_and_names_are_code() {
        check("fn f<'a>(x: &'a str) {}", "fnf<'a>(x:&'astr){}");
        check("r#fn r#type brr", "r#fnr#typebrr");
        check("'outer: loop { break 'outer; }", "'outer:loop{break'outer;}");
    }

    #[test]
    fn an_unclosed_literal_blanks_the_rest() {
        check("a \"b", "a");
        check("a /* b", "a");
        check("a r#\"b\"", "a");
        check("a \"b\\", "a");
        check("a '\\", "a'\\");
    }

    #[test]
    fn what_is_spoken_keeps_its_strings() {
        let rust = Rust::read("a(\"TAN\"); // TAN");
        assert_eq!(rust.spoken.trim_end(), "a(\"TAN\");");
        assert_eq!(words(&rust.spoken, "TAN").count(), 1);
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(words("sleep asleep sleep_ sleep(", "sleep").collect::<Vec<_>>(), [0, 20]);
    }

    #[test]
    fn test_modules_are_found_and_end_where_they_end() {
        let rust = Rust::read(
            "fn f() {}\n#[cfg(test)]\nmod tests { fn g() { h(\"}\") } }\nfn i() {}\n#[cfg(test)]\nfn j() {}",
        );
        let found = rust.test_modules();
        assert_eq!(found.len(), 1);
        assert!(rust.code[found[0].0..found[0].1].ends_with("} }"));
        assert!(Rust::read("#[cfg(test)]\nmod tests;\nmod a {}").test_modules().is_empty());
    }
}
