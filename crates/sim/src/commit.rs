//! A commit's way: appended, flushed, waited for, acknowledged.

use cluster::report::ServerState;

use crate::clock::ms;
use crate::law::Moment;
use crate::network::At;
use crate::server::{Process, Waiter};
use crate::world::{What, World};

impl World {
    /// A backend writes a record for `write` and begins to wait. False when the
    /// server takes no writes.
    pub(crate) fn execute(&mut self, at: At, write: u32, client: usize) -> bool {
        let host = &self.hosts[at];
        let s = &host.server;
        if !s.is_primary() || s.shutting_down || host.paused || !s.works(Process::Backend) {
            return false;
        }
        if host.disk.full {
            // No room for WAL is a PANIC.
            self.kill_server(at);
            return false;
        }
        self.next_record += 1;
        let id = self.next_record;
        let s = &mut self.hosts[at].server;
        s.wal.append(id, Some(write));
        let count = s.wal.records.len();
        s.flushing.push_back(Waiter { count, write, client, conn: None });
        let (xid, ran_in) = (s.wal.next_xid() - 1, self.hosts[at].ghost.leads);
        self.writes[write as usize].place(at, ran_in, (count, id), xid);
        self.sync(at);
        true
    }

    /// A record of the server's own, such as a barrier. Gives the count behind it.
    pub(crate) fn emit(&mut self, at: At) -> usize {
        self.next_record += 1;
        let id = self.next_record;
        let s = &mut self.hosts[at].server;
        s.wal.append(id, None);
        let count = s.wal.records.len();
        self.sync(at);
        count
    }

    pub(crate) fn sync(&mut self, at: At) {
        if self.hosts[at].server.syncing {
            return;
        }
        self.hosts[at].server.syncing = true;
        let done = self.hosts[at].disk.fsync(self.now, &mut self.rng);
        let s = &self.hosts[at].server;
        let (life, count) = (s.life, s.wal.records.len());
        self.at(done, What::Flushed(at, life, count));
    }

    /// An fsync of a primary's log is done.
    pub(crate) fn synced(&mut self, at: At, life: u32, count: usize) {
        let host = &mut self.hosts[at];
        if host.server.life != life || host.server.state != ServerState::Primary {
            return;
        }
        if host.paused || host.server.stopped.contains(&Process::Backend) {
            return self.after(ms(50), What::Flushed(at, life, count));
        }
        let s = &mut host.server;
        s.syncing = false;
        s.wal.flushed = s.wal.flushed.max(count);
        s.replayed = s.wal.flushed;
        let more = s.wal.records.len() > count;
        while self.hosts[at].server.flushing.front().is_some_and(|w| w.count <= count) {
            let waiter = self.hosts[at].server.flushing.pop_front().expect("just seen");
            if self.hosts[at].server.defined {
                self.hosts[at].server.waiting.push_back(waiter);
            } else {
                self.acknowledge(at, waiter);
            }
        }
        if more {
            self.sync(at);
        }
        self.cut_cancelled(at);
        self.pump_all(at);
    }

    /// What one walsender's reply releases: k from its own reading, membership
    /// from each one's (`SyncRepReleaseWaiters`, `SyncRepGetSyncRecPtr` in syncrep.c).
    pub(crate) fn release(&mut self, id: u64) {
        let Some(own) = self.streams.get(&id) else { return };
        let at = own.up;
        let Some(rule) = own.names.rule() else { return };
        if !rule.names(&own.member) {
            return;
        }
        let acks = rule.acks() as usize;
        let server = &self.hosts[at].server;
        let mut flushed: Vec<usize> = server
            .senders
            .values()
            .filter_map(|x| self.streams.get(x))
            .filter(|s| s.names.rule().is_some_and(|r| r.names(&s.member)))
            .map(|s| s.flush)
            .collect();
        if acks == 0 || flushed.len() < acks {
            return;
        }
        flushed.sort_unstable_by(|a, b| b.cmp(a));
        self.wake(at, flushed[acks - 1]);
    }

    /// Acknowledges every commit that waits and lies before `count`.
    pub(crate) fn wake(&mut self, at: At, count: usize) {
        let host = &self.hosts[at];
        if !host.server.is_primary() || host.paused || host.server.stopped.contains(&Process::Backend) {
            return;
        }
        while self.hosts[at].server.waiting.front().is_some_and(|w| w.count <= count) {
            let waiter = self.hosts[at].server.waiting.pop_front().expect("just seen");
            self.acknowledge(at, waiter);
        }
    }

    /// The backend says COMMIT to its client.
    pub(crate) fn acknowledge(&mut self, at: At, waiter: Waiter) {
        self.judge(&Moment::Acked { at, write: waiter.write });
        match waiter.conn {
            None => self.client_hears(waiter.client, waiter.write),
            Some(conn) => self.released(conn, waiter.write, false),
        }
    }

    /// The checkpointer reads its settings again: whether backends wait is its word.
    pub(crate) fn reload_checkpointer(&mut self, at: At, life: u32) {
        let host = &self.hosts[at];
        if host.server.life != life {
            return;
        }
        if host.paused || !host.server.works(Process::Checkpointer) {
            return self.after(ms(50), What::CheckpointerReloads(at, life));
        }
        let empty = host.server.names_live.is_empty();
        self.hosts[at].server.defined = !empty;
        if empty {
            self.wake(at, usize::MAX);
        }
    }
}
