//! What is acknowledged is on disk: at least one sync for every commit.

use tests::{can_trace, count_syncs, not_run};

#[tokio::test(flavor = "multi_thread")]
async fn every_commit_of_a_group_waits_for_the_disk() {
    if let Err(why) = can_trace() {
        return not_run("every_commit_of_a_group_waits_for_the_disk", &why);
    }
    for text in ["agent", "What is the contactless limit?"] {
        let counted = count_syncs(text, 200, 20).await;
        println!("{text}: {counted:?}");
        assert!(counted.groups > 0 && counted.syncs >= counted.groups, "{text}: {counted:?}");
        assert!(counted.writes >= 200, "{text}: {counted:?}");
    }
}
