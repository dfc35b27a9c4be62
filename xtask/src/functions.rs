//! Finds functions and how long they are.
//!
//! Good enough for a size limit, not a parser: it follows brackets from the
//! word `fn` to the brace that closes the body.

use crate::source::{Rust, closing_brace, in_word, line_of};

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of `fn`, from 1.
    pub line: usize,
    /// Lines from `fn` to the closing brace, both included.
    pub length: usize,
    /// The byte of `fn`, and the one after the closing brace.
    pub extent: (usize, usize),
}

/// Every function with a body in `rust`, also those inside others.
pub fn functions(rust: &Rust) -> Vec<Function> {
    rust.words("fn").filter_map(|at| function_at(&rust.code, at)).collect()
}

fn function_at(code: &str, at: usize) -> Option<Function> {
    let after = code[at + 2..].trim_start();
    // `fn(u8)` is a type, `fn $name` a macro's.
    let name: String = after.bytes().take_while(|b| in_word(*b) || *b == b'#').map(char::from).collect();
    let open = body_start(code, at + 2)?;
    let end = closing_brace(code, open);
    let (line, last) = (line_of(code, at), line_of(code, end - 1));
    (!name.is_empty()).then(|| Function { name, line, length: last - line + 1, extent: (at, end) })
}

/// The brace that opens the body; `None` for a declaration without one.
fn body_start(code: &str, from: usize) -> Option<usize> {
    let bytes = code.as_bytes();
    let (mut depth, mut i) = (0usize, from);
    while i < bytes.len() {
        match bytes[i] {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            // A constant in a type: `Buffer<{ N + 1 }>`.
            b'{' if depth > 0 || code[from..i].trim_end().ends_with('<') => i = closing_brace(code, i) - 1,
            b'{' => return Some(i),
            b';' if depth == 0 => return None,
            _ => {}
        }
        i += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name and length of each function in `text`.
    fn check(text: &str, expected: &[(&str, usize)]) {
        let found = functions(&Rust::read(text));
        let found: Vec<(&str, usize)> = found.iter().map(|f| (f.name.as_str(), f.length)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn bodies_are_measured() {
        check("fn a() {}", &[("a", 1)]);
        check("fn a()\nwhere T: B,\n{\n  \"}\";\n}\nfn b() {\n}", &[("a", 5), ("b", 2)]);
        check("fn a(x: [u8; 3], y: fn(u8) -> u8) -> Buffer<{ 1 + 2 }> {\n}", &[("a", 2)]);
        check("fn a() {\n  fn b() {\n  }\n}", &[("a", 4), ("b", 2)]);
        check("fn a() {\n  let c = '{';\n  // }\n}", &[("a", 4)]);
    }

    #[test]
    fn what_has_no_body_is_no_function() {
        check("trait T { fn a(&self) -> [u8; 2]; fn b(&self) {} }", &[("b", 1)]);
        check("type F = fn(u8) -> u8;", &[]);
        check("macro_rules! m { ($n:ident) => { fn $n() {} } }", &[]);
    }
}
