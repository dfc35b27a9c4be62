//! What a client wants of the cluster, as it says when it logs in.
//!
//! ```text
//!   tanist.target in its startup message ▶ else the end of the database's name ▶ else the port
//! ```
//! All three may stand side by side, so one port is enough. A database that is
//! configured under its full name is that database, whatever its name ends with.

use route::Settings;

use crate::after;
use crate::auth::Denied;
use crate::config::Config;
use crate::routing::Target;

/// What settings of ours begin with; none of them means anything to a server.
pub const PREFIX: &str = "tanist.";
/// `write`, `read` or `any`.
pub const TARGET: &str = "tanist.target";

/// What is written for a target.
#[must_use]
pub fn word(target: Target) -> &'static str {
    match target {
        Target::Primary => "write",
        Target::Replica => "read",
        Target::Any => "any",
    }
}

impl Config {
    /// The database that a client means by `name`, and what it wants there if the name says so.
    #[must_use]
    pub fn meant<'a>(&self, name: &'a str) -> (&'a str, Option<Target>) {
        let exact = self.databases.iter().any(|d| d.name == name);
        let ends = [(&self.read_suffix, Target::Replica), (&self.write_suffix, Target::Primary)];
        let by_end = ends.into_iter().filter(|(end, _)| !end.is_empty() && !exact);
        let mut meant = by_end.filter_map(|(end, target)| {
            let base = name.strip_suffix(end.as_str()).filter(|base| !base.is_empty())?;
            Some((base, Some(target)))
        });
        meant.next().unwrap_or((name, None))
    }
}

/// Takes what is meant for the proxy out of a startup message's settings.
///
/// # Errors
/// There is no such setting, or not with that value.
pub fn take(settings: &mut Settings) -> Result<Option<Target>, Denied> {
    if let Some(lsn) = settings.get(after::READ_AFTER) {
        after::parse(lsn)
            .ok_or_else(|| invalid(after::READ_AFTER, lsn, "It is an LSN, as SHOW tanist.lsn gives it."))?;
    }
    let target = settings.remove(TARGET);
    let unknown = settings.keys().find(|name| name.starts_with(PREFIX) && *name != after::READ_AFTER);
    if let Some(name) = unknown {
        // PostgreSQL's words for a prefix that somebody has reserved (`assignable_custom_variable_name` in guc.c).
        let words =
            format!("invalid configuration parameter name \"{name}\": \"tanist\" is a reserved prefix");
        return Err(Denied::Told("42602", words));
    }
    let all = [Target::Primary, Target::Replica, Target::Any];
    target
        .map(|is| {
            let found = all.into_iter().find(|t| word(*t) == is.to_ascii_lowercase());
            found.ok_or_else(|| invalid(TARGET, &is, "Available values: write, read, any."))
        })
        .transpose()
}

fn invalid(name: &str, value: &str, hint: &str) -> Denied {
    Denied::Told("22023", format!("invalid value for parameter \"{name}\": \"{value}\". {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(lines: &str) -> Config {
        let text = format!("auth.kind = \"trust\"\n{lines}\n[[server]]\naddress = \"db:5432\"\n");
        Config::parse(&text, std::path::Path::new("proxy.toml")).expect("it is right")
    }

    #[test]
    fn the_end_of_a_name_says_what_is_wanted() {
        let read = Some(Target::Replica);
        let plain = config("");
        assert_eq!(plain.meant("shop@ro"), ("shop", read));
        assert_eq!(plain.meant("shop@rw"), ("shop", Some(Target::Primary)));
        assert_eq!(plain.meant("shop"), ("shop", None));
        assert_eq!(plain.meant("@ro"), ("@ro", None), "a database must be left");
        let named = config("read_suffix = \"_ro\"\nwrite_suffix = \"\"\n");
        assert_eq!(named.meant("shop_ro"), ("shop", read));
        assert_eq!(named.meant("shop@rw"), ("shop@rw", None));
        assert_eq!(config("read_suffix = \"\"").meant("shop@ro"), ("shop@ro", None));
    }

    #[test]
    fn a_database_of_that_name_is_that_database() {
        let lines =
            "read_suffix = \"_ro\"\n[[database]]\nname = \"shop_ro\"\n[[database]]\nname = \"shop\"\n";
        assert_eq!(config(lines).meant("shop_ro"), ("shop_ro", None));
        let lines = "read_suffix = \"_ro\"\n[[database]]\nname = \"*\"\n";
        assert_eq!(config(lines).meant("shop_ro"), ("shop", Some(Target::Replica)));
    }

    #[test]
    fn a_startup_message_says_it_too() {
        let said = |pairs: &[(&str, &str)]| {
            let mut settings: Settings = pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            let taken = take(&mut settings).map_err(|denied| match denied {
                Denied::Told(code, words) => format!("{code} {words}"),
                other => format!("{other:?}"),
            });
            (taken, settings.keys().cloned().collect::<Vec<_>>().join(" "))
        };
        assert_eq!(said(&[("a", "1")]), (Ok(None), "a".to_string()));
        for (is, target) in [("write", Target::Primary), ("READ", Target::Replica), ("any", Target::Any)] {
            assert_eq!(said(&[("a", "1"), (TARGET, is)]), (Ok(Some(target)), "a".to_string()));
        }
        for (name, value, code) in [
            (TARGET, "standby", "22023"),
            (TARGET, "", "22023"),
            ("tanist.targets", "read", "42602"),
            (after::READ_AFTER, "yesterday", "22023"),
        ] {
            let refused = said(&[(name, value)]).0.expect_err(name);
            assert!(refused.starts_with(code) && refused.contains(name), "{refused}");
        }
        assert_eq!(said(&[(after::READ_AFTER, "0/16B3748")]), (Ok(None), after::READ_AFTER.to_string()));
    }
}
