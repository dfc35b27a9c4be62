//! The startup packet: who a client is, and what it wants.
//!
//! Read as PostgreSQL's `ProcessStartupPacket` does, oddities included, since
//! a proxy that reads a packet otherwise than the server behind it can be
//! talked into letting one user in as another.
//!
//! The packet is kept as it came, in one piece: a stranger can make us hold
//! 10 kB, and no more.
//!
//! Never assumes that text is UTF-8: at this point nobody has said which
//! encoding it is in.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::{Setting, StartError, Version, options};

/// The longest name of a user or database: PostgreSQL's `NAMEDATALEN` less the final zero.
pub const NAME_BYTES_MAX: usize = 63;

const PROTOCOL_OPTION: &[u8] = b"_pq_.";

/// A startup packet that is whole, names a user, and has a major version that we speak.
#[derive(Clone, PartialEq, Eq)]
pub struct Startup {
    version: Version,
    user: Vec<u8>,
    database: Vec<u8>,
    replication: Replication,
    /// The pairs, each name and value with its zero; the last zero of the packet is cut off.
    pairs: Vec<u8>,
}

/// Whether the connection is for replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    /// An ordinary connection.
    Off,
    /// For physical replication; belongs to no database, whatever the packet says.
    Physical,
    /// For logical replication; belongs to a database.
    Database,
}

impl Startup {
    pub(super) fn parse(version: Version, body: &[u8]) -> Result<Startup, StartError> {
        if version.major != Version::V3_0.major {
            return Err(StartError::Unsupported(version));
        }
        let pairs = checked_pairs(body)?;
        let replication = replication(Pairs(pairs))?;
        let user = last(pairs, b"user").ok_or(StartError::NoUser)?;
        let database = last(pairs, b"database").unwrap_or(user);
        let (user, database) = (clip(user).to_vec(), clip(database).to_vec());
        Ok(Startup { version, user, database, replication, pairs: pairs.to_vec() })
    }

    /// The version that the client asked for; what is spoken is up to `negotiate`.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The user's name, 1 to 63 bytes.
    ///
    /// A longer name is cut, as PostgreSQL does. We cut before a UTF-8 character that would be split, which is also
    /// how `CREATE ROLE` cuts; PostgreSQL's own startup cuts in its middle, and then can't find the role.
    pub fn user(&self) -> &[u8] {
        &self.user
    }

    /// The database's name, 1 to 63 bytes, cut like the user's; the user's name if none was given.
    pub fn database(&self) -> &[u8] {
        &self.database
    }

    /// What `replication` asks for.
    pub fn replication(&self) -> Replication {
        self.replication
    }

    /// All pairs of name and value in the packet's order, nothing left out or cut.
    pub fn pairs(&self) -> Pairs<'_> {
        Pairs(&self.pairs)
    }

    /// The pairs that are settings of the server, in the packet's order: all but `user`, `database`, `options`,
    /// `replication` and `_pq_.*`. Of two with one name the later counts; ASCII case doesn't.
    pub fn parameters(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs().filter(|(name, _)| is_setting(name))
    }

    /// The value of the parameter `name` that counts, such as `application_name`. Doesn't look into `options`.
    pub fn parameter(&self, name: &[u8]) -> Option<&[u8]> {
        self.parameters().filter(|(n, _)| n.eq_ignore_ascii_case(name)).last().map(|(_, value)| value)
    }

    /// The settings within `options`, in its order. PostgreSQL judges them only after it knows the client to be who
    /// it says; so should a caller.
    pub fn options(&self) -> Result<Vec<Setting>, StartError> {
        options::parse(last(&self.pairs, b"options").unwrap_or_default())
    }

    /// All settings in the order in which PostgreSQL applies them: `options`, then the parameters. The later counts.
    pub fn settings(&self) -> Result<Vec<Setting>, StartError> {
        let mut settings = self.options()?;
        settings.extend(
            self.parameters().map(|(name, value)| Setting { name: name.to_vec(), value: value.to_vec() }),
        );
        Ok(settings)
    }

    /// Names of the protocol options (`_pq_.*`) that the client asked for. We know none, so all are unknown.
    pub fn unknown_options(&self) -> impl Iterator<Item = &[u8]> {
        self.pairs().map(|(name, _)| name).filter(|name| name.starts_with(PROTOCOL_OPTION))
    }
}

impl fmt::Debug for Startup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes);
        let (version, replication) = (self.version, self.replication);
        let (user, database) = (text(&self.user), text(&self.database));
        write!(f, "Startup {{ {version}, user: {user:?}, database: {database:?}, {replication:?} }}")
    }
}

fn is_setting(name: &[u8]) -> bool {
    let ours: [&[u8]; 4] = [b"user", b"database", b"options", b"replication"];
    !ours.contains(&name) && !name.starts_with(PROTOCOL_OPTION)
}

/// The pairs of a packet, if they end with the terminator and that is the packet's last byte.
fn checked_pairs(body: &[u8]) -> Result<&[u8], StartError> {
    let mut rest = body;
    while rest.first().is_some_and(|byte| *byte != 0) {
        let _name = take_text(&mut rest).ok_or(StartError::Layout)?;
        let _value = take_text(&mut rest).ok_or(StartError::Layout)?;
    }
    if rest == [0] { Ok(&body[..body.len() - 1]) } else { Err(StartError::Layout) }
}

/// The last value that isn't empty under `name`: PostgreSQL takes an empty one for none, but lets it undo an earlier.
fn last<'a>(pairs: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    Pairs(pairs).filter(|(n, _)| *n == name).last().map(|(_, value)| value).filter(|value| !value.is_empty())
}

/// PostgreSQL keeps two flags: being for replication, which each later value sets anew, and having asked for a
/// database, which stays. So `database` and then `true` is `Database` still.
fn replication(pairs: Pairs<'_>) -> Result<Replication, StartError> {
    let (mut replicates, mut with_database) = (false, false);
    for (_, value) in pairs.filter(|(name, _)| *name == b"replication") {
        with_database |= value == b"database";
        replicates = value == b"database" || parse_bool(value).ok_or_else(|| not_boolean(value))?;
    }
    Ok(match (replicates, with_database) {
        (false, _) => Replication::Off,
        (true, false) => Replication::Physical,
        (true, true) => Replication::Database,
    })
}

fn not_boolean(value: &[u8]) -> StartError {
    StartError::Replication(String::from_utf8_lossy(value).into_owned())
}

/// PostgreSQL's `parse_bool`: any beginning of true, false, yes, no; on, of, off; 1 and 0; ASCII case doesn't count.
fn parse_bool(value: &[u8]) -> Option<bool> {
    let begins = |word: &[u8], least: usize| {
        value.len() >= least && word.get(..value.len()).is_some_and(|w| w.eq_ignore_ascii_case(value))
    };
    if begins(b"true", 1) || begins(b"yes", 1) || begins(b"on", 2) || value == b"1" {
        Some(true)
    } else if begins(b"false", 1) || begins(b"no", 1) || begins(b"off", 2) || value == b"0" {
        Some(false)
    } else {
        None
    }
}

/// `name`, no longer than PostgreSQL's names are.
fn clip(name: &[u8]) -> &[u8] {
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    match core::str::from_utf8(name) {
        Ok(text) => &name[..text.floor_char_boundary(NAME_BYTES_MAX)],
        Err(_) => &name[..NAME_BYTES_MAX],
    }
}

/// Pairs of name and value, each ended by a zero byte.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a>(&'a [u8]);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        Some((take_text(&mut self.0)?, take_text(&mut self.0)?))
    }
}

/// The text up to the next zero byte, which is dropped; `None` if there is no zero.
pub(super) fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == 0)?;
    let text = &rest[..end];
    *rest = &rest[end + 1..];
    Some(text)
}
