//! Image records.

use bosun_filter::Filters;
use bosun_protocol::Wire;
use bosun_protocol::convert::{length, write_texts};
use bosun_types::image::ImageRecord;
use bosun_types::{ImageName, NamespaceName, Result};

use crate::daemon::all_pages;
use crate::driver::Driver;
use crate::failure::answer;
use crate::image::Image;

/// The images of one namespace.
#[derive(Clone)]
pub struct Images {
    driver: Driver,
    namespace: NamespaceName,
}

impl Images {
    pub(crate) fn new(driver: Driver, namespace: NamespaceName) -> Self {
        Self { driver, namespace }
    }

    pub(crate) fn driver(&self) -> &Driver {
        &self.driver
    }

    pub(crate) fn namespace(&self) -> &NamespaceName {
        &self.namespace
    }

    /// One image, by name; whether it exists shows at the first call.
    pub fn image(&self, name: ImageName) -> Image {
        Image::new(self.clone(), name)
    }

    /// Records an image; its times and namespace are set by the daemon.
    pub async fn create(&self, image: ImageRecord) -> Result<ImageRecord> {
        let namespace = self.namespace.clone();
        self.driver
            .change(move |session| async move {
                let mut call = session.scope(&namespace).images.create_request();
                image.write(call.get().init_image());
                answer!(results, call);
                Ok(ImageRecord::read(results.get_record()?)?)
            })
            .await
    }

    /// One image's record.
    pub async fn get(&self, image: ImageName) -> Result<ImageRecord> {
        let namespace = self.namespace.clone();
        self.driver
            .call(move |session| async move {
                let mut call = session.scope(&namespace).images.get_request();
                call.get().set_image(image.as_str());
                answer!(results, call);
                Ok(ImageRecord::read(results.get_record()?)?)
            })
            .await
    }

    /// All of them, ordered by name.
    pub async fn list(&self) -> Result<Vec<ImageRecord>> {
        self.list_where(Filters::all()).await
    }

    /// Those that the filters want: fields `name`, `target.digest`, `target.mediatype`, `labels.<key>`.
    pub async fn list_where(&self, filters: impl Into<Filters>) -> Result<Vec<ImageRecord>> {
        let filters = filters.into();
        let namespace = self.namespace.clone();
        self.driver
            .call(move |session| async move {
                all_pages!(session.scope(&namespace).images, list_request, get_records, filters)
            })
            .await
    }

    /// Replaces the fields that `paths` names: `labels`, `labels.<key>`, `target`; none: all that may change.
    pub async fn update(&self, image: ImageRecord, paths: &[&str]) -> Result<ImageRecord> {
        let namespace = self.namespace.clone();
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        self.driver
            .change(move |session| async move {
                let mut call = session.scope(&namespace).images.update_request();
                image.write(call.get().init_image());
                write_texts(&paths, call.get().init_paths(length(&paths)));
                answer!(results, call);
                Ok(ImageRecord::read(results.get_record()?)?)
            })
            .await
    }

    /// Removes the record, and answers when the content that only it kept is gone. Without a deadline.
    pub async fn delete_sync(&self, image: ImageName) -> Result<()> {
        let namespace = self.namespace.clone();
        self.driver
            .change_and_wait(move |session| async move {
                let mut call = session.scope(&namespace).images.delete_request();
                call.get().set_image(image.as_str());
                call.get().set_sync(true);
                answer!(_results, call);
                Ok(())
            })
            .await
    }

    /// Removes the record. The content that only it kept goes with the next collection.
    pub async fn delete(&self, image: ImageName) -> Result<()> {
        let namespace = self.namespace.clone();
        self.driver
            .change(move |session| async move {
                let mut call = session.scope(&namespace).images.delete_request();
                call.get().set_image(image.as_str());
                answer!(_results, call);
                Ok(())
            })
            .await
    }
}
