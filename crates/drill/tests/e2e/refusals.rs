//! What would lose something or makes no sense is refused and changes nothing.

use api::verbs::{Done, FailoverBody, SwitchoverBody};

use crate::story::{Story, told};
use drill::fault;

#[test]
fn what_would_lose_or_make_no_sense_is_refused_and_changes_nothing() {
    told(async {
        let story = Story::begin("refused", 3).await;
        let (leader, term) = (story.leader().await, story.term().await);
        let client = story.stage.client();
        let to = |name: &str| SwitchoverBody { to: Some(name.parse().unwrap()), ..SwitchoverBody::default() };
        let refused = |e: api::ClientError| e.to_string();
        let asked: Result<Done, _> = client.send("POST", "/v1/switchover", &to("n9")).await;
        assert!(refused(asked.unwrap_err()).starts_with("TAN0112"));
        let asked: Result<Done, _> = client.send("POST", "/v1/switchover", &to(leader.name.as_str())).await;
        assert!(refused(asked.unwrap_err()).starts_with("TAN0107"));
        let stranger = api::Client { token: None, ..client.clone() };
        let asked: Result<Done, _> = stranger.send("POST", "/v1/pause", &()).await;
        assert!(refused(asked.unwrap_err()).starts_with("TAN0615"));
        for node in story.stage.plan.data_nodes().filter(|n| n.name != leader.name) {
            fault::kill_postmaster(&story.stage, node);
            fault::freeze_agent(&story.stage, node);
        }
        let asked: Result<Done, _> = client.send("POST", "/v1/failover", &FailoverBody::default()).await;
        if let Err(why) = asked {
            assert!(refused(why).contains("TAN0"), "a refusal has a code");
        }
        story.whole().await;
        assert!(story.term().await >= term);
        story.end().await;
    });
}
