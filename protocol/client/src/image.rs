//! One image: its record, and what its documents say.
//!
//! Each question is one call; who asks several of the same image asks [`Image::inspect`] once.

use bosun_protocol::Wire;
use bosun_types::content::Descriptor;
use bosun_types::image::{ImageDetail, ImageRecord};
use bosun_types::platform::Platform;
use bosun_types::snapshot::SNAPSHOTTER_DEFAULT;
use bosun_types::{Digest, Error, ImageName, Labels, Result};

use crate::driver::Driver;
use crate::failure::answer;
use crate::images::Images;

/// One image of a namespace, by name; whether it exists shows at the first call.
///
/// ```no_run
#[doc = include_str!("../examples/tour/image.rs")]
/// ```
#[derive(Clone)]
pub struct Image {
    images: Images,
    name: ImageName,
}

impl Image {
    pub(crate) fn new(images: Images, name: ImageName) -> Self {
        Self { images, name }
    }

    fn driver(&self) -> &Driver {
        self.images.driver()
    }

    /// Its name.
    pub fn name(&self) -> &ImageName {
        &self.name
    }

    /// Its record.
    ///
    /// # Errors
    /// NotFound; so for every method here.
    pub async fn record(&self) -> Result<ImageRecord> {
        self.images.get(self.name.clone()).await
    }

    /// The manifest or index that it points at.
    pub async fn target(&self) -> Result<Descriptor> {
        Ok(self.record().await?.target)
    }

    /// Its labels.
    pub async fn labels(&self) -> Result<Labels> {
        Ok(self.record().await?.labels)
    }

    /// Sets these labels and leaves the others; an empty value removes one. Gives all of them.
    pub async fn set_labels(&self, labels: Labels) -> Result<Labels> {
        let record = ImageRecord { labels, ..self.record().await? };
        let paths: Vec<String> = record.labels.keys().map(|key| format!("labels.{key}")).collect();
        if paths.is_empty() {
            return self.labels().await;
        }
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        Ok(self.images.update(record, &paths).await?.labels)
    }

    /// What its documents say for a platform (`None`: the host's), and what of it is here; `snapshotter` is the one that
    /// [`ImageDetail::unpacked`] is about. What is missing is told, and no error (IMG-16).
    ///
    /// # Errors
    /// NotFound: the image, or an index has nothing for the platform. InvalidArgument: documents that are none, an unknown snapshotter.
    pub async fn inspect(&self, platform: Option<Platform>, snapshotter: &str) -> Result<ImageDetail> {
        let (namespace, name) = (self.images.namespace().clone(), self.name.clone());
        let snapshotter = snapshotter.to_owned();
        self.driver()
            .call(move |session| async move {
                let mut call = session.scope(&namespace).images.inspect_request();
                let mut params = call.get();
                params.set_image(name.as_str());
                params.set_snapshotter(snapshotter.as_str());
                if let Some(platform) = &platform {
                    platform.write(params.init_platform());
                }
                answer!(results, call);
                Ok(ImageDetail::read(results.get_detail()?)?)
            })
            .await
    }

    async fn here(&self) -> Result<ImageDetail> {
        self.inspect(None, SNAPSHOTTER_DEFAULT).await
    }

    fn absent(&self, what: &str) -> Error {
        Error::not_found(format!("image {}: its {what} is not here", self.name))
            .with_hint(format!("`bosun pull {}` fetches what is missing", self.name))
    }

    /// Its config's descriptor, for the host's platform.
    ///
    /// # Errors
    /// NotFound: no manifest is here that names one.
    pub async fn config(&self) -> Result<Descriptor> {
        self.here().await?.config.ok_or_else(|| self.absent("manifest"))
    }

    /// Its config's bytes, JSON, for the host's platform.
    ///
    /// # Errors
    /// NotFound: it is not here.
    pub async fn config_json(&self) -> Result<Vec<u8>> {
        self.here().await?.config_json.ok_or_else(|| self.absent("config"))
    }

    /// Digests of its uncompressed layers, lowest first, for the host's platform.
    ///
    /// # Errors
    /// NotFound: its config is not here.
    pub async fn rootfs(&self) -> Result<Vec<Digest>> {
        let detail = self.here().await?;
        if detail.config_json.is_none() {
            return Err(self.absent("config"));
        }
        Ok(detail.diff_ids)
    }

    /// What its descriptors say in bytes, for the host's platform: as it lies in content, compressed.
    ///
    /// # Errors
    /// NotFound: a part of it is not here (IMG-14).
    pub async fn size(&self) -> Result<u64> {
        let detail = self.here().await?;
        match detail.missing.first() {
            Some(missing) => Err(self.absent(&format!("part {}", missing.digest))),
            None => Ok(detail.size),
        }
    }

    /// The platforms it is for, each once (IMG-17).
    pub async fn platforms(&self) -> Result<Vec<Platform>> {
        Ok(self.here().await?.platforms)
    }

    /// Whether its topmost layer is a snapshot, for the host's platform.
    pub async fn is_unpacked(&self, snapshotter: &str) -> Result<bool> {
        Ok(self.inspect(None, snapshotter).await?.unpacked)
    }

    /// Its layers become snapshots, those that are not yet. A container that is made of it does this too. Without a deadline; goes on over a
    /// restart of the daemon.
    ///
    /// # Errors
    /// NotFound: a part of it is not here.
    pub async fn unpack(&self, snapshotter: &str) -> Result<()> {
        let (namespace, name) = (self.images.namespace().clone(), self.name.clone());
        let snapshotter = snapshotter.to_owned();
        self.driver()
            .wait(move |session| {
                let mut call = session.scope(&namespace).images.unpack_request();
                call.get().set_image(name.as_str());
                call.get().set_snapshotter(snapshotter.as_str());
                async move {
                    answer!(_results, call);
                    Ok(())
                }
            })
            .await
    }
}
