//! Content over the wire, where a client library hides it: offsets that are wrong, windows, forms of digests.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use bosun_protocol::common_capnp::byte_sink;
use bosun_types::{Digest, ErrorClass, Labels, NamespaceName};
use bytes::Bytes;
use capnp_rpc::new_client;
use tokio::sync::watch;

use crate::hostile::with_bare_client_at;
use crate::pipelining::Gate;
use crate::support::{DEADLINE, Served, eventually, web};

fn digest_of(bytes: &[u8]) -> Digest {
    bosun_storage::image::digest_of(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn con_13_an_offset_is_the_current_one_or_nothing() {
    let served = Served::start().await;
    let content = served.daemon.namespace(NamespaceName::new("web").expect("good")).content();
    let writer = content.writer("r".to_owned(), 0, None).await.expect("opens");
    assert_eq!(writer.write(0, Bytes::from_static(b"hello")).await.expect("writes"), 5);
    for wrong in [1, 4, 6, u64::MAX] {
        let error = writer.write(wrong, Bytes::from_static(b"x")).await.expect_err("refused");
        assert_eq!(error.class, ErrorClass::OutOfRange, "{wrong}: {error}");
    }
    assert_eq!(writer.write(5, Bytes::from_static(b" world")).await.expect("writes"), 11);
    assert_eq!(writer.write(0, Bytes::from_static(b"anew")).await.expect("begins again"), 4);
    let status = writer.status().await.expect("a status");
    assert_eq!((status.offset, status.digest), (4, Some(digest_of(b"anew"))), "CON-12: the digest so far");
    assert_eq!(writer.write(0, Bytes::new()).await.expect("truncates"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn con_14_a_blob_that_is_here_ends_its_writers_and_their_ingests() {
    let served = Served::start().await;
    let content = served.daemon.namespace(NamespaceName::new("web").expect("good")).content();
    let digest = digest_of(b"same");
    let slow = content.writer("slow".to_owned(), 4, Some(digest)).await.expect("opens");
    slow.write(0, Bytes::from_static(b"sa")).await.expect("writes");
    let left = content.writer("left".to_owned(), 4, Some(digest)).await.expect("opens");
    left.write(0, Bytes::from_static(b"s")).await.expect("writes");
    drop(left);
    let fast = content.writer("fast".to_owned(), 0, None).await.expect("opens");
    fast.write(0, Bytes::from_static(b"same")).await.expect("writes");
    fast.commit(4, Some(digest), Labels::new()).await.expect("commits");
    let told = slow.write(2, Bytes::from_static(b"me")).await.expect_err("known by now");
    assert_eq!(told.class, ErrorClass::AlreadyExists);
    let told = content.writer("left".to_owned(), 4, Some(digest)).await.err().expect("known by now");
    assert_eq!(told.class, ErrorClass::AlreadyExists);
    assert!(content.statuses().await.expect("lists").is_empty());
}

#[tokio::test]
async fn con_3_con_11_digests_and_references_are_checked_on_the_wire() {
    let served = Served::start().await;
    with_bare_client_at(served.socket(), async |bosun| {
        let mut request = bosun.namespace_request();
        request.get().set_id("web");
        let content = request.send().pipeline.get_namespace().content_request().send().pipeline.get_content();
        for bad in ["", "sha256:", "sha512:00", "sha256:../../../../etc/passwd"] {
            let mut request = content.info_request();
            request.get().set_digest(bad);
            let response = request.send().promise.await.expect("an answer");
            let error = response.get().expect("results").get_error().expect("an error");
            let error: bosun_types::Error = bosun_protocol::Wire::read(error).expect("reads");
            assert_eq!(error.class, ErrorClass::InvalidArgument, "{bad}: {error}");
        }
        let response = content.writer_request().send().promise.await.expect("an answer");
        let error = response.get().expect("results").get_error().expect("an error");
        let error: bosun_types::Error = bosun_protocol::Wire::read(error).expect("reads");
        assert_eq!(error.class, ErrorClass::InvalidArgument, "{error}");
    })
    .await;
}

/// Says that it has taken something only once it is let go.
struct Stuck(watch::Receiver<bool>);

impl byte_sink::Server for Stuck {
    async fn write(self: Rc<Self>, _: byte_sink::WriteParams) -> Result<(), capnp::Error> {
        let mut free = self.0.clone();
        free.wait_for(|free| *free)
            .await
            .map(drop)
            .map_err(|_| capnp::Error::failed("the test is over".into()))
    }

    async fn end(
        self: Rc<Self>,
        _: byte_sink::EndParams,
        _: byte_sink::EndResults,
    ) -> Result<(), capnp::Error> {
        Ok(())
    }
}

/// A reader that does not answer gets a window's bytes, at least a mebibyte, and then no more: it costs the daemon no memory.
#[tokio::test]
async fn con_8_a_read_keeps_a_mebibyte_under_way_and_not_much_more() {
    let served = Served::start().await;
    let client = served.client().await;
    let content = web(&client).content();
    let mut writer = content.writer("r".to_owned(), 0, None).await.expect("opens");
    writer.write(vec![7; 16 << 20].into()).await.expect("writes");
    let digest = writer.commit(0, None, Labels::new()).await.expect("commits").digest;
    let gate = Gate::before(&served);
    let (free, stuck) = watch::channel(false);
    let taken = || gate.answered.load(Ordering::SeqCst);
    with_bare_client_at(gate.path.clone(), async |bosun| {
        let mut request = bosun.namespace_request();
        request.get().set_id("web");
        let content = request.send().pipeline.get_namespace().content_request().send().pipeline.get_content();
        let mut request = content.read_request();
        request.get().set_digest(digest.to_string().as_str());
        request.get().set_sink(new_client(Stuck(stuck)));
        let reading = request.send().promise;
        eventually("a mebibyte without an answer", || taken() >= 1 << 20).await;
        let most = (1 << 20) + 2 * bosun_protocol::limits::CHUNK_BYTES;
        assert!(taken() <= most, "{} bytes", taken());
        free.send_replace(true);
        let response = tokio::time::timeout(DEADLINE, reading).await.expect("goes on").expect("an answer");
        assert_eq!(response.get().expect("results").get_bytes(), 16 << 20);
    })
    .await;
}
