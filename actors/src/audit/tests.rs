//! Entries ride, are ended, are found newest first, and the oldest go.

use super::*;

fn caller() -> Caller {
    Caller { uid: 1000, pid: 42, socket: None }
}

#[tokio::test]
async fn an_entry_is_there_before_what_it_announces_and_then_says_how_it_ended() {
    let store = Store::in_memory();
    let audit = AuditHandle::new(store.clone());
    let mut entry = audit.begin(&caller(), "container.create", "default").expect("begins");
    store.commit(Batch::new()).await.expect("commits");
    let found = audit.query(AuditQuery::default(), 0, 10).await.expect("finds");
    assert_eq!((found.len(), &found[0].result), (1, &AuditResult::Begun));
    entry.about("web");
    entry.end::<()>(&Err(Error::already_exists("container web")));
    store.commit(Batch::new()).await.expect("commits");
    let found = audit.query(AuditQuery::default(), 0, 10).await.expect("finds");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].subject, "default/web");
    assert!(matches!(found[0].result, AuditResult::Refused { .. }));
}

#[tokio::test]
async fn pages_go_from_the_newest_to_the_oldest() {
    let store = Store::in_memory();
    let audit = AuditHandle::new(store.clone());
    for number in 0..3000_u32 {
        let who = Caller { uid: number % 3, ..caller() };
        audit.begin(&who, "task.kill", "default/web").expect("begins").end(&Ok(()));
        if number % 500 == 0 {
            store.commit(Batch::new()).await.expect("commits");
        }
    }
    store.commit(Batch::new()).await.expect("commits");
    let query = AuditQuery { uid: Some(1), ..AuditQuery::default() };
    let (mut before, mut all) = (0, Vec::new());
    loop {
        let page = audit.query(query.clone(), before, 300).await.expect("finds");
        let Some(last) = page.last() else { break };
        before = last.sequence;
        all.extend(page);
    }
    assert_eq!(all.len(), 1000);
    assert!(all.windows(2).all(|pair| pair[0].sequence > pair[1].sequence));
    let since = AuditQuery { since: Some(Timestamp(i64::MAX)), ..AuditQuery::default() };
    assert!(audit.query(since, 0, 10).await.expect("finds").is_empty());
}
