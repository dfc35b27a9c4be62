//! The syntax of pg_hba.conf.
//!
//! Words are parted by blanks, lists by commas; `"` takes a word's meaning from
//! it, so `"all"` is a database of that name. What PostgreSQL has and the proxy
//! can't do (roles, patterns, files, names of hosts, other methods) is refused
//! with its line: a rule that is passed over would leave the one behind it to
//! decide.

use super::{Addresses, Kind, Line, Method, Name, Rule};
use crate::network::Network;

/// Rules that a file may have.
pub const RULES_MAX: usize = 10_000;

/// One word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Without its quotes.
    pub text: String,
    /// It had some.
    pub quoted: bool,
}

/// The fields of a line, each a list of words; none for a line that is empty or a comment.
///
/// # Errors
/// A quote that does not end.
pub fn fields(line: &str) -> Result<Vec<Vec<Word>>, String> {
    let mut fields: Vec<Vec<Word>> = Vec::new();
    let mut joined = false;
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        if first == '#' {
            break;
        }
        if first == ',' {
            joined = true;
            rest = rest[1..].trim_start();
            continue;
        }
        let (word, behind) = word(rest)?;
        match fields.last_mut() {
            Some(list) if joined => list.push(word),
            Some(_) | None => fields.push(vec![word]),
        }
        joined = false;
        rest = behind.trim_start();
    }
    Ok(fields)
}

/// The first word, and what stands behind it. A part of it may be quoted, as in `map="a b"`.
fn word(text: &str) -> Result<(Word, &str), String> {
    let (mut word, mut inside) = (Word { text: String::new(), quoted: text.starts_with('"') }, false);
    let mut chars = text.chars();
    loop {
        let before = chars.as_str();
        match chars.next() {
            None if inside => return Err("a quote does not end".to_string()),
            None => return Ok((word, "")),
            Some('"') if inside && chars.as_str().starts_with('"') => {
                chars.next();
                word.text.push('"');
            }
            Some('"') => inside = !inside,
            Some(c) if !inside && (c.is_whitespace() || c == ',' || c == '#') => return Ok((word, before)),
            Some(c) => word.text.push(c),
        }
    }
}

/// Reads a file.
///
/// # Errors
/// The line, and what is wrong with it.
pub fn rules(text: &str) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(i, l)| (i + 1, l)) {
        let at = |why: String| format!("line {number}: {why}");
        let fields = fields(line).map_err(at)?;
        if fields.is_empty() {
            continue;
        }
        rules.push(rule(&fields).map_err(at)?);
        if rules.len() > RULES_MAX {
            return Err(at(format!("there are more than {RULES_MAX} rules")));
        }
    }
    Ok(rules)
}

/// One rule of our own configuration.
///
/// # Errors
/// What is wrong with it.
pub fn rule_of(line: &Line) -> Result<Rule, String> {
    let kind = kind(&line.kind)?;
    let names = |text: &str| match fields(text)?.as_slice() {
        [list] => Ok(list.clone()),
        _ => Err(format!("\"{text}\" is no list of names")),
    };
    let addresses = match (kind, line.address.as_deref()) {
        (Kind::Local, None) => Addresses::All,
        (Kind::Local, Some(_)) => return Err("a unix socket has no address".to_string()),
        (_, None) => return Err("it has no address: say address = \"all\" or a network".to_string()),
        (_, Some(text)) => addresses(text)?,
    };
    let (databases, users) = (databases(&names(&line.database)?)?, users(&names(&line.user)?)?);
    fitting(Rule { kind, databases, users, addresses, method: line.method, map: line.map.clone() })
}

fn rule(fields: &[Vec<Word>]) -> Result<Rule, String> {
    let mut rest = fields.iter();
    let mut next = |what: &str| rest.next().ok_or_else(|| format!("it ends before {what}"));
    let kind = kind(&single(next("the type")?)?)?;
    let databases = databases(next("the databases")?)?;
    let users = users(next("the users")?)?;
    let mut addresses = Addresses::All;
    let mut word = single(next(if kind == Kind::Local { "the method" } else { "the address" })?)?;
    if kind != Kind::Local {
        let behind = single(next("the method")?)?;
        let is_mask = Method::of(&behind).is_none() && behind.parse::<std::net::IpAddr>().is_ok();
        (addresses, word) = match is_mask {
            true => (Addresses::In(Network::masked(&word, &behind)?), single(next("the method")?)?),
            false => (self::addresses(&word)?, behind),
        };
    }
    let method = Method::of(&word).ok_or_else(|| {
        format!("the method \"{word}\" is not known here: trust, reject, scram-sha-256, md5, password, cert and peer are")
    })?;
    let mut map = None;
    for option in rest {
        match single(option)?.split_once('=') {
            Some(("map", name)) => map = Some(name.to_string()),
            // What `cert` does anyway.
            Some(("clientcert", "verify-full")) if method == Method::Cert => {}
            _ => return Err(format!("the option \"{}\" is not known here: map is", option[0].text)),
        }
    }
    fitting(Rule { kind, databases, users, addresses, method, map })
}

/// Whether method and kind of connection go together.
fn fitting(rule: Rule) -> Result<Rule, String> {
    match (rule.method, rule.kind) {
        (Method::Peer, Kind::Host | Kind::HostSsl | Kind::HostNoSsl) => {
            Err("peer is for unix sockets: say local".to_string())
        }
        (Method::Cert, Kind::Local | Kind::HostNoSsl) => {
            Err("cert is for connections with TLS: say hostssl".to_string())
        }
        (Method::Trust | Method::Reject | Method::Scram | Method::Md5 | Method::Password, _)
            if rule.map.is_some() =>
        {
            Err("a map is for cert and peer".to_string())
        }
        _ => Ok(rule),
    }
}

fn single(words: &[Word]) -> Result<String, String> {
    match words {
        [word] => Ok(word.text.clone()),
        _ => Err("there is a list where one word belongs".to_string()),
    }
}

fn kind(word: &str) -> Result<Kind, String> {
    match word {
        "local" => Ok(Kind::Local),
        "host" => Ok(Kind::Host),
        "hostssl" => Ok(Kind::HostSsl),
        "hostnossl" => Ok(Kind::HostNoSsl),
        other => {
            Err(format!("the type \"{other}\" is not known here: local, host, hostssl and hostnossl are"))
        }
    }
}

fn databases(words: &[Word]) -> Result<Vec<Name>, String> {
    names(words, |word| match word {
        "sameuser" => Some(Ok(Name::SameUser)),
        "replication" => Some(Ok(Name::Replication)),
        "samerole" | "samegroup" => Some(Err(format!("{word}: roles of roles are not known here"))),
        _ => None,
    })
}

fn users(words: &[Word]) -> Result<Vec<Name>, String> {
    names(words, |_| None)
}

fn names(
    words: &[Word],
    special: impl Fn(&str) -> Option<Result<Name, String>>,
) -> Result<Vec<Name>, String> {
    let name = |word: &Word| match word.text.as_str() {
        text if word.quoted => Ok(Name::Is(text.to_string())),
        "all" => Ok(Name::All),
        text if text.starts_with(['/', '+', '@']) => {
            Err(format!("{text}: patterns, roles and files are not understood here"))
        }
        text => special(text).unwrap_or_else(|| Ok(Name::Is(text.to_string()))),
    };
    words.iter().map(name).collect()
}

fn addresses(word: &str) -> Result<Addresses, String> {
    match word {
        "all" => Ok(Addresses::All),
        "samehost" => Ok(Addresses::SameHost),
        "samenet" => Err("samenet: write the network".to_string()),
        network => Network::parse(network).map(Addresses::In),
    }
}
