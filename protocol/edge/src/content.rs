//! `Content`, `ContentWriter`, and reads into a client's sink.

use std::cell::RefCell;
use std::rc::Rc;

use bosun_actors::content::{ByteStream, ContentHandle, ContentWriter};
use bosun_protocol::Wire;
use bosun_protocol::common_capnp::byte_sink;
use bosun_protocol::content_capnp::{content, content_writer};
use bosun_protocol::convert::{length, read_optional_parsed, read_pairs, read_parsed, read_text, write_list};
use bosun_protocol::limits::{CHUNK_BYTES, CHUNK_BYTES_MAX};
use bosun_types::{Digest, Error, ErrorClass, Labels};
use bytes::Bytes;
use capnp_rpc::new_client;

use crate::connection::{Fault, Held, about, nothing};
use crate::page::{Wanted, label_bytes, paged, read_filter};
use crate::reply;

type Done = Result<(), capnp::Error>;

/// The paths that a label update names: all labels, or each given one. `None`: nothing is to be changed.
pub(crate) fn label_paths(labels: &Labels, replace: bool) -> Option<Vec<String>> {
    match (replace, labels.is_empty()) {
        (true, _) => Some(vec!["labels".to_owned()]),
        (false, true) => None,
        (false, false) => Some(labels.keys().map(|key| format!("labels.{key}")).collect()),
    }
}

pub(crate) struct Content {
    held: Held,
    handle: ContentHandle,
}

impl Content {
    pub(crate) fn new(held: Held, handle: ContentHandle) -> Self {
        Self { held, handle }
    }
}

impl content::Server for Content {
    async fn info(self: Rc<Self>, params: content::InfoParams, mut results: content::InfoResults) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let digest: Digest = read_parsed(params.get()?.get_digest())?;
            Ok(handle.info(&digest).await?)
        };
        let outcome = self.held.call("content.info", work).await?;
        reply!(results, outcome, |record, out| record.write(out.init_record()))
    }

    async fn list(self: Rc<Self>, params: content::ListParams, mut results: content::ListResults) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let wanted = Wanted::read(params.get()?.get_page()?)?;
            paged(
                handle.list().await,
                &wanted,
                |record| record.digest.to_string(),
                |record| label_bytes(&record.labels) + 256,
            )
        };
        let outcome = self.held.call("content.list", work).await?;
        reply!(results, outcome, |page, out| {
            write_list(&page.records, out.reborrow().init_records(length(&page.records)));
            page.write_next(out.init_page());
        })
    }

    async fn update_labels(
        self: Rc<Self>,
        params: content::UpdateLabelsParams,
        mut results: content::UpdateLabelsResults,
    ) -> Done {
        let handle = self.handle.clone();
        let (made, digest) = (self.handle.clone(), read_parsed::<Digest>(params.get()?.get_digest()));
        let known = async move |_| made.info(&digest?).await;
        let work = async move {
            let params = params.get()?;
            let digest: Digest = read_parsed(params.get_digest())?;
            about(digest);
            let labels = read_pairs(params.get_labels())?;
            match label_paths(&labels, params.get_replace()) {
                Some(paths) => Ok(handle.update_labels(&digest, labels, paths).await?),
                None => Ok(handle.info(&digest).await?),
            }
        };
        let outcome = self.held.once("content.update", work, known).await?;
        reply!(results, outcome, |record, out| record.write(out.init_record()))
    }

    async fn delete(
        self: Rc<Self>,
        params: content::DeleteParams,
        mut results: content::DeleteResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let digest: Digest = read_parsed(params.get()?.get_digest())?;
            about(digest);
            Ok(handle.delete(&digest).await?)
        };
        let outcome = self.held.once("content.delete", work, nothing).await?;
        reply!(results, outcome)
    }

    async fn verify(
        self: Rc<Self>,
        params: content::VerifyParams,
        mut results: content::VerifyResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let params = params.get()?;
            let digest: Digest = read_parsed(params.get_digest())?;
            about(digest);
            Ok(handle.verify(digest, params.get_repair()).await?)
        };
        let outcome = self.held.call("content.verify", work).await?;
        reply!(results, outcome, |finding, out| finding.write(out.init_finding()))
    }

    async fn read(self: Rc<Self>, params: content::ReadParams, mut results: content::ReadResults) -> Done {
        // A wait: it takes as long as the reader does, and ends with it.
        let work = async {
            let params = params.get()?;
            let digest: Digest = read_parsed(params.get_digest())?;
            let stream = self.handle.read(&digest, params.get_offset(), params.get_size()).await?;
            send_all(stream, &params.get_sink()?).await
        };
        let outcome = self.held.wait("content.read", work).await?;
        reply!(results, outcome, |bytes, out| out.set_bytes(bytes))
    }

    async fn writer(
        self: Rc<Self>,
        params: content::WriterParams,
        mut results: content::WriterResults,
    ) -> Done {
        let held = Held::new(&self.held)?;
        let handle = self.handle.clone();
        let work = async move {
            let params = params.get()?;
            let reference = read_text(params.get_reference())?;
            let expected = read_optional_parsed(params.has_expected(), params.get_expected())?;
            let writer = handle.writer(reference, params.get_total(), expected).await?;
            let status = writer.status().await?;
            Ok((writer, status))
        };
        let outcome = self.held.call("content.writer", work).await?;
        reply!(results, outcome, |(writer, status), out| {
            status.write(out.reborrow().init_status());
            out.set_writer(new_client(Writer {
                held,
                writer,
                turn: tokio::sync::Mutex::new(()),
                failed: RefCell::new(None),
            }));
        })
    }

    async fn statuses(
        self: Rc<Self>,
        params: content::StatusesParams,
        mut results: content::StatusesResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let filter = read_filter(params.get()?.get_filters())?;
            let mut all = handle.statuses().await?;
            all.retain(|status| filter.matches(status));
            Ok(all)
        };
        let outcome = self.held.call("content.statuses", work).await?;
        reply!(results, outcome, |all, out| write_list(&all, out.init_statuses(length(&all))))
    }

    async fn status(
        self: Rc<Self>,
        params: content::StatusParams,
        mut results: content::StatusResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let reference = read_text(params.get()?.get_reference())?;
            Ok(handle.status(&reference).await?)
        };
        let outcome = self.held.call("content.status", work).await?;
        reply!(results, outcome, |status, out| status.write(out.init_status()))
    }

    async fn abort(self: Rc<Self>, params: content::AbortParams, mut results: content::AbortResults) -> Done {
        let (handle, again) = (self.handle.clone(), self.held.is_again());
        let work = async move {
            let reference = read_text(params.get()?.get_reference())?;
            match handle.abort(&reference).await {
                Err(error) if again && error.class == ErrorClass::NotFound => Ok(()),
                aborted => Ok(aborted?),
            }
        };
        let outcome = self.held.call("content.abort", work).await?;
        reply!(results, outcome)
    }
}

/// Writes a blob's bytes into the client's sink, as fast as its window allows; how many there were.
async fn send_all(mut stream: ByteStream, sink: &byte_sink::Client) -> Result<u64, Fault> {
    let left = |error: capnp::Error| Fault(Error::cancelled(format!("the reader has left: {error}")));
    let mut sent = 0;
    while let Some(bytes) = stream.recv().await {
        for chunk in bytes?.chunks(CHUNK_BYTES) {
            let mut request = sink.write_request();
            request.get().set_bytes(chunk);
            request.send().await.map_err(left)?;
            sent += chunk.len() as u64;
        }
    }
    sink.end_request().send().promise.await.map_err(left)?;
    Ok(sent)
}

/// One open ingest. Writes are taken in turn; the first that fails is kept and told by `status` and `commit`.
struct Writer {
    held: Held,
    writer: ContentWriter,
    turn: tokio::sync::Mutex<()>,
    failed: RefCell<Option<Error>>,
}

impl Writer {
    fn refuse_if_failed(&self) -> Result<(), Fault> {
        self.failed.borrow().clone().map_or(Ok(()), |error| Err(Fault(error)))
    }
}

impl content_writer::Server for Writer {
    async fn write(self: Rc<Self>, params: content_writer::WriteParams) -> Done {
        let params = params.get()?;
        let bytes = params.get_bytes()?;
        if bytes.len() > CHUNK_BYTES_MAX {
            return Err(capnp::Error::failed(format!("a chunk has at most {CHUNK_BYTES_MAX} bytes")));
        }
        let _room = self.held.bulk(bytes.len())?;
        let _turn = self.turn.lock().await;
        if self.failed.borrow().is_some() {
            return Ok(());
        }
        let outcome = self.writer.write(params.get_offset(), Bytes::copy_from_slice(bytes)).await;
        if let Err(error) = outcome {
            *self.failed.borrow_mut() = Some(error);
        }
        Ok(())
    }

    async fn status(
        self: Rc<Self>,
        _: content_writer::StatusParams,
        mut results: content_writer::StatusResults,
    ) -> Done {
        let this = Rc::clone(&self);
        let work = async move {
            let _turn = this.turn.lock().await;
            this.refuse_if_failed()?;
            Ok(this.writer.status().await?)
        };
        let outcome = self.held.call("content.writer.status", work).await?;
        reply!(results, outcome, |status, out| status.write(out.init_status()))
    }

    async fn commit(
        self: Rc<Self>,
        params: content_writer::CommitParams,
        mut results: content_writer::CommitResults,
    ) -> Done {
        let this = Rc::clone(&self);
        let work = async move {
            let _turn = this.turn.lock().await;
            this.refuse_if_failed()?;
            let params = params.get()?;
            let expected = read_optional_parsed(params.has_expected(), params.get_expected())?;
            Ok(this.writer.commit(params.get_size(), expected, read_pairs(params.get_labels())?).await?)
        };
        let outcome = self.held.call("content.commit", work).await?;
        reply!(results, outcome, |record, out| record.write(out.init_record()))
    }

    async fn abort(
        self: Rc<Self>,
        _: content_writer::AbortParams,
        mut results: content_writer::AbortResults,
    ) -> Done {
        let this = Rc::clone(&self);
        let work = async move {
            let _turn = this.turn.lock().await;
            Ok(this.writer.abort().await?)
        };
        let outcome = self.held.call("content.writer.abort", work).await?;
        reply!(results, outcome)
    }
}
