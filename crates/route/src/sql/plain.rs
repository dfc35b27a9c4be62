//! Whether a text is one plain SELECT: most texts are, and each is looked at.

use super::{may_mean, tokens};

/// Whether a text is one SELECT of nothing but words and signs that mean nothing here, without strings, comments and
/// names in quotes. The others are read.
pub(super) fn is_plain_select(text: &[u8]) -> bool {
    let text = text.strip_suffix(b";").unwrap_or(text);
    let Some((select, mut rest)) = text.split_at_checked(6) else { return false };
    let longer = rest.first().is_some_and(|b| tokens::is_in_word(*b));
    if longer || !select.eq_ignore_ascii_case(b"select") {
        return false;
    }
    while let [b, behind @ ..] = rest {
        if tokens::is_in_word(*b) {
            let end = behind.iter().position(|b| !tokens::is_in_word(*b)).unwrap_or(behind.len());
            let (word, next) = rest.split_at(end + 1);
            // Of those with a dollar only $1 and the like are words; the others begin strings.
            let dollar = word.starts_with(b"$") && !word[1..].iter().all(u8::is_ascii_digit);
            if dollar || may_mean(word) {
                return false;
            }
            rest = next;
        } else if tokens::stands_alone(*b) {
            rest = behind;
        } else {
            return false;
        }
    }
    true
}
