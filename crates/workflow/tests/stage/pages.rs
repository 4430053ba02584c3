//! The list of executions, page by page.

use proto::{Execution, ListExecutionsRequest};

use super::execution::{Receiver, propose};
use super::support::{self, Desk};

#[tokio::test]
async fn pages_of_executions_follow_each_other_newest_first_without_gaps() {
    let (dir, receiver) = (support::bundle(), Receiver::start(&[]));
    let desk = Desk::open(dir.path(), &receiver.settings()).await;
    let mut proposed = Vec::new();
    for conversation in ["a", "b", "c", "d", "e"] {
        proposed.push(propose(&desk, conversation, false).await);
    }
    let (mut found, mut page) = (Vec::new(), ListExecutionsRequest { page_size: 2, ..Default::default() });
    loop {
        let answer = desk.client.clone().list_executions(page.clone()).await.unwrap().into_inner();
        let all = answer.executions;
        let at = |one: &Execution| one.created_at.map(|at| (at.seconds, at.nanos));
        assert!(all.len() <= 2 && all.is_sorted_by(|one, next| at(one) >= at(next)), "{all:?}");
        found.extend(all.into_iter().map(|one| one.status.unwrap().execution_id));
        if answer.next_page_token.is_empty() {
            break;
        }
        page.page_token = answer.next_page_token;
    }
    proposed.sort();
    found.sort();
    assert_eq!(found, proposed);
    let wrong = ListExecutionsRequest { page_token: "x".to_owned(), ..Default::default() };
    let refused = desk.client.clone().list_executions(wrong).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}
