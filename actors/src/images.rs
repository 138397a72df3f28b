//! Images: names that point at descriptors (IMG-1..6).

use bosun_storage::batch::Batch;
use bosun_storage::key;
use bosun_types::event::Event;
use bosun_types::image::{ImageDetail, ImageRecord};
use bosun_types::platform::Platform;
use bosun_types::{Error, ImageName, NamespaceName, Result, Timestamp};

use crate::core::{Core, Shared, blocking};
use crate::directory::Name;
use crate::mask::Mask;
use crate::namespaces::DEADLINE;
use crate::transfers;
use crate::writer::{revise, write};

mod detail;

/// The writer.
pub(crate) const WRITER: Name = Name::Service("images");

/// A namespace's images.
#[derive(Clone)]
pub struct ImagesHandle {
    core: Shared,
    namespace: NamespaceName,
}

impl ImagesHandle {
    pub(crate) fn new(core: Shared, namespace: NamespaceName) -> Self {
        Self { core, namespace }
    }

    /// Records a new name. AlreadyExists when it is taken.
    pub async fn create(&self, image: ImageRecord) -> Result<ImageRecord> {
        let now = Timestamp::now();
        let image =
            ImageRecord { namespace: self.namespace.clone(), created_at: now, updated_at: now, ..image };
        image.validate()?;
        write(&self.core, &WRITER, DEADLINE, move |core| async move {
            if get(&core, &image.namespace, &image.name).is_ok() {
                return Err(Error::already_exists(format!("image {}", image.name)));
            }
            let mut batch = Batch::new();
            core.ensure_namespace(&mut batch, &image.namespace)?;
            put(&mut batch, &image, true);
            core.commit(batch).await?;
            Ok(image)
        })
        .await
    }

    /// One image.
    pub async fn get(&self, name: &ImageName) -> Result<ImageRecord> {
        get(&self.core, &self.namespace, name)
    }

    /// All images, by name.
    pub async fn list(&self) -> Result<Vec<ImageRecord>> {
        Ok(self.core.store.scan(&key::within(&self.namespace))?)
    }

    /// IMG-4: paths `labels`, `labels.<key>`, `target`; none replaces labels and target.
    pub async fn update(&self, image: ImageRecord, paths: Vec<String>) -> Result<ImageRecord> {
        let namespace = self.namespace.clone();
        let row = key::image(&namespace, &image.name);
        revise(&self.core, &WRITER, row, DEADLINE, move |core| async move {
            let mut stored = get(&core, &namespace, &image.name)?;
            let mask = Mask::parse("image", &paths, &["target"])?;
            mask.labels(&mut stored.labels, &image.labels);
            if mask.has("target") {
                stored.target = image.target;
            }
            stored.updated_at = Timestamp::now();
            stored.validate()?;
            let mut batch = Batch::new();
            put(&mut batch, &stored, false);
            core.commit(batch).await?;
            Ok(stored)
        })
        .await
    }

    /// GC-9: after a deletion; answers when what the name alone kept is gone.
    pub async fn collect(&self) -> Result<()> {
        crate::gc::collect(&self.core).await.map(drop)
    }

    /// What its documents say for a platform, and what of it is here.
    pub async fn inspect(
        &self,
        name: &ImageName,
        platform: Platform,
        snapshotter: &str,
    ) -> Result<ImageDetail> {
        let (core, namespace) = (self.core.clone(), self.namespace.clone());
        let (name, snapshotter) = (name.clone(), snapshotter.to_owned());
        blocking(move || detail::detail(&core, &namespace, &name, &platform, &snapshotter)).await
    }

    /// IMG-19: its layers become snapshots, those that are not yet.
    pub async fn unpack(&self, name: &ImageName, snapshotter: &str) -> Result<()> {
        transfers::ensure_unpacked(&self.core, &self.namespace, name, snapshotter).await
    }

    /// Forgets a name. Content goes with the next collection.
    pub async fn delete(&self, name: &ImageName) -> Result<()> {
        let (namespace, name) = (self.namespace.clone(), name.clone());
        write(&self.core, &WRITER, DEADLINE, move |core| async move {
            get(&core, &namespace, &name)?;
            let mut batch = Batch::new();
            batch
                .delete::<ImageRecord>(key::image(&namespace, &name))
                .publish(&namespace, Event::ImageDelete { name: name.clone() });
            core.commit(batch).await?;
            Ok(())
        })
        .await
    }
}

/// One record, or NotFound.
pub(crate) fn get(core: &Core, namespace: &NamespaceName, name: &ImageName) -> Result<ImageRecord> {
    core.store.get(&key::image(namespace, name))?.ok_or_else(|| {
        Error::not_found(format!("image {name}"))
            .with_hint(format!("`bosun pull {name}` fetches it, `bosun images` lists what there is"))
    })
}

/// The row and its event (IMG-6).
pub(crate) fn put(batch: &mut Batch, image: &ImageRecord, new: bool) {
    let (name, labels) = (image.name.clone(), image.labels.clone());
    let event = if new { Event::ImageCreate { name, labels } } else { Event::ImageUpdate { name, labels } };
    batch.put(image).publish(&image.namespace, event);
}
