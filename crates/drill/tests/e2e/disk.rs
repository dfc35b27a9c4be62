//! Disks that fill up, or come back empty.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use drill::fault;
use drill::fault::disk::Disk;
use drill::layout::PlannedNode;

use crate::story::{Story, may_be_root, sql_beside, told};

#[test]
fn a_wiped_disk_comes_back_as_somebody_new() {
    told(async {
        let story = Story::begin("wiped", 3).await;
        let standby = story.standby().await;
        fault::kill_node(&story.stage, &standby);
        let dir = story.stage.plan.node_dir(&standby);
        std::fs::remove_dir_all(dir.join("store")).unwrap();
        std::fs::remove_dir_all(dir.join("pgdata")).unwrap();
        story.stage.start(&standby).unwrap();
        story.whole().await;
        story.writes_flow().await;
        story.end().await;
    });
}

/// A small filesystem of its own for one node's folder, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(dir: &Path) -> SmallDisk {
        std::fs::create_dir_all(dir).unwrap();
        let args = ["-t", "tmpfs", "-o", "size=160m,mode=755", "tmpfs"];
        assert!(Command::new("mount").args(args).arg(dir).status().unwrap().success(), "tmpfs");
        SmallDisk(dir.to_path_buf())
    }

    /// Not a byte is left.
    fn fill(&self) {
        let mut file = File::create(self.0.join("fill")).unwrap();
        for block in [1 << 20, 1 << 12] {
            while file.write_all(&vec![1u8; block]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("fill")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // The logs of a story that failed are on it.
        }
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Much log and no data: a server gives up a transaction that can't have data
/// pages, and panics where it can't have log.
fn write_log(story: &Story, leader: &PlannedNode) {
    let write =
        "SELECT count(pg_logical_emit_message(false, 'x', repeat('y', 1000000))) FROM generate_series(1, 60)";
    // Its end is the server's, or it was too slow: either way there is much log.
    let _ = sql_beside(story, leader, write);
}

#[test]
fn a_full_disk_under_the_leader_hands_the_term_on_and_heals_when_there_is_room() {
    if !may_be_root("a full disk") {
        return;
    }
    told(async {
        let mut disks = Vec::new();
        let story = Story::begin_with("full", |o| {
            disks.extend(["n1", "n2", "n3"].map(|n| SmallDisk::mount(&o.dir.join(n))));
        })
        .await;
        for _ in 0..2 {
            let (leader, term) = (story.leader().await, story.term().await);
            let dir = story.stage.plan.node_dir(&leader);
            let disk = disks.iter().find(|d| d.0 == dir).unwrap();
            disk.fill();
            write_log(&story, &leader);
            story.next_term(term).await;
            disk.free();
            story.whole().await;
        }
        story.end().await;
        drop(disks);
    });
}

/// Frozen, nothing on it ends, not even by SIGKILL, until it thaws.
#[test]
fn a_leader_whose_disk_hangs_is_replaced_and_follows_when_it_works_again() {
    if !may_be_root("a disk that hangs") {
        return;
    }
    told(async {
        let images = tempfile::tempdir_in("/var/tmp").unwrap();
        let mut disks = Vec::new();
        let story = Story::begin_with("hung", |o| {
            let disk = |n: &str| Disk::make(&images.path().join(n), &o.dir.join(n)).unwrap();
            disks.extend(["n1", "n2", "n3"].map(disk));
        })
        .await;
        let (leader, term) = (story.leader().await, story.term().await);
        let dir = story.stage.plan.node_dir(&leader);
        let hung = disks.iter().find(|d| d.at() == dir).unwrap().hang().unwrap();
        story.next_term(term).await;
        drop(hung);
        story.whole().await;
        story.end().await;
        drop(disks);
    });
}

#[test]
fn a_full_disk_under_a_standby_stops_nobody_and_heals_when_there_is_room() {
    if !may_be_root("a full disk under a standby") {
        return;
    }
    told(async {
        let mut disk = None;
        let story =
            Story::begin_with("full-standby", |o| disk = Some(SmallDisk::mount(&o.dir.join("n2")))).await;
        let disk = disk.unwrap();
        if story.leader().await.name.as_str() == "n2" {
            story.hand_over().await;
            story.whole().await;
        }
        let term = story.term().await;
        disk.fill();
        let leader = story.leader().await;
        write_log(&story, &leader);
        story.writes_flow().await;
        story.wait_until("it to leave the rule", |s| !s.sync.names.contains(&"n2".to_string())).await;
        story.writes_flow().await;
        disk.free();
        story.whole().await;
        assert_eq!(story.term().await, term, "a term began");
        story.end().await;
    });
}

#[test]
fn a_full_disk_under_a_wal_witness_stops_nobody_and_heals_when_there_is_room() {
    if !may_be_root("a full disk under a WAL witness") {
        return;
    }
    told(async {
        let mut disk = None;
        let story = Story::begin_with("full-witness", |o| {
            (o.nodes, o.wal_witness) = (Some(2), true);
            disk = Some(SmallDisk::mount(&o.dir.join("w1")));
        })
        .await;
        let (disk, term) = (disk.unwrap(), story.term().await);
        disk.fill();
        let leader = story.leader().await;
        write_log(&story, &leader);
        story.writes_flow().await;
        story.wait_until("it to leave the rule", |s| !s.sync.names.contains(&"w1".to_string())).await;
        story.writes_flow().await;
        disk.free();
        story.whole().await;
        assert_eq!(story.term().await, term, "a term began");
        story.end().await;
    });
}
