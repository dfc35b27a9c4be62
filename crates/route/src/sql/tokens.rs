//! The words, strings and signs of a text, as PostgreSQL's scan.l sees them; no more than is needed here.

/// What a text is made of, as PostgreSQL's scan.l sees it, but for numbers, which are words here.
pub(super) enum Token<'a> {
    Word(&'a [u8]),
    /// A string: '...', E'...', $tag$...$tag$.
    Literal(&'a [u8]),
    /// A name in double quotes.
    Quoted(&'a [u8]),
    Symbol(u8),
}

pub(super) struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    pub(super) fn of(text: &'a [u8]) -> Tokens<'a> {
        Tokens { rest: text }
    }

    fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.rest.split_at(n.min(self.rest.len()));
        self.rest = tail;
        head
    }

    /// Takes up to and with the closing `quote`; two of them are one inside.
    fn quoted(&mut self, quote: u8, backslash: bool) -> &'a [u8] {
        let mut at = 1;
        while let Some(b) = self.rest.get(at) {
            match b {
                b'\\' if backslash => at += 2,
                b if *b == quote && self.rest.get(at + 1) == Some(&quote) => at += 2,
                b if *b == quote => return self.take(at + 1),
                _ => at += 1,
            }
        }
        self.take(usize::MAX)
    }

    fn dollar(&mut self) -> Token<'a> {
        let name = self.rest[1..].iter().take_while(|b| is_word(**b)).count();
        let digits_first = self.rest.get(1).is_some_and(u8::is_ascii_digit);
        if digits_first || self.rest.get(name + 1) != Some(&b'$') {
            self.take(1 + name);
            return Token::Literal(b"");
        }
        let tag = self.take(name + 2);
        let end = self.rest.windows(tag.len()).position(|w| w == tag);
        Token::Literal(self.take(end.map_or(usize::MAX, |end| end + tag.len())))
    }

    fn comment(&mut self) {
        let mut depth = 0_u32;
        loop {
            match self.rest {
                [b'/', b'*', ..] => depth += 1,
                [b'*', b'/', ..] => depth = depth.saturating_sub(1),
                [] => return,
                _ => {
                    self.take(1);
                    continue;
                }
            }
            self.take(2);
            if depth == 0 {
                return;
            }
        }
    }

    fn word(&mut self) -> Token<'a> {
        let end = self.rest.iter().position(|b| !IN_WORD[usize::from(*b)]);
        let word = self.take(end.unwrap_or(self.rest.len()));
        let escapes = matches!(word, b"e" | b"E") && self.rest.first() == Some(&b'\'');
        if escapes { Token::Literal(self.quoted(b'\'', true)) } else { Token::Word(word) }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let blanks = self.rest.iter().position(|b| KIND[usize::from(*b)] != Kind::Blank)?;
            self.rest = &self.rest[blanks..];
            let symbol = *self.rest.first()?;
            match KIND[usize::from(symbol)] {
                Kind::Word => return Some(self.word()),
                Kind::Quote => return Some(Token::Literal(self.quoted(b'\'', false))),
                Kind::Quotes => return Some(Token::Quoted(self.quoted(b'"', false))),
                Kind::Dollar => return Some(self.dollar()),
                Kind::Dash if self.rest.starts_with(b"--") => {
                    let line = self.rest.iter().position(|b| *b == b'\n');
                    self.take(line.unwrap_or(usize::MAX));
                }
                Kind::Slash if self.rest.starts_with(b"/*") => self.comment(),
                Kind::Blank | Kind::Dash | Kind::Slash | Kind::Symbol => {
                    self.rest = &self.rest[1..];
                    return Some(Token::Symbol(symbol));
                }
            }
        }
    }
}

/// What begins with a byte: every statement is read, so a look is cheaper than comparisons.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Symbol,
    Blank,
    Word,
    Quote,
    Quotes,
    Dollar,
    Dash,
    Slash,
}

const KIND: [Kind; 256] = {
    let mut kind = [Kind::Symbol; 256];
    let mut b = 0_u8;
    loop {
        kind[b as usize] = match b {
            b'\'' => Kind::Quote,
            b'"' => Kind::Quotes,
            b'$' => Kind::Dollar,
            b'-' => Kind::Dash,
            b'/' => Kind::Slash,
            _ if b.is_ascii_whitespace() => Kind::Blank,
            _ if b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80 => Kind::Word,
            _ => Kind::Symbol,
        };
        if b == u8::MAX {
            break kind;
        }
        b += 1;
    }
};

/// Which bytes go on with a word.
const IN_WORD: [bool; 256] = {
    let mut is = [false; 256];
    let mut b = 0;
    while b < is.len() {
        is[b] = matches!(KIND[b], Kind::Word | Kind::Dollar);
        b += 1;
    }
    is
};

/// Whether a byte may go on with a word.
pub(super) fn is_in_word(b: u8) -> bool {
    IN_WORD[usize::from(b)]
}

/// Whether a byte is a blank, or a sign that neither begins nor ends anything.
pub(super) fn stands_alone(b: u8) -> bool {
    ALONE[usize::from(b)]
}

const ALONE: [bool; 256] = {
    let mut is = [false; 256];
    let mut b = 0;
    while b < is.len() {
        is[b] = matches!(KIND[b], Kind::Blank | Kind::Symbol) && b != b';' as usize;
        b += 1;
    }
    is
};

fn is_word(b: u8) -> bool {
    KIND[usize::from(b)] == Kind::Word
}
