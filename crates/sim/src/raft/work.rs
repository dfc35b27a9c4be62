//! What a member of the group does with what is ready: write, then speak, then apply.

use std::sync::Arc;

use cluster::Command;
use consensus::{Committed, Machine, Message};
use failover::Event;

use super::{bytes_of, own};
use crate::clock::{Us, ms};
use crate::law::Broken;
use crate::network::At;
use crate::world::{What, World};

/// `store::embedded::FOLD_ENTRIES` is more than a storm has.
const FOLD_ENTRIES: usize = 60;
/// A thread that can't go on is looked at again after so long.
const HELD: Us = ms(20);
/// The library's number of a snapshot message (MsgSnapshot in eraftpb).
const SNAPSHOT: i32 = 7;

impl World {
    /// Everything that is ready: write, then speak, then apply.
    pub(super) fn raft_work(&mut self, at: At, life: u32) {
        while self.raft_lives(at, life) && self.seat(at).busy.is_none() {
            let Some(work) = self.raft_with(at, Machine::work).flatten() else { return };
            self.raft_send(at, &work.now);
            let nothing = work.snapshot.is_none() && work.entries.is_empty() && work.hard.is_none();
            let done = if nothing { self.now } else { self.hosts[at].disk.fsync(self.now, &mut self.rng) };
            let seat = self.seat(at);
            (seat.busy, seat.written) = (Some(work), nothing);
            if nothing {
                self.raft_finish(at, life);
            } else {
                return self.at(done, What::RaftWritten(at, life));
            }
        }
    }

    /// It is on disk, and counts from here on whatever becomes of the process.
    pub(crate) fn raft_written(&mut self, at: At, life: u32) {
        if !self.raft_lives(at, life) {
            return;
        }
        let seat = self.seat(at);
        if let Some(work) = seat.busy.as_ref().filter(|_| !seat.written) {
            if let Some(snapshot) = &work.snapshot {
                seat.disk.install(snapshot.clone());
            }
            seat.disk.append(&work.entries);
            seat.disk.hard = work.hard.unwrap_or(seat.disk.hard);
            seat.written = true;
        }
        if !self.hosts[at].is_awake() {
            return self.after(HELD, What::RaftWritten(at, life));
        }
        self.raft_finish(at, life);
        self.raft_hear_all(at);
        self.raft_work(at, life);
    }

    fn raft_finish(&mut self, at: At, life: u32) {
        let Some(work) = self.seat(at).busy.take() else { return };
        if let Some(snapshot) = &work.snapshot {
            let seat = self.seat(at);
            seat.applied = snapshot.index;
            seat.state = Arc::new(postcard::from_bytes(&snapshot.data).unwrap_or_default());
            self.raft_tell(at);
        }
        self.raft_apply(at, life, &work.committed);
        for (context, index) in work.reads {
            let number = context.try_into().map(u64::from_le_bytes).unwrap_or_default();
            if let Some(r) = self.seat(at).reading.get_mut(&number) {
                r.at = Some(index);
            }
        }
        if !self.raft_lives(at, life) {
            return;
        }
        let Some(rest) = self.raft_with(at, Machine::finish) else { return };
        self.raft_send(at, &rest.messages);
        self.raft_apply(at, life, &rest.committed);
        self.raft_answer_reads(at, life);
        self.raft_fold(at, life);
    }

    fn raft_send(&mut self, at: At, messages: &[Message]) {
        for m in messages {
            let seats = &self.store.group.as_ref().expect("there is a group").seats;
            let Some(to) = seats.iter().position(|s| s.id == m.to) else { continue };
            if m.kind == SNAPSHOT {
                self.raft_with(at, |x| x.report_snapshot_sent(m.to));
            }
            if self.network.passes(at, to) && self.hosts[to].up {
                let delay = self.network.delay(&mut self.rng);
                self.after(delay, What::RaftWord(to, Box::new(m.clone())));
            }
        }
    }

    fn raft_apply(&mut self, at: At, life: u32, committed: &[Committed]) {
        for c in committed {
            if !self.raft_lives(at, life) || c.index <= self.seat(at).applied {
                continue;
            }
            self.seat(at).applied = c.index;
            if let Some(voters) = &c.voters {
                let seat = self.seat(at);
                seat.disk.voters = voters.clone();
                seat.fold = true;
            }
            self.raft_agree(c);
            let Ok((whose, number, command)) = postcard::from_bytes::<(u64, u64, Command)>(&c.data) else {
                continue;
            };
            let seat = self.seat(at);
            let judged = seat.state.apply(&command);
            let judged = judged.map(|next| seat.state = Arc::new(next)).map_err(|r| r.to_string());
            let mine = whose == own(at, life) && seat.waiting.remove(&number).is_some_and(|w| w.agent);
            self.raft_tell(at);
            if mine {
                self.after(0, What::Tell(at, life, Box::new(Event::Submitted(judged))));
            }
        }
    }

    /// What the first member applies is agreed; all others must apply the same there.
    fn raft_agree(&mut self, c: &Committed) {
        let Some(group) = &mut self.store.group else { return };
        if let Some(other) = group.log.get(&c.index).filter(|d| **d != c.data) {
            let what = format!("entry {} is {} bytes here and {} there", c.index, c.data.len(), other.len());
            self.broken.get_or_insert(Broken { law: "Raft", what });
            return;
        }
        if c.index <= group.applied {
            return;
        }
        group.applied = c.index;
        group.log.insert(c.index, c.data.clone());
        if let Ok((_, _, command)) = postcard::from_bytes::<(u64, u64, Command)>(&c.data) {
            let _ = self.agree(&command);
        }
    }

    fn raft_answer_reads(&mut self, at: At, life: u32) {
        if !self.raft_lives(at, life) {
            return;
        }
        let seat = self.seat(at);
        let (applied, term) = (seat.applied, seat.state.ctl.term);
        let due: Vec<u64> = seat
            .reading
            .iter()
            .filter(|(_, r)| r.at.is_some_and(|i| i <= applied))
            .map(|(n, _)| *n)
            .collect();
        for number in due {
            if let Some(r) = self.seat(at).reading.remove(&number) {
                self.after(0, What::Read(at, life, r.began, term));
            }
        }
    }

    /// Folds a long log into a snapshot.
    fn raft_fold(&mut self, at: At, life: u32) {
        if !self.raft_lives(at, life) {
            return;
        }
        let seat = self.seat(at);
        let Some(machine) = seat.machine.as_mut() else { return };
        if machine.log_length() < FOLD_ENTRIES && !seat.fold {
            return;
        }
        seat.fold = false;
        let data = bytes_of(&seat.state);
        machine.compact(seat.applied, data.clone());
        seat.disk.compact(seat.applied, data);
    }
}
