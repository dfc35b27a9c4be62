//! What `status` says of a member is what its agent does.

use std::collections::BTreeMap;

use api::status;
use cluster::command::{Kind, Member, MemberState};
use cluster::report::{Progress, Report, ServerReport, ServerState};
use cluster::{ClusterState, MemberId, NodeId};

fn rebuilt_by(what: &str) -> (String, String) {
    let node = NodeId::new("n2").expect("a good name");
    let member = Member {
        incarnation: 1,
        raft_id: 2,
        nonce: 1,
        kind: Kind::Data,
        addresses: Default::default(),
        tags: Default::default(),
        state: MemberState::Clone,
        leaving: false,
        reinit: false,
    };
    let mut state = ClusterState::default();
    state.members.insert(node.clone(), member);
    let server = ServerReport { state: ServerState::Down, ..ServerReport::default() };
    let progress = Progress { what: what.to_string(), percent: None, detail: "it runs".to_string() };
    let report = Report {
        server: Some(server),
        progress: Some(progress),
        ..Report::first(MemberId::new(node.clone(), 1))
    };
    let said = status(&state, &BTreeMap::from([(node, (report, 0))]), None);
    (said.members[0].state.clone(), said.members[0].standing.clone())
}

#[test]
fn a_rewind_and_a_clone_are_told_apart() {
    assert_eq!(rebuilt_by("rewind"), ("rewinding".to_string(), "rebuild".to_string()));
    assert_eq!(rebuilt_by("clone"), ("cloning".to_string(), "rebuild".to_string()));
}
