//! What the console changes: who stands still, who is ended, what is read anew.

use std::rc::Rc;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::command::{Command, Refused, Show};
use super::show::pin_words;
use super::{Interrupt, May};
use crate::client_tls::FrontTls;
use crate::control::{Control, Order};
use crate::gates::Stop;
use crate::live::{keep, read_again};
use crate::pool::Pool;
use crate::reactor::Reactor;
use crate::secrets::Common;

/// Clients that an error names.
const NAMED_MAX: usize = 5;
/// Longest that clients may take to leave once the proxy ends.
const LEAVE_LIMIT: std::time::Duration = std::time::Duration::from_secs(5);

/// Whether a user may give this command.
///
/// # Errors
/// 42501 if not.
pub fn allowed(may: May, command: &Command) -> Result<(), Refused> {
    let looks = match command {
        // The texts of statements may tell more than figures do.
        Command::Show(show) => *show != Show::Prepared,
        Command::Empty | Command::Setting(..) | Command::One | Command::Ignored(_) => true,
        Command::Pause(_)
        | Command::Resume(_)
        | Command::Disable(_)
        | Command::Enable(_)
        | Command::Kill(_)
        | Command::KillClient(_)
        | Command::Reconnect(_)
        | Command::WaitClose(_)
        | Command::Reload
        | Command::Set(..)
        | Command::Shutdown { .. } => false,
    };
    if looks || may == May::All {
        return Ok(());
    }
    Err(Refused::new("42501", "admin access needed: this user is in admin.stats_users only"))
}

/// Does what a command changes, and gives its tag.
///
/// # Errors
/// Why it was not done.
pub async fn run(
    reactor: &Rc<Reactor>,
    command: &Command,
    interrupt: &Interrupt,
) -> Result<&'static str, Refused> {
    match command {
        Command::Empty => return Ok(""),
        Command::Show(_) | Command::Setting(..) => return Ok("SHOW"),
        Command::One => return Ok("SELECT 1"),
        Command::Ignored(tag) => return Ok(tag),
        _ => tracing::info!(?command, "a command of an administrator"),
    }
    // A cancel that came before anything was done is not for this. One that comes from here on is: what others see of
    // a command, they may cancel.
    tokio::select! {
        biased;
        () = interrupt.notified() => {}
        () = std::future::ready(()) => {}
    }
    match command {
        Command::Pause(database) => pause(reactor, database.as_deref(), interrupt).await.map(|()| "PAUSE"),
        Command::Resume(database) => resume(reactor, database.as_deref()).await.map(|()| "RESUME"),
        Command::Disable(database) => {
            exists(reactor, Some(database))?;
            reactor.threads.gates.set_disabled(database, true);
            Ok("DISABLE")
        }
        Command::Enable(database) => {
            exists(reactor, Some(database))?;
            reactor.threads.gates.set_disabled(database, false);
            Ok("ENABLE")
        }
        Command::Kill(database) => kill(reactor, database).await.map(|()| "KILL"),
        Command::KillClient(id) => kill_client(reactor, *id).await.map(|()| "KILL_CLIENT"),
        Command::Reconnect(database) => reconnect(reactor, database.as_deref()).await.map(|()| "RECONNECT"),
        Command::WaitClose(database) => {
            wait_close(reactor, database.as_deref(), interrupt).await.map(|()| "WAIT_CLOSE")
        }
        Command::Reload => reload(reactor).map(|()| "RELOAD"),
        Command::Set(key, value) => set(reactor, key, value).map(|()| "SET"),
        Command::Shutdown { waits } => {
            shutdown(reactor, *waits);
            Ok("SHUTDOWN")
        }
        Command::Empty | Command::Show(_) | Command::Setting(..) | Command::One | Command::Ignored(_) => {
            Ok("")
        }
    }
}

fn exists(reactor: &Reactor, database: Option<&str>) -> Result<(), Refused> {
    let Some(name) = database else { return Ok(()) };
    if super::is_console(name.as_bytes()) {
        return Err(Refused::new("22023", format!("'{name}' is the console itself")));
    }
    if reactor.config.has_database(name) {
        return Ok(());
    }
    Err(Refused::new("3D000", format!("no such database: {name}")))
}

/// The pools of a database, or all.
fn pools(reactor: &Reactor, database: Option<&str>) -> Vec<Rc<Pool>> {
    let all = reactor.pools().into_iter();
    all.filter(|p| database.is_none_or(|name| p.key.database == name)).collect()
}

/// Pools of all threads stand still or go on, as the gates say; clients that stood still look again.
async fn apply(reactor: &Reactor) {
    let here = |reactor: &Rc<Reactor>| {
        for pool in reactor.pools() {
            pool.paused.set(reactor.threads.gates.is_paused(&pool.key.database));
        }
        controls(reactor, |_| true).iter().for_each(|control| control.give(Order::Look));
        reactor.pump_all();
    };
    reactor.threads.ask(here).await;
}

fn controls(reactor: &Reactor, which: impl Fn(&crate::reactor::Listed) -> bool) -> Vec<Rc<Control>> {
    reactor.clients.borrow().values().filter(|c| which(c)).map(|c| c.control.clone()).collect()
}

/// No new transaction begins, and it is over when no connection to a server is left.
/// What does not come to rest in time goes on as if nothing had been said.
async fn pause(reactor: &Rc<Reactor>, database: Option<&str>, interrupt: &Interrupt) -> Result<(), Refused> {
    exists(reactor, database)?;
    let gates = &reactor.threads.gates;
    if gates.all_paused() {
        return Err(Refused::new("55000", "already suspended/paused"));
    }
    let fresh = match database {
        None => gates.set_all_paused(true),
        Some(name) => gates.pause(name),
    };
    apply(reactor).await;
    let name = database.map(str::to_string);
    let at_rest = move |reactor: &Rc<Reactor>| {
        let pools = pools(reactor, name.as_deref());
        pools.iter().for_each(|pool| pool.close_idle());
        pools.iter().all(|pool| pool.counts().0 == 0)
    };
    match wait_until(reactor, interrupt, at_rest).await {
        Ok(()) => Ok(()),
        Err(why) => {
            let message = format!("not paused, and all goes on: {}", why.words(reactor));
            let detail = holders(reactor, database).await;
            if fresh {
                open_gate(reactor, database).await;
            }
            Err(Refused { detail, ..Refused::new(why.code(), message) })
        }
    }
}

/// Why waiting ended in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vain {
    Late,
    Cancelled,
}

impl Vain {
    fn code(self) -> &'static str {
        match self {
            Vain::Late => "55006",
            Vain::Cancelled => "57014",
        }
    }

    fn words(self, reactor: &Reactor) -> String {
        let seconds = reactor.config.admin.pause_timeout.as_secs_f64();
        match self {
            Vain::Late => format!("connections to servers were still in use after {seconds} s"),
            Vain::Cancelled => "canceling statement due to user request".to_string(),
        }
    }
}

/// Waits until something holds on every thread that comes with the end of connections to servers.
async fn wait_until(
    reactor: &Rc<Reactor>,
    interrupt: &Interrupt,
    holds: impl Fn(&Rc<Reactor>) -> bool + Clone + Send + 'static,
) -> Result<(), Vain> {
    let end = Instant::now() + reactor.config.admin.pause_timeout;
    loop {
        let changed = reactor.threads.emptied.notified();
        let answers = reactor.threads.ask(holds.clone()).await;
        // A thread that does not answer in time may hold anything.
        if answers.len() == reactor.threads.count() && answers.into_iter().all(|holds| holds) {
            return Ok(());
        }
        tokio::select! {
            () = changed => {}
            () = interrupt.notified() => return Err(Vain::Cancelled),
            () = sleep_until(end) => return Err(Vain::Late),
        }
    }
}

/// Who still has a server, in words.
async fn holders(reactor: &Reactor, database: Option<&str>) -> String {
    let name = database.map(str::to_string);
    let all = reactor.threads.ask(move |reactor| holders_here(reactor, name.as_deref())).await.concat();
    let more = all.len().saturating_sub(NAMED_MAX);
    let named = all.into_iter().take(NAMED_MAX).collect::<Vec<_>>().join("; ");
    if more > 0 { format!("{named}; and {more} more") } else { named }
}

fn holders_here(reactor: &Reactor, database: Option<&str>) -> Vec<String> {
    let clients = reactor.clients.borrow();
    let ours = |c: &&crate::reactor::Listed| {
        c.facts.server.get() != 0 && database.is_none_or(|name| c.key.database == name)
    };
    let words = |c: &crate::reactor::Listed| {
        let pins = pin_words(c.facts.pins.get());
        let why = if pins.is_empty() { "is in a transaction or a session".to_string() } else { pins };
        let address = super::sockets::host(c.facts.addresses.0);
        format!("client {} ({}@{} from {address}) {why}", c.facts.id, c.key.user, c.key.database)
    };
    clients.values().filter(ours).map(words).collect()
}

async fn open_gate(reactor: &Reactor, database: Option<&str>) {
    match database {
        None => drop(reactor.threads.gates.set_all_paused(false)),
        Some(name) => reactor.threads.gates.resume(name),
    }
    apply(reactor).await;
}

async fn resume(reactor: &Reactor, database: Option<&str>) -> Result<(), Refused> {
    let gates = &reactor.threads.gates;
    match database {
        None if !gates.all_paused() => {
            return Err(Refused::new("55000", "pooler is not paused/suspended"));
        }
        Some(name) if !gates.is_paused_itself(name) => {
            exists(reactor, database)?;
            return Err(Refused::new("55000", format!("database {name} is not paused")));
        }
        None | Some(_) => {}
    }
    open_gate(reactor, database).await;
    Ok(())
}

/// Ends all clients of a database; whoever comes waits until RESUME.
async fn kill(reactor: &Reactor, database: &str) -> Result<(), Refused> {
    exists(reactor, Some(database))?;
    reactor.threads.gates.pause(database);
    apply(reactor).await;
    let name = database.to_string();
    let here = move |reactor: &Rc<Reactor>| {
        controls(reactor, |c| c.key.database == name).iter().for_each(|control| control.give(Order::End));
        pools(reactor, Some(&name)).iter().for_each(|pool| pool.close_idle());
    };
    reactor.threads.ask(here).await;
    Ok(())
}

async fn kill_client(reactor: &Reactor, id: u32) -> Result<(), Refused> {
    let here = move |reactor: &Rc<Reactor>| {
        let control = reactor.clients.borrow().get(&id).map(|c| c.control.clone());
        control.map(|control| control.give(Order::End)).is_some()
    };
    if reactor.threads.ask(here).await.contains(&true) {
        return Ok(());
    }
    Err(Refused::new("22023", format!("client {id} not found")))
}

/// Connections that are there now are closed as soon as nobody uses them.
async fn reconnect(reactor: &Reactor, database: Option<&str>) -> Result<(), Refused> {
    exists(reactor, database)?;
    let name = database.map(str::to_string);
    let here = move |reactor: &Rc<Reactor>| {
        let name = name.as_deref();
        let servers = reactor.servers().into_iter();
        let ours = servers.filter(|s| name.is_none_or(|name| s.key().database == name));
        ours.for_each(|s| s.close_needed.set(true));
        pools(reactor, name).iter().for_each(|pool| pool.close_idle());
    };
    reactor.threads.ask(here).await;
    Ok(())
}

async fn wait_close(
    reactor: &Rc<Reactor>,
    database: Option<&str>,
    interrupt: &Interrupt,
) -> Result<(), Refused> {
    exists(reactor, database)?;
    let name = database.map(str::to_string);
    let closed = move |reactor: &Rc<Reactor>| {
        let old = |s: &Rc<crate::facts::ServerFacts>| {
            s.close_needed.get() && name.as_ref().is_none_or(|name| s.key().database == *name)
        };
        !reactor.servers().iter().any(old)
    };
    match wait_until(reactor, interrupt, closed).await {
        Ok(()) => Ok(()),
        Err(why) => {
            let message = format!("not all are closed: {}", why.words(reactor));
            Err(Refused { detail: holders(reactor, database).await, ..Refused::new(why.code(), message) })
        }
    }
}

/// One setting is another from now on.
fn set(reactor: &Rc<Reactor>, key: &str, value: &str) -> Result<(), Refused> {
    let config = super::set::changed(&reactor.config, key, value)?;
    if !super::set::is_changeable(key) {
        return Ok(());
    }
    let config = keep(config).map_err(|why| Refused::new("53400", why))?;
    reactor.reconfigure(config);
    reactor.threads.post_others(reactor.index, move |reactor| reactor.reconfigure(config));
    Ok(())
}

/// Reads the configuration, passwords and certificates anew: all of them, or, if one can't be used, none. As a
/// signal may ask, too.
///
/// # Errors
/// F0000 with what can't be used.
pub fn reload(reactor: &Rc<Reactor>) -> Result<(), Refused> {
    let refused = |why: String| {
        tracing::warn!(%why, "RELOAD was refused, nothing has changed");
        Refused {
            detail: why,
            ..Refused::new("F0000", "RELOAD failed, see logs for additional details: nothing was changed")
        }
    };
    let config = read_again(&reactor.config).map_err(refused)?;
    let common = Common::load(&config).map_err(refused)?;
    let tls = config.tls.as_ref().map(FrontTls::load).transpose().map_err(|e| refused(e.to_string()))?;
    let config = keep(config).map_err(refused)?;
    let here = move |reactor: &Rc<Reactor>| {
        let secrets = reactor.secrets.borrow().with(config.auth.kind, common.clone());
        *reactor.secrets.borrow_mut() = Rc::new(secrets);
        reactor.client_tls.borrow_mut().clone_from(&tls);
        reactor.reconfigure(config);
    };
    here(reactor);
    reactor.threads.post_others(reactor.index, here);
    Ok(())
}

/// Ends at once, or, if it `waits`, with the last client. Nobody new comes in. As a signal may ask, too.
pub fn shutdown(reactor: &Reactor, waits: bool) {
    let threads = &reactor.threads;
    threads.gates.set_stop(if waits { Stop::WithLastClient } else { Stop::Now });
    let here = move |reactor: &Rc<Reactor>| {
        std::mem::take(&mut *reactor.doors.borrow_mut()).iter().for_each(tokio::task::AbortHandle::abort);
        if !waits {
            // `Reactor::ended` is told by the console, once it has answered.
            controls(reactor, |_| true).iter().for_each(|control| control.give(Order::End));
        }
    };
    threads.post_all(here);
}

impl Reactor {
    /// Waits until an administrator has ended it, and its clients have gone.
    pub async fn ended(self: &Rc<Reactor>) {
        self.threads.stops.notified().await;
        let end = Instant::now() + LEAVE_LIMIT;
        while self.threads.clients() > 0 {
            let changed = self.threads.emptied.notified();
            if timeout_at(end, changed).await.is_err() {
                break;
            }
        }
        tracing::info!("an administrator has ended the proxy");
    }
}
