//! Tables as the console shows them: columns with PostgreSQL's types, as text or binary.

use wire::{back, put};

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `text`.
    Text,
    /// `int4`.
    Int,
    /// `int8`.
    Big,
    /// `numeric`.
    Numeric,
}

impl Kind {
    /// Its number and length in pg_type.
    fn of(self) -> (u32, i16) {
        match self {
            Kind::Text => (25, -1),
            Kind::Int => (23, 4),
            Kind::Big => (20, 8),
            Kind::Numeric => (1700, -1),
        }
    }
}

/// Name and type of a column.
pub type Column = (&'static str, Kind);

/// What stands in a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// In a column of type text.
    Text(String),
    /// In a column of numbers.
    Number(u64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_string())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Number(number)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        Value::Number(number as u64)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Number(number.into())
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Value {
        Value::Number(is.into())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

/// One row.
pub type Row = Vec<Value>;

/// In which format each column is wanted, as Bind says it: none is text, one is for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formats(pub Vec<i16>);

impl Formats {
    fn of(&self, column: usize) -> i16 {
        match self.0.as_slice() {
            [] => 0,
            [all] => *all,
            each => each.get(column).copied().unwrap_or(0),
        }
    }
}

/// Appends RowDescription.
pub fn describe(out: &mut Vec<u8>, columns: &[Column], formats: &Formats) {
    put::message(out, back::ROW_DESCRIPTION, |out| {
        out.extend(count(columns.len()));
        for (at, (name, kind)) in columns.iter().enumerate() {
            let (oid, length) = kind.of();
            put::cstr(out, name.as_bytes());
            out.extend([0; 6]); // of no table
            out.extend(oid.to_be_bytes());
            out.extend(length.to_be_bytes());
            out.extend((-1_i32).to_be_bytes());
            out.extend(formats.of(at).to_be_bytes());
        }
    });
}

/// Appends DataRow.
///
/// # Panics
/// When the row does not fit its columns: a bug of ours.
pub fn row(out: &mut Vec<u8>, columns: &[Column], formats: &Formats, row: &Row) {
    assert_eq!(columns.len(), row.len(), "a row has its columns: {columns:?}");
    put::message(out, back::DATA_ROW, |out| {
        out.extend(count(row.len()));
        for (at, ((_, kind), value)) in columns.iter().zip(row).enumerate() {
            let bytes = match (value, formats.of(at)) {
                (Value::Null, _) => {
                    out.extend((-1_i32).to_be_bytes());
                    continue;
                }
                (Value::Text(text), _) => text.as_bytes().to_vec(),
                (Value::Number(n), 0) => as_text(*kind, *n),
                (Value::Number(n), _) => as_binary(*kind, *n),
            };
            let length = i32::try_from(bytes.len()).expect("a field of ours is far below 2 GB");
            out.extend(length.to_be_bytes());
            out.extend(bytes);
        }
    });
}

/// What does not fit a type is shown as its greatest.
fn as_text(kind: Kind, n: u64) -> Vec<u8> {
    match kind {
        Kind::Int => i32::try_from(n).unwrap_or(i32::MAX).to_string(),
        Kind::Big => i64::try_from(n).unwrap_or(i64::MAX).to_string(),
        Kind::Text | Kind::Numeric => n.to_string(),
    }
    .into_bytes()
}

fn as_binary(kind: Kind, n: u64) -> Vec<u8> {
    match kind {
        Kind::Int => i32::try_from(n).unwrap_or(i32::MAX).to_be_bytes().to_vec(),
        Kind::Big => i64::try_from(n).unwrap_or(i64::MAX).to_be_bytes().to_vec(),
        Kind::Text => n.to_string().into_bytes(),
        Kind::Numeric => numeric(n),
    }
}

/// A whole number as `numeric_send` has it: count of digits, weight of the first, sign, scale, digits of base 10000.
fn numeric(mut n: u64) -> Vec<u8> {
    let mut digits: Vec<i16> = Vec::new();
    while n > 0 {
        digits.push(i16::try_from(n % 10_000).unwrap_or(0));
        n /= 10_000;
    }
    digits.reverse();
    let weight = i16::try_from(digits.len()).unwrap_or(0) - 1;
    let head = [i16::try_from(digits.len()).unwrap_or(0), weight.max(0), 0, 0];
    head.into_iter().chain(digits).flat_map(i16::to_be_bytes).collect()
}

fn count(n: usize) -> [u8; 2] {
    i16::try_from(n).expect("a table of ours has few columns").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_of_their_types() {
        assert_eq!(as_text(Kind::Int, 1 << 40), b"2147483647");
        assert_eq!(as_binary(Kind::Big, 258), [0, 0, 0, 0, 0, 0, 1, 2]);
        // 12345678 is 1234 and 5678 to base 10000.
        assert_eq!(numeric(12_345_678), [0, 2, 0, 1, 0, 0, 0, 0, 0x04, 0xd2, 0x16, 0x2e]);
        assert_eq!(numeric(0), [0; 8]);
    }

    #[test]
    fn one_format_is_for_all_columns() {
        assert_eq!(Formats(vec![1]).of(7), 1);
        assert_eq!(Formats(vec![0, 1]).of(1), 1);
        assert_eq!(Formats(vec![]).of(1), 0);
    }
}
