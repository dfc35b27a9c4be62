//! Numbers and times as people read them, and tables that line up.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Prints a line. Whoever reads us may have had enough, which is no failure of
/// ours: what was begun goes on.
pub fn out(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Milliseconds as `12 ms`, `3.4 s`, `5 min`.
pub fn span(ms: u64) -> String {
    match ms {
        0..=999 => format!("{ms} ms"),
        1_000..=119_999 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        120_000..=7_199_999 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

/// How long ago a Unix moment was.
pub fn ago(at_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    span(u64::try_from(now.as_millis()).unwrap_or(u64::MAX).saturating_sub(at_ms))
}

/// A Unix moment as the time of day, UTC.
pub fn clock(at_ms: u64) -> String {
    let s = at_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}.{:03}", s / 3600, s / 60 % 60, s % 60, at_ms % 1000)
}

/// Bytes as `0`, `512 B`, `3.1 MB`.
pub fn bytes(n: u64) -> String {
    match n {
        0 => "0".to_string(),
        1..=1023 => format!("{n} B"),
        1024..=1_048_575 => format!("{} kB", n / 1024),
        _ => format!("{}.{} MB", n >> 20, ((n & 0xF_FFFF) * 10) >> 20),
    }
}

/// Rows in columns as wide as their widest word.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|w| w.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let words: Vec<String> = row.iter().zip(&widths).map(|(w, width)| format!("{w:<width$}")).collect();
        words.join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
