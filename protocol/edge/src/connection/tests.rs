//! Limits are counted back, work is finished, a panic ends one call.

use super::*;

fn connection() -> Rc<Connection> {
    let caller = Caller { uid: 0, pid: 1, socket: None };
    let peer = Peer { caller, namespace: None, access: Access::ReadWrite };
    let audit = AuditHandle::new(bosun_storage::store::Store::in_memory());
    Connection::new(1, peer, audit, None, EdgeLimits::default(), Arc::new(Gauges::default()))
}

#[tokio::test]
async fn a_panic_ends_its_own_call_alone() {
    let connection = connection();
    let work = async {
        if connection.number == 1 {
            panic!("a bug");
        }
        Ok(())
    };
    let outcome = connection.wait("event.next", work).await.expect("no exception");
    let error = outcome.expect_err("a panic");
    assert_eq!(error.class, bosun_types::ErrorClass::Internal);
    assert!(error.message.contains("a bug"), "{error}");
    assert_eq!(connection.waits.get(), 0, "counted back");
}

#[tokio::test]
async fn work_goes_on_when_its_caller_leaves() {
    let connection = connection();
    let local = tokio::task::LocalSet::new();
    let gauges = Arc::clone(&connection.gauges);
    local
        .run_until(async {
            let (go, gone) = tokio::sync::oneshot::channel::<()>();
            let done = Rc::new(Cell::new(false));
            let mark = Rc::clone(&done);
            let call = connection.call(7, "daemon.status", "", async move {
                let _ = gone.await;
                mark.set(true);
                Ok(())
            });
            let left = tokio::time::timeout(std::time::Duration::from_millis(1), call).await;
            assert!(left.is_err());
            assert_eq!((gauges.calls(), connection.calls.get()), (1, 1));
            go.send(()).expect("the work goes on");
            while !done.get() {
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await;
            assert_eq!((gauges.calls(), connection.calls.get()), (0, 0));
        })
        .await;
}

#[tokio::test]
async fn bulk_bytes_are_counted_and_given_back() {
    let connection = connection();
    let most = connection.limits.bulk_bytes_in_flight;
    let room = connection.bulk(most).expect("room");
    assert!(connection.bulk(1).is_err());
    drop(room);
    assert!(connection.bulk(1).is_ok());
}
