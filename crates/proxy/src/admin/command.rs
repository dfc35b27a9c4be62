//! The words of the console: what PgBouncer takes, and ours.

use wire::back::Words;

use super::set;

/// What can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// The list of commands.
    Help,
    /// Who we are.
    Version,
    /// Pools, with clients and servers by what they do.
    Pools,
    /// Clients.
    Clients,
    /// Connections to servers.
    Servers,
    /// Both.
    Sockets,
    /// Databases.
    Databases,
    /// Users.
    Users,
    /// How many there are of everything.
    Lists,
    /// The configuration.
    Config,
    /// Memory that is held back for connections.
    Mem,
    /// Whether it stands still.
    State,
    /// Totals and averages for each database.
    Stats,
    /// Totals for each database.
    StatsTotals,
    /// Averages for each database.
    StatsAverages,
    /// Totals and averages of all.
    Totals,
    /// Where the servers are.
    Routes,
    /// Who keeps a server, and why.
    Pins,
    /// Statements that are kept prepared.
    Prepared,
    /// Names that the proxy looked up: it keeps none.
    DnsHosts,
    /// Zones of those.
    DnsZones,
    /// Other proxies that share clients: there are none.
    Peers,
    /// Pools of those.
    PeerPools,
}

/// All of them, by their words.
pub const SHOWS: [(&str, Show); 23] = [
    ("help", Show::Help),
    ("version", Show::Version),
    ("pools", Show::Pools),
    ("clients", Show::Clients),
    ("servers", Show::Servers),
    ("sockets", Show::Sockets),
    ("databases", Show::Databases),
    ("users", Show::Users),
    ("lists", Show::Lists),
    ("config", Show::Config),
    ("mem", Show::Mem),
    ("state", Show::State),
    ("stats", Show::Stats),
    ("stats_totals", Show::StatsTotals),
    ("stats_averages", Show::StatsAverages),
    ("totals", Show::Totals),
    ("routes", Show::Routes),
    ("pins", Show::Pins),
    ("prepared", Show::Prepared),
    ("dns_hosts", Show::DnsHosts),
    ("dns_zones", Show::DnsZones),
    ("peers", Show::Peers),
    ("peer_pools", Show::PeerPools),
];

/// What can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Nothing at all.
    Empty,
    /// A table.
    Show(Show),
    /// A setting that some drivers look at before they begin.
    Setting(&'static str, &'static str),
    /// Whether anybody is there (`SELECT 1`).
    One,
    /// Change a setting: PgBouncer's key, and its value.
    Set(String, String),
    /// What means nothing here and does no harm, and its tag: BEGIN, SET DateStyle.
    Ignored(&'static str),
    /// Let a database, or all, stand still.
    Pause(Option<String>),
    /// Let it go on.
    Resume(Option<String>),
    /// Take nobody in.
    Disable(String),
    /// Take clients in again.
    Enable(String),
    /// End all clients of a database.
    Kill(String),
    /// End one client.
    KillClient(u32),
    /// Open all connections to servers anew, one after the other.
    Reconnect(Option<String>),
    /// Wait until the old ones are gone.
    WaitClose(Option<String>),
    /// Read passwords and certificates anew.
    Reload,
    /// End.
    Shutdown {
        /// Only when the last client has left.
        waits: bool,
    },
}

/// Why a command is not done: SQLSTATE, words and a hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// SQLSTATE.
    pub code: &'static str,
    /// One sentence.
    pub message: String,
    /// More of it.
    pub detail: String,
}

impl Refused {
    /// With these words.
    #[must_use]
    pub fn new(code: &'static str, message: impl Into<String>) -> Refused {
        Refused { code, message: message.into(), detail: String::new() }
    }

    /// Appends it as an error.
    pub fn put(&self, out: &mut Vec<u8>) {
        Words::error(self.code, &self.message).detail(&self.detail).put(out);
    }
}

/// Settings that drivers ask for or set when they begin, with what we say.
const SETTINGS: [(&str, &str); 8] = [
    ("client_encoding", "UTF8"),
    ("default_transaction_isolation", "read committed"),
    ("standard_conforming_strings", "on"),
    ("datestyle", "ISO"),
    ("timezone", "UTC"),
    ("extra_float_digits", "2"),
    ("application_name", ""),
    ("client_min_messages", "notice"),
];

/// Words that open or end a transaction; there is none here.
const TRANSACTIONS: [(&str, &str); 6] = [
    ("begin", "BEGIN"),
    ("start", "START TRANSACTION"),
    ("commit", "COMMIT"),
    ("end", "COMMIT"),
    ("rollback", "ROLLBACK"),
    ("discard", "DISCARD ALL"),
];

/// Reads one command.
///
/// # Errors
/// 42601 for what is none, 22023 for what is named and can't be, 0A000 for what PgBouncer has and this has not.
pub fn read(text: &str) -> Result<Command, Refused> {
    let unknown = || Refused::new("42601", format!("invalid command '{}', use SHOW HELP;", text.trim()));
    let words = split(text).ok_or_else(unknown)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some((first, rest)) = words.split_first() else { return Ok(Command::Empty) };
    let verb = first.to_ascii_lowercase();
    if let Some((_, tag)) = TRANSACTIONS.iter().find(|(word, _)| *word == verb) {
        return Ok(Command::Ignored(tag));
    }
    let database = || match rest {
        [] => Ok(None),
        [one] => Ok(Some((*one).to_string())),
        _ => Err(unknown()),
    };
    let needed = || database()?.ok_or_else(|| Refused::new("42601", "a database is required"));
    match (verb.as_str(), rest) {
        ("show", [what]) => show(what).ok_or_else(unknown),
        ("select", ["1"]) => Ok(Command::One),
        ("select", [what]) => show(what).ok_or_else(unknown),
        ("set", [name, ..]) => set(name, text).ok_or_else(unknown),
        ("pause", _) => Ok(Command::Pause(database()?)),
        ("resume", _) => Ok(Command::Resume(database()?)),
        ("reconnect", _) => Ok(Command::Reconnect(database()?)),
        ("wait_close", _) => Ok(Command::WaitClose(database()?)),
        ("disable", _) => Ok(Command::Disable(needed()?)),
        ("enable", _) => Ok(Command::Enable(needed()?)),
        ("kill", _) => Ok(Command::Kill(needed()?)),
        ("kill_client", [id]) => match id.parse() {
            Ok(id) => Ok(Command::KillClient(id)),
            Err(_) => {
                Err(Refused::new("22023", format!("'{id}' is no id of a client: SHOW CLIENTS has them")))
            }
        },
        ("reload", []) => Ok(Command::Reload),
        ("shutdown", []) => Ok(Command::Shutdown { waits: false }),
        ("shutdown", [how]) if how.eq_ignore_ascii_case("wait_for_clients") => {
            Ok(Command::Shutdown { waits: true })
        }
        ("shutdown", [how]) if how.eq_ignore_ascii_case("wait_for_servers") => {
            Err(Refused::new("0A000", "SHUTDOWN WAIT_FOR_SERVERS is not done here: PAUSE, then SHUTDOWN"))
        }
        ("suspend", []) => {
            Err(Refused::new("0A000", "SUSPEND is not done here: PAUSE stops work between transactions"))
        }
        _ => Err(unknown()),
    }
}

fn show(what: &str) -> Option<Command> {
    let what = what.to_ascii_lowercase();
    let setting = SETTINGS.iter().find(|(name, _)| *name == what);
    let table = SHOWS.iter().find(|(word, _)| *word == what);
    table.map(|(_, show)| Command::Show(*show)).or_else(|| setting.map(|(n, v)| Command::Setting(n, v)))
}

fn set(name: &str, text: &str) -> Option<Command> {
    let name = name.split('=').next().unwrap_or_default().to_ascii_lowercase();
    if SETTINGS.iter().any(|(known, _)| *known == name) || name == "session" {
        return Some(Command::Ignored("SET"));
    }
    let behind = text.trim().trim_end_matches(';').trim().get("set".len()..)?;
    set::assignment(behind).map(|(name, value)| Command::Set(name, value))
}

/// The words, of which those in double quotes may be anything; `None` for what no command can be.
fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim().trim_end_matches(';').trim();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (word, behind) = unquote(quoted)?;
            words.push(word);
            rest = behind;
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            if word.contains([';', '"']) {
                return None;
            }
            words.push(word.to_string());
            rest = behind;
        }
        rest = rest.trim_start();
    }
    Some(words)
}

fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"')?;
        word.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                word.push('"');
                rest = more;
            }
            None => {
                return (rest.is_empty() || rest.starts_with(char::is_whitespace)).then_some((word, rest));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(name: &str) -> Option<String> {
        Some(name.to_string())
    }

    #[test]
    fn commands_are_read_as_pgbouncer_reads_them() {
        for (text, command) in [
            ("", Command::Empty),
            (" ; ", Command::Empty),
            ("SHOW POOLS;", Command::Show(Show::Pools)),
            ("show\n stats_totals", Command::Show(Show::StatsTotals)),
            ("show DateStyle", Command::Setting("datestyle", "ISO")),
            ("select 1", Command::One),
            ("BEGIN", Command::Ignored("BEGIN")),
            ("set extra_float_digits = 3", Command::Ignored("SET")),
            ("SET application_name='x'", Command::Ignored("SET")),
            ("SET pool_mode = session;", Command::Set("pool_mode".to_string(), "session".to_string())),
            ("pause", Command::Pause(None)),
            ("Pause Shop", Command::Pause(some("Shop"))),
            ("resume \"My \"\"Shop\"\"; 2\"", Command::Resume(some("My \"Shop\"; 2"))),
            ("reconnect a-b", Command::Reconnect(some("a-b"))),
            ("wait_close", Command::WaitClose(None)),
            ("disable shop", Command::Disable("shop".to_string())),
            ("enable shop;", Command::Enable("shop".to_string())),
            ("kill shop", Command::Kill("shop".to_string())),
            ("KILL_CLIENT 17", Command::KillClient(17)),
            ("reload", Command::Reload),
            ("shutdown", Command::Shutdown { waits: false }),
            ("SHUTDOWN Wait_For_Clients;", Command::Shutdown { waits: true }),
        ] {
            assert_eq!(read(text), Ok(command), "{text}");
        }
    }

    #[test]
    fn what_is_none_says_so() {
        for (text, code) in [
            ("show", "42601"),
            ("show pools; show lists", "42601"),
            ("show nothing", "42601"),
            ("pause a b", "42601"),
            ("pause \"a", "42601"),
            ("pause \"a\"b", "42601"),
            ("kill", "42601"),
            ("disable", "42601"),
            ("select version()", "42601"),
            ("kill_client x", "22023"),
            ("kill_client -1", "22023"),
            ("suspend", "0A000"),
            ("shutdown wait_for_servers", "0A000"),
            ("set pool_mode", "42601"),
            ("set pool_mode = 'session", "42601"),
            ("reload now", "42601"),
        ] {
            assert_eq!(read(text).map_err(|r| r.code), Err(code), "{text}");
        }
    }
}
