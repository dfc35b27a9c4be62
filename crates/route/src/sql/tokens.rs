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
        let length = self.rest.iter().take_while(|b| is_word(**b) || **b == b'$').count();
        let escaped = length == 1 && matches!(self.rest, [b'e' | b'E', b'\'', ..]);
        let word = self.take(length);
        if escaped { Token::Literal(self.quoted(b'\'', true)) } else { Token::Word(word) }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            match self.rest {
                [] => return None,
                [b'-', b'-', ..] => {
                    let line = self.rest.iter().position(|b| *b == b'\n');
                    self.take(line.unwrap_or(usize::MAX));
                }
                [b'/', b'*', ..] => self.comment(),
                [b'\'', ..] => return Some(Token::Literal(self.quoted(b'\'', false))),
                [b'"', ..] => return Some(Token::Quoted(self.quoted(b'"', false))),
                [b'$', ..] => return Some(self.dollar()),
                [b, ..] if is_word(*b) => return Some(self.word()),
                [b, ..] => {
                    self.rest = &self.rest[1..];
                    if !b.is_ascii_whitespace() {
                        return Some(Token::Symbol(*b));
                    }
                }
            }
        }
    }
}

/// Which bytes words are made of: every statement is read, so a look is cheaper than a comparison of ranges.
const WORD: [bool; 256] = {
    let mut is = [false; 256];
    let mut b = 0_u8;
    loop {
        is[b as usize] = b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
        if b == u8::MAX {
            break is;
        }
        b += 1;
    }
};

fn is_word(b: u8) -> bool {
    WORD[b as usize]
}
