//! Failover for real: agents of a group on loopback, killed in every way, and who leads then with which state.

#![allow(clippy::unwrap_used)]

use snapkit_tests::group::Group;

#[test]
fn a_group_gets_one_leader_and_the_next_when_its_agent_is_killed() {
    let mut group = Group::default();
    group.lead_by(0);
    group.nodes[0].kill_agent();
    let next = group.leader(&[0]);
    assert_ne!(next, 0);
    group.no_conflicts();
}
