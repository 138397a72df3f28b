//! The images of `docker save` archives: `manifest.json` names a config and layers by path; the manifest is made from it.

use bosun_types::content::Descriptor;
use serde::Deserialize;
use serde_json::json;

use super::intake::{Archive, Kept};
use super::{ImportError, ImportOptions, ImportedImage, image_name, invalid, name_from_base};
use crate::compression::Compression;
use crate::image::{CONFIG_BYTES_MAX, LAYERS_MAX, media_type, parse_config};

/// Most images of one archive.
const IMAGES_MAX: usize = 1024;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

pub(super) fn images(
    archive: &mut Archive<'_>,
    options: &ImportOptions<'_>,
) -> Result<Vec<ImportedImage>, ImportError> {
    let bytes = archive.docker.take().unwrap_or_default();
    let items: Vec<Item> =
        serde_json::from_slice(&bytes).map_err(|error| invalid(format!("manifest.json: {error}")))?;
    if items.len() > IMAGES_MAX {
        return Err(invalid(format!("{} images, at most {IMAGES_MAX} are read", items.len())));
    }
    items.into_iter().map(|item| image(archive, item, options)).collect()
}

fn image(
    archive: &mut Archive<'_>,
    item: Item,
    options: &ImportOptions<'_>,
) -> Result<ImportedImage, ImportError> {
    let find = |name: &str| {
        archive
            .file(name)
            .ok_or_else(|| invalid(format!("manifest.json names {name:?}, which it does not have")))
    };
    let config = find(&item.config)?;
    let names = item.layers.unwrap_or_default();
    if names.len() > LAYERS_MAX {
        return Err(invalid(format!("an image of {} layers, at most {LAYERS_MAX} work", names.len())));
    }
    let layers: Vec<Kept> = names.iter().map(|name| find(name)).collect::<Result<_, _>>()?;
    check_layers(archive, &config, &layers)?;
    let describe =
        |media_type: String, kept: &Kept| Descriptor { media_type, digest: kept.digest, size: kept.size };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::DOCKER_MANIFEST,
        "config": describe(media_type::DOCKER_CONFIG.to_owned(), &config),
        "layers": layers.iter().map(|layer| describe(layer.layer_media_type(), layer)).collect::<Vec<_>>(),
    });
    let bytes = serde_json::to_vec(&manifest).map_err(|error| invalid(error.to_string()))?;
    let target = describe(media_type::DOCKER_MANIFEST.to_owned(), &archive.keep(&bytes)?);
    let tags = item.repo_tags.unwrap_or_default();
    let names = if tags.is_empty() {
        vec![name_from_base(None, &target.digest, options)?]
    } else {
        tags.iter().map(|tag| image_name(tag)).collect::<Result<_, _>>()?
    };
    Ok(ImportedImage { names, target })
}

/// A plain layer is its own diff id, so a wrong one shows here; a compressed one shows when it is unpacked.
fn check_layers(archive: &Archive<'_>, config: &Kept, layers: &[Kept]) -> Result<(), ImportError> {
    let parsed = parse_config(&archive.read(&config.digest, CONFIG_BYTES_MAX)?)?;
    if parsed.diff_ids.len() != layers.len() {
        return Err(invalid(format!(
            "manifest.json names {} layers, the config names {} diff ids",
            layers.len(),
            parsed.diff_ids.len()
        )));
    }
    for (layer, diff_id) in layers.iter().zip(&parsed.diff_ids) {
        if layer.compression == Compression::None && layer.digest != *diff_id {
            return Err(invalid(format!("a layer has digest {}, the config says {diff_id}", layer.digest)));
        }
    }
    Ok(())
}
