//! Weights that a file holds as a product: `NAME_orig` with `NAME_mask`, as `torch.nn.utils.prune` keeps them until
//! `prune.remove`, and `parametrizations.NAME.original` with a mask, as `torch.ao.pruning` does.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};

/// The name of the product and of its mask, if `name` is the first factor of one.
fn factors(name: &str) -> Option<(String, String)> {
    if let Some(stem) = name.strip_suffix("_orig") {
        return Some((stem.to_owned(), format!("{stem}_mask")));
    }
    let (module, rest) = name.split_once("parametrizations.")?;
    let parameter = rest.strip_suffix(".original")?;
    Some((format!("{module}{parameter}"), format!("{module}parametrizations.{parameter}.0.mask")))
}

/// Puts the product in the place of the first factor of each pair; the rest stays as it is.
///
/// # Errors
/// The tensor of `origin` is named: a factor without its mask, a mask of another shape, a product whose name is taken.
pub(super) fn multiply(origin: &str, named: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>> {
    let pairs: BTreeMap<String, (String, String)> =
        named.iter().filter_map(|(name, _)| Some((name.clone(), factors(name)?))).collect();
    if pairs.is_empty() {
        return Ok(named);
    }
    let masks: BTreeMap<String, Tensor> = named
        .iter()
        .filter(|(name, _)| pairs.values().any(|(_, mask)| mask == name))
        .map(|(name, tensor)| (name.clone(), tensor.clone()))
        .collect();
    let mut out = Vec::new();
    for (name, tensor) in named {
        let fault = |what: String| Error::tensor(format!("{origin}:{name}"), what);
        let Some((product, mask_name)) = pairs.get(&name) else {
            if !masks.contains_key(&name) {
                out.push((name, tensor));
            }
            continue;
        };
        let Some(mask) = masks.get(mask_name) else {
            return Err(fault(format!(
                "is one factor of a weight, and the other (`{mask_name}` of pruning) is missing: save the file after \
                 prune.remove, or remove_spectral_norm or whatever else made the factors"
            )));
        };
        if mask.dims() != tensor.dims() {
            return Err(fault(format!("has shape {:?}, its mask `{mask_name}` {:?}", tensor.dims(), mask.dims())));
        }
        let values = mask.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        if let Some(at) = values.iter().position(|value| *value != 0.0 && *value != 1.0) {
            return Err(fault(format!("its mask `{mask_name}` holds {} at flat index {at}, not 0 or 1", values[at])));
        }
        out.push((product.clone(), tensor.mul(&mask.to_dtype(tensor.dtype())?)?));
    }
    Ok(out)
}
