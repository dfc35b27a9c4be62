//! Makes our file the last word in `postgresql.conf`, and keeps ALTER SYSTEM
//! from having a later one on what is ours.
//!
//! Never touches a line that says something about another setting.

use crate::config::parameters;
use crate::durable;
use crate::error::Result;
use crate::layout::{MAIN_CONF, NodeDir};
use crate::os_user::RunAs;

/// Makes `include 'tanist.conf'` the last line of `postgresql.conf`. Returns
/// whether the file changed.
///
/// # Errors
/// `File`.
pub fn include_ours_last(dir: &NodeDir, owner: RunAs) -> Result<bool> {
    let path = dir.conf("postgresql.conf");
    let text = durable::text_if_there(&path)?;
    durable::replace_if_other(&path, with_include_last(&text).as_bytes(), owner)
}

fn with_include_last(text: &str) -> String {
    let include = format!("include '{MAIN_CONF}'");
    let mut kept: String =
        text.lines().filter(|line| line.trim() != include).map(|line| format!("{line}\n")).collect();
    kept.push_str(&include);
    kept.push('\n');
    kept
}

/// Takes our settings out of `postgresql.auto.conf`. Returns whether there were any.
///
/// A running server may rewrite that file at the same moment. Either version is
/// whole, and whichever loses is only an ALTER SYSTEM that its author sees undone.
///
/// # Errors
/// `File`.
pub fn strip_overrides(dir: &NodeDir, owner: RunAs) -> Result<bool> {
    let path = dir.conf("postgresql.auto.conf");
    let text = durable::text_if_there(&path)?;
    let kept = without_owned(&text);
    if kept == text {
        return Ok(false);
    }
    tracing::warn!("settings of ours had been overridden by ALTER SYSTEM; they were taken out again");
    durable::replace_if_other(&path, kept.as_bytes(), owner)
}

fn without_owned(text: &str) -> String {
    text.lines().filter(|line| !parameters::is_owned(name_in(line))).map(|line| format!("{line}\n")).collect()
}

/// The setting that a line is about; "" for a comment or an empty line.
fn name_in(line: &str) -> &str {
    let line = line.trim_start();
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).unwrap_or(line.len());
    line.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_include_is_last_and_single() {
        let once = with_include_last("port = 1\n");
        assert_eq!(once, "port = 1\ninclude 'tanist.conf'\n");
        assert_eq!(with_include_last(&once), once);
        let appended = format!("{once}fsync = off\n");
        assert_eq!(with_include_last(&appended), "port = 1\nfsync = off\ninclude 'tanist.conf'\n");
        assert_eq!(with_include_last("port = 1"), "port = 1\ninclude 'tanist.conf'\n");
    }

    #[test]
    fn only_our_settings_are_taken_out_of_auto_conf() {
        let text = "# comment about primary_conninfo\nwork_mem = '8MB'\nprimary_conninfo = 'host=x'\n\
                    Synchronous_Standby_Names=''\n  port 1\nreport_x.port = '1'\n";
        assert_eq!(
            without_owned(text),
            "# comment about primary_conninfo\nwork_mem = '8MB'\nreport_x.port = '1'\n"
        );
    }
}
