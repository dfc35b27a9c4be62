//! The front in the words of stories.
//!
//! ```text
//! proxy p1 [on w] [settle none|commits] [strict]  a proxy, by itself or on a host; settles everything if nothing else is said
//! apps 4 40ms                              so many applications at the proxies, with pauses up to that
//! via p1 x1 single                         one does one thing (single, prepared, block, at-once, undone, read), here x1
//! cancel-app x1                            and cancels it
//! cancel-waits leader                      pg_cancel_backend for every proxied commit that waits there
//! cut-proxy p1 n1 [for 2s]                 the link between a proxy and a server is cut, silently
//! deafen-proxy p1 [for 2s]                 a proxy hears no agent
//! when front-commit any kill it postmaster points: front-insert, front-commit, front-answer
//! expect told x1 done within 5s | expect told x1 40001 within 5s | expect untold x1 for 2s
//! expect once x1 | expect never x1         how often the log of the open leader has it
//! expect reached "words" | unreached "words"  whether something was reached, as marks say it
//! expect leased p1 within 1s               it holds a lease
//! expect fronted within 60s                every application was told that a write is done, since the last calm
//! ```

use cluster::NodeId;
use route::Rules;

use crate::clock::{Us, us};
use crate::fault::Over;
use crate::network::At;
use crate::story::Line;
use crate::wal::Record;
use crate::world::{What, World};

use super::app::Kind;
use super::told::Told;

/// Connections of each proxy: fewer than it has applications.
const SIZE: usize = 3;

/// Does what a line says; `None` if it is about something else.
pub fn act(world: &mut World, line: &Line) -> Option<Result<(), String>> {
    Some(match line.word(0) {
        "proxy" => proxy(world, line),
        "apps" => apps(world, line),
        "via" => via(world, line),
        "cancel-app" => named(world, line.word(1)).map(|op| {
            let app = world.front.ops[op].app;
            let number = world.front.apps[app].number();
            world.app_cancels(app, number);
        }),
        "cancel-waits" => server(world, line, 1).map(|at| world.cancel_waits(at)),
        "cut-proxy" => cut(world, line),
        "deafen-proxy" => deafen(world, line),
        _ => return None,
    })
}

fn proxy(world: &mut World, line: &Line) -> Result<(), String> {
    let home = line.after("on").map(NodeId::new).transpose().map_err(|e| e.to_string())?;
    let home = home.map(|home| world.place(&home)).transpose()?;
    let settles = line.after("settle").unwrap_or("all");
    let rules = Rules {
        rides: true,
        settle_commits: settles != "none",
        settle_autocommit: settles == "all",
        ..Rules::default()
    };
    world.add_proxy(line.word(1), home, rules, SIZE);
    if line.words.iter().any(|w| w == "strict") {
        world.make_strict(world.front.proxies.len() - 1);
    }
    Ok(())
}

fn apps(world: &mut World, line: &Line) -> Result<(), String> {
    let count = line.word(1).parse().map_err(|_| "apps COUNT PAUSE")?;
    let pause = us(crate::story::span(line.word(2))?);
    if !world.front.is_there() {
        return Err("there is no proxy".into());
    }
    world.start_apps(count, pause);
    Ok(())
}

fn via(world: &mut World, line: &Line) -> Result<(), String> {
    let proxy = proxy_at(world, line.word(1))?;
    let kind = match line.word(3) {
        "single" => Kind::Single,
        "prepared" => Kind::Prepared,
        "block" => Kind::Block,
        "at-once" => Kind::AtOnce,
        "undone" => Kind::Undone,
        "read" => Kind::Read,
        other => return Err(format!("'{other}' is nothing that applications do")),
    };
    let app = world.add_app(proxy, None);
    let op = world.app_begins(app, kind);
    world.front.named.insert(line.word(2).to_string(), op);
    Ok(())
}

fn cut(world: &mut World, line: &Line) -> Result<(), String> {
    let (proxy, at) = (proxy_at(world, line.word(1))?, server(world, line, 2)?);
    *world.front.proxies[proxy].cut.entry(at).or_default() += 1;
    last(world, line.span("for")?.map(us), Over::ProxyLink(proxy, at));
    Ok(())
}

fn deafen(world: &mut World, line: &Line) -> Result<(), String> {
    let proxy = proxy_at(world, line.word(1))?;
    world.front.proxies[proxy].deaf = true;
    last(world, line.span("for")?.map(us), Over::ProxyHears(proxy));
    Ok(())
}

fn last(world: &mut World, span: Option<Us>, over: Over) {
    if let Some(span) = span {
        world.after(span, What::Over(world.calms, Box::new(over)));
    }
}

fn proxy_at(world: &World, name: &str) -> Result<usize, String> {
    world.front.proxies.iter().position(|p| p.name == name).ok_or(format!("there is no proxy {name}"))
}

fn server(world: &World, line: &Line, i: usize) -> Result<At, String> {
    let leader = world.truth.ctl.leader.as_ref().filter(|_| line.word(i) == crate::fault::LEADER);
    match leader {
        Some(leader) => world.place(&leader.node),
        None => world.place(&line.node(i)?),
    }
}

fn named(world: &World, name: &str) -> Result<usize, String> {
    world.front.named.get(name).copied().ok_or(format!("there is no operation {name}"))
}

type Check = Box<dyn Fn(&World) -> bool>;

/// What an `expect` line asks of the front; `None` if it is about something else.
#[must_use]
pub fn condition(line: &Line) -> Option<Check> {
    let (name, what) = (line.word(2).to_string(), line.word(3).to_string());
    Some(match line.word(1) {
        "told" => Box::new(move |w| {
            let told = named(w, &name).ok().and_then(|op| w.front.ops[op].told.clone());
            match told.map(|(told, _)| told) {
                Some(Told::Done) => what == "done",
                Some(Told::Failed(code)) => code == what,
                Some(Told::Closed) => what == "closed",
                Some(Told::Lost) => what == "lost",
                None => false,
            }
        }),
        "untold" => Box::new(move |w| named(w, &name).is_ok_and(|op| w.front.ops[op].told.is_none())),
        "once" => Box::new(move |w| times(w, &name) == Some(1)),
        "never" => Box::new(move |w| times(w, &name) == Some(0)),
        "reached" => {
            let mark = line.words.iter().skip(2).take_while(|w| *w != "within").cloned().collect::<Vec<_>>();
            let mark = mark.join(" ");
            Box::new(move |w| w.marks.contains(&mark))
        }
        "unreached" => Box::new(move |w| !w.marks.contains(&name)),
        "leased" => Box::new(move |w| proxy_at(w, &name).is_ok_and(|p| w.leased(p).is_some())),
        "fronted" => Box::new(|w| {
            let served = |a: &super::App| a.pause().is_none() || a.done_at > w.front.calmed_at;
            w.front.apps.iter().all(served)
        }),
        _ => return None,
    })
}

fn times(world: &World, name: &str) -> Option<usize> {
    let op = named(world, name).ok()?;
    let (_, at) = world.open_leader()?;
    let wal = &world.hosts[at].server.wal;
    let runs = &world.front.ops[op].runs;
    Some(wal.records.iter().filter_map(Record::commits).filter(|w| runs.contains(w)).count())
}
