//! The toy language's words, and messages for tests.

use std::collections::VecDeque;

use wire::frame::Header;
use wire::front;

/// The statements of a text.
pub fn split(text: &str) -> VecDeque<String> {
    text.split(';').map(str::trim).filter(|text| !text.is_empty()).map(String::from).collect()
}

/// The strings of a text, and its NULLs, in their order.
pub fn literals(text: &str) -> Vec<Option<String>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\'', 'N']) {
        if rest[at..].starts_with("NULL") {
            found.push(None);
            rest = &rest[at + 4..];
            continue;
        }
        if rest.as_bytes()[at] == b'N' {
            rest = &rest[at + 1..];
            continue;
        }
        let end = rest[at + 1..].find('\'').expect("a closing quote") + at + 1;
        found.push(Some(rest[at + 1..end].into()));
        rest = &rest[end + 1..];
    }
    found
}

/// Messages one after another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Say(pub Vec<u8>);

impl Say {
    pub fn query(mut self, text: &str) -> Say {
        front::query(&mut self.0, text.as_bytes());
        self
    }

    pub fn parse(mut self, name: &str, text: &str) -> Say {
        let tail = [text.as_bytes(), &[0, 0, 0]].concat();
        front::parse(&mut self.0, name.as_bytes(), &tail);
        self
    }

    pub fn bind(mut self, portal: &str, statement: &str) -> Say {
        front::bind_head(&mut self.0, portal.as_bytes(), statement.as_bytes(), 6);
        self.0.extend([0; 6]);
        self
    }

    pub fn execute(mut self, portal: &str, rows: i32) -> Say {
        wire::put::message(&mut self.0, front::EXECUTE, |to| {
            wire::put::cstr(to, portal.as_bytes());
            to.extend(rows.to_be_bytes());
        });
        self
    }

    pub fn of_statement(mut self, tag: u8, name: &str) -> Say {
        front::of_statement(&mut self.0, tag, name.as_bytes());
        self
    }

    pub fn of_portal(mut self, tag: u8, name: &str) -> Say {
        wire::put::message(&mut self.0, tag, |to| {
            to.push(b'P');
            wire::put::cstr(to, name.as_bytes());
        });
        self
    }

    pub fn bare(mut self, tag: u8) -> Say {
        wire::put::message(&mut self.0, tag, |_| {});
        self
    }

    pub fn sync(self) -> Say {
        self.bare(front::SYNC)
    }

    /// Parse, Bind, Execute of the unnamed statement.
    pub fn run(self, text: &str) -> Say {
        self.parse("", text).bind("", "").execute("", 0)
    }

    pub fn copy_data(mut self, text: &str) -> Say {
        wire::put::message(&mut self.0, front::COPY_DATA, |to| to.extend_from_slice(text.as_bytes()));
        self
    }

    pub fn copy_fail(mut self) -> Say {
        wire::put::message(&mut self.0, front::COPY_FAIL, |to| wire::put::cstr(to, b"no"));
        self
    }
}

/// The whole messages of a stream: types and bodies.
pub fn messages(bytes: &[u8]) -> Vec<(char, Vec<u8>)> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while let Some(header) = Header::read(rest).expect("a stream in order") {
        let Some(body) = header.body(rest) else { break };
        found.push((char::from(header.tag), body.to_vec()));
        rest = &rest[wire::frame::HEADER_BYTES + body.len()..];
    }
    found
}

/// The same to be read by people: types, and what tags, errors and states say.
pub fn readable(bytes: &[u8]) -> Vec<String> {
    let one = |(tag, body): (char, Vec<u8>)| match tag {
        'C' => format!("C {}", String::from_utf8_lossy(&body[..body.len() - 1])),
        'Z' => format!("Z {}", char::from(body[0])),
        'E' => {
            let field = |key| wire::back::field(&body, key).unwrap_or_default();
            format!("E {} {}", String::from_utf8_lossy(field(b'C')), String::from_utf8_lossy(field(b'M')))
        }
        'D' | 'S' | 'd' => format!("{tag} {}", String::from_utf8_lossy(&body).replace('\0', ".")),
        _ => tag.to_string(),
    };
    messages(bytes).into_iter().map(one).collect()
}
