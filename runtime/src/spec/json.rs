//! A spec as the bytes that are stored: the same spec gives the same bytes.

use bosun_types::Error;
use oci_spec::runtime::Spec;
use serde::Serialize;
use serde_json::Value;

use crate::error::Result;

/// JSON of a spec. Capability sets are sorted: in memory they have no order.
pub fn to_json(spec: &Spec) -> Result<Vec<u8>> {
    stable(spec, &["process", "capabilities"])
}

/// JSON of anything with capability sets at `path`.
pub fn stable(value: &impl Serialize, path: &[&str]) -> Result<Vec<u8>> {
    let failed = |error: serde_json::Error| Error::internal(format!("encoding a spec: {error}"));
    let mut value = serde_json::to_value(value).map_err(failed)?;
    let sets = path.iter().try_fold(&mut value, |value, key| value.get_mut(*key));
    if let Some(Value::Object(sets)) = sets {
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            set.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
    Ok(serde_json::to_vec(&value).map_err(failed)?)
}
