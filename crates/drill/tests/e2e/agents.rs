//! Agents that die or freeze beside a healthy server.

use api::Status;

use crate::story::{Story, told};
use drill::fault;

#[test]
fn an_agent_that_dies_or_freezes_touches_neither_server_nor_term() {
    told(async {
        let story = Story::begin("agent", 3).await;
        let (leader, term) = (story.leader().await, story.term().await);
        let postmaster = story.stage.pids(&leader).postmaster;
        for break_it in [fault::kill_agent, fault::freeze_agent] {
            let agent = story.stage.pids(&leader).agent;
            assert!(break_it(&story.stage, &leader));
            let another = |s: &Status| {
                let now = story.stage.pids(&leader).agent;
                s.writable && now.is_some() && now != agent
            };
            story.wait_until("another agent", another).await;
            story.writes_flow().await;
            story.whole().await;
        }
        assert_eq!(story.stage.pids(&leader).postmaster, postmaster, "PostgreSQL was restarted");
        assert_eq!(story.term().await, term, "a term began");
        story.end().await;
    });
}
