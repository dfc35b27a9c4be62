//! A moment as people type it: from now on, in UTC, or as Unix milliseconds.
//!
//! Never guesses a time zone: what is not from now on must end in Z.

use std::time::{SystemTime, UNIX_EPOCH};

/// Farthest that anything can be planned ahead: a year, in milliseconds.
const AHEAD_MAX_MS: u64 = 366 * 86_400_000;

/// Unix milliseconds of `text`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(text: &str) -> Result<u64, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let at = read(text, now).ok_or("write +90s, +10m, +2h, 2026-11-24T02:00:00Z or Unix milliseconds")?;
    if at < now {
        return Err("it is over".to_string());
    }
    if at - now > AHEAD_MAX_MS {
        return Err("it is more than a year ahead".to_string());
    }
    Ok(at)
}

fn read(text: &str, now_ms: u64) -> Option<u64> {
    if let Some(span) = text.strip_prefix('+') {
        let unit = match span.chars().last()? {
            's' => 1_000,
            'm' => 60_000,
            'h' => 3_600_000,
            _ => return None,
        };
        let count: u64 = span.get(..span.len() - 1)?.parse().ok()?;
        return now_ms.checked_add(count.checked_mul(unit)?);
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok();
    }
    let (date, time) = text.strip_suffix('Z')?.split_once(['T', ' '])?;
    let [year, month, day] = three(date, '-')?;
    let [hour, minute, second] = three(time, ':')?;
    let fits = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !fits || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(seconds * 1_000)
}

fn three(text: &str, mark: char) -> Option<[u64; 3]> {
    let numbers: Option<Vec<u64>> = text.split(mark).map(|n| n.parse().ok()).collect();
    numbers?.try_into().ok()
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (H. Hinnant,
/// "chrono-compatible low-level date algorithms", `days_from_civil`).
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_they_are_typed() {
        let cases = [
            ("+90s", Some(91_000)),
            ("+2h", Some(7_201_000)),
            ("1795550000000", Some(1_795_550_000_000)),
            ("1970-01-01T00:00:01Z", Some(1_000)),
            ("2026-11-24 02:00:00Z", Some(1_795_485_600_000)),
            ("2024-02-29T23:59:59Z", Some(1_709_251_199_000)),
            ("2026-11-24T02:00:00", None),
            ("2026-13-01T00:00:00Z", None),
            ("+5d", None),
            ("+", None),
            ("tomorrow", None),
            ("+99999999999999999999s", None),
        ];
        for (text, at) in cases {
            assert_eq!(read(text, 1_000), at, "{text}");
        }
        assert!(parse("1").is_err() && parse("+9000h").is_err() && parse("+1h").is_ok());
    }
}
