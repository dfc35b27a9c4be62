//! A guard, as `tanist run` is: it kills a silent agent, and a server whose deadline has
//! passed; and its agent, which moves that deadline and keeps it where the guard can't.

use std::time::Duration;

use cluster::Time;

use crate::clock::{Us, ms};
use crate::mutation::Env;
use crate::network::At;
use crate::world::{What, World};

/// The guard's deadline is moved on this often.
const ARM: Duration = Duration::from_millis(250);
/// Longest that a guard may take to answer (`guard::client::ANSWER_LIMIT`).
const GUARD_ANSWERS: Duration = Duration::from_secs(8);
/// A guard that has nothing nearer looks at its clock this often.
const GUARD_LOOKS: Us = ms(1000);

impl World {
    /// The deadline, which is also a sign of life (`watchers::arm`).
    pub(crate) fn arm(&mut self, at: At, now: Time) {
        let host = &mut self.hosts[at];
        if now.since(host.agent.armed) < ARM {
            return;
        }
        host.agent.armed = now;
        let deadline = host.agent.controller.guard_deadline(now);
        host.agent.until = deadline.or(host.agent.until);
        if host.guard.stopped {
            return self.keep_deadline_alone(at, now);
        }
        host.guard.heard = now;
        host.guard.deadline = deadline.or(host.guard.deadline);
        let due = host.guard.deadline.map(|d| host.clock.moment(d));
        let wait = due.map_or(GUARD_LOOKS, |d| d.saturating_sub(self.now)).min(GUARD_LOOKS);
        self.guard_in(at, wait);
    }

    /// The guard owes an answer: the agent keeps the deadline itself (`guard::second_hand`),
    /// and ends in the end, the server before it (`watchers::arm`).
    fn keep_deadline_alone(&mut self, at: At, now: Time) {
        let host = &self.hosts[at];
        if now.since(host.guard.heard) > GUARD_ANSWERS {
            self.note(Some(at), || "the agent gives its guard up, and kills the server".into());
            self.mark("agent: guard given up");
            self.kill_server(at);
            return self.kill_agent(at);
        }
        if let Some(until) = host.agent.until {
            let (due, life) = (host.clock.moment(until), host.agent.life);
            self.at(due, What::SecondHand(at, life));
        }
    }

    /// The deadline as the agent keeps it.
    pub(crate) fn second_hand(&mut self, at: At, life: u32) {
        let host = &self.hosts[at];
        let now = host.clock.local(self.now);
        let over = host.agent.until.is_some_and(|until| now >= until);
        if host.agent.life == life && host.is_awake() && host.guard.stopped && over && host.server.runs() {
            self.note(Some(at), || "the agent kills the server at its guard's deadline".into());
            self.mark("agent: deadline kept");
            self.kill_server(at);
        }
    }

    pub(crate) fn guard_in(&mut self, at: At, delay: Us) {
        self.hosts[at].guard.timer += 1;
        let timer = self.hosts[at].guard.timer;
        self.after(delay, What::Guard(at, timer));
    }

    /// The guard kills a silent agent, and a server whose deadline has passed.
    pub(crate) fn guard(&mut self, at: At, timer: u64) {
        let host = &self.hosts[at];
        if host.guard.timer != timer || !host.guards() {
            return;
        }
        let now = host.clock.local(self.now);
        let silence = Duration::from_millis(self.truth.settings.timing.agent_silence_ms);
        let silent = host.agent.runs && now >= host.guard.heard + silence;
        let over = host.server.runs() && host.guard.deadline.is_some_and(|d| now >= d);
        let off = self.is(Env::GuardSleeps);
        if silent {
            self.note(Some(at), || "guard kills the agent, which was silent".into());
            self.mark("guard: agent killed");
            self.kill_agent(at);
        }
        if over && !off {
            self.note(Some(at), || "guard kills the server, whose deadline has passed".into());
            self.mark("guard: server killed");
            self.kill_server(at);
        }
        let host = &self.hosts[at];
        let due = host.guard.deadline.filter(|_| host.server.runs() && !off).map(|d| host.clock.moment(d));
        let next = host.clock.moment(host.guard.heard + silence).max(self.now + ms(20));
        let wait = due.map_or(GUARD_LOOKS, |d| d.saturating_sub(self.now));
        let wait = if host.agent.runs { wait.min(next - self.now) } else { wait };
        self.guard_in(at, wait.clamp(ms(1), GUARD_LOOKS));
    }
}
