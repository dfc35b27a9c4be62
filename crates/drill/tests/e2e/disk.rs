//! Disks that fill up, or come back empty.

use crate::story::{Story, told};
use drill::fault;

#[test]
fn a_wiped_disk_comes_back_as_somebody_new() {
    told(async {
        let story = Story::begin("wiped", 3).await;
        let leader = story.leader().await;
        let standby = story.stage.plan.data_nodes().find(|n| n.name != leader.name).unwrap().clone();
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
