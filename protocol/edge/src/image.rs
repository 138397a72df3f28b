//! `Images`.

use std::rc::Rc;

use bosun_actors::images::ImagesHandle;
use bosun_protocol::Wire;
use bosun_protocol::convert::{length, read_parsed, read_text, read_texts, write_list};
use bosun_protocol::image_capnp::images;
use bosun_types::image::ImageRecord;
use bosun_types::platform::Platform;
use bosun_types::snapshot::SNAPSHOTTER_DEFAULT;
use bosun_types::{Error, ImageName};

use crate::connection::{Held, about, nothing};
use crate::page::{Wanted, label_bytes, paged};
use crate::reply;

pub(crate) struct Images {
    held: Held,
    handle: ImagesHandle,
}

impl Images {
    pub(crate) fn new(held: Held, handle: ImagesHandle) -> Self {
        Self { held, handle }
    }

    /// What a repetition is told of a call that made that record what it is.
    fn known(
        &self,
        image: &Result<ImageRecord, Error>,
    ) -> impl Future<Output = Result<ImageRecord, Error>> + use<> {
        let (handle, name) = (self.handle.clone(), image.clone().map(|image| image.name));
        async move { handle.get(&name?).await }
    }
}

type Done = Result<(), capnp::Error>;

impl images::Server for Images {
    async fn create(
        self: Rc<Self>,
        params: images::CreateParams,
        mut results: images::CreateResults,
    ) -> Done {
        let handle = self.handle.clone();
        let image = ImageRecord::read(params.get()?.get_image()?);
        let known = self.known(&image);
        let work = async move {
            let image = image?;
            about(&image.name);
            Ok(handle.create(image).await?)
        };
        let outcome = self.held.once("image.create", work, |_| known).await?;
        reply!(results, outcome, |record, out| record.write(out.init_record()))
    }

    async fn get(self: Rc<Self>, params: images::GetParams, mut results: images::GetResults) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let name: ImageName = read_parsed(params.get()?.get_image())?;
            Ok(handle.get(&name).await?)
        };
        let outcome = self.held.call("image.get", work).await?;
        reply!(results, outcome, |record, out| record.write(out.init_record()))
    }

    async fn list(self: Rc<Self>, params: images::ListParams, mut results: images::ListResults) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let wanted = Wanted::read(params.get()?.get_page()?)?;
            paged(
                handle.list().await,
                &wanted,
                |record| record.name.to_string(),
                |record| label_bytes(&record.labels) + record.name.as_str().len() + 256,
            )
        };
        let outcome = self.held.call("image.list", work).await?;
        reply!(results, outcome, |page, out| {
            write_list(&page.records, out.reborrow().init_records(length(&page.records)));
            page.write_next(out.init_page());
        })
    }

    async fn update(
        self: Rc<Self>,
        params: images::UpdateParams,
        mut results: images::UpdateResults,
    ) -> Done {
        let handle = self.handle.clone();
        let image = ImageRecord::read(params.get()?.get_image()?);
        let known = self.known(&image);
        let work = async move {
            let (image, paths) = (image?, read_texts(params.get()?.get_paths())?);
            about(&image.name);
            Ok(handle.update(image, paths).await?)
        };
        let outcome = self.held.once("image.update", work, |_| known).await?;
        reply!(results, outcome, |record, out| record.write(out.init_record()))
    }

    async fn delete(
        self: Rc<Self>,
        params: images::DeleteParams,
        mut results: images::DeleteResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let params = params.get()?;
            let name: ImageName = read_parsed(params.get_image())?;
            about(&name);
            handle.delete(&name).await?;
            if params.get_sync() { Ok(handle.collect().await?) } else { Ok(()) }
        };
        let outcome = self.held.once("image.delete", work, nothing).await?;
        reply!(results, outcome)
    }

    async fn inspect(
        self: Rc<Self>,
        params: images::InspectParams,
        mut results: images::InspectResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let params = params.get()?;
            let name: ImageName = read_parsed(params.get_image())?;
            let platform = match params.has_platform() {
                true => Platform::read(params.get_platform()?)?,
                false => Platform::host(),
            };
            let snapshotter = snapshotter(read_text(params.get_snapshotter())?);
            Ok(handle.inspect(&name, platform, &snapshotter).await?)
        };
        let outcome = self.held.call("image.inspect", work).await?;
        reply!(results, outcome, |detail, out| detail.write(out.init_detail()))
    }

    async fn unpack(
        self: Rc<Self>,
        params: images::UnpackParams,
        mut results: images::UnpackResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let params = params.get()?;
            let name: ImageName = read_parsed(params.get_image())?;
            about(&name);
            Ok(handle.unpack(&name, &snapshotter(read_text(params.get_snapshotter())?)).await?)
        };
        let outcome = self.held.call("image.unpack", work).await?;
        reply!(results, outcome)
    }
}

/// None named: the default.
fn snapshotter(named: String) -> String {
    if named.is_empty() { SNAPSHOTTER_DEFAULT.to_owned() } else { named }
}
