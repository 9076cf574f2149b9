//! Pruning the tensors of a file: a checkpoint, or any file of named tensors.

use std::borrow::Cow;

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};
use crate::model::{TensorFile, checkpoint_of};
use crate::nn::Weights;

use super::{LayerDensity, Magnitude, Scope, cut};

/// A weight that may be pruned.
#[derive(Clone, Debug, PartialEq)]
pub struct PrunableTensor {
    /// Its name, as [`TensorFile`] has it.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Values,
}

/// A tensor's values, row-major, as exact as its file has them.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Of a tensor in f32 or less.
    Single(Vec<f32>),
    /// Of a tensor in f64.
    Double(Vec<f64>),
}

impl Values {
    /// Those of a floating-point tensor that `name` knows.
    ///
    /// # Errors
    /// The tensor is named when a value is not finite.
    fn of(tensor: &Tensor, name: &str) -> Result<Self> {
        let flat = tensor.flatten_all()?;
        let values = match tensor.dtype() {
            DType::F64 => Values::Double(flat.to_vec1()?),
            _ => Values::Single(flat.to_dtype(DType::F32)?.to_vec1()?),
        };
        match values.not_finite() {
            None => Ok(values),
            Some((at, value)) => Err(Error::tensor(name, format!("holds {value} at flat index {at}"))),
        }
    }

    /// The first that is NaN or infinite, and its place.
    fn not_finite(&self) -> Option<(usize, f64)> {
        match self {
            Values::Single(values) => {
                let at = values.iter().position(|value| !value.is_finite())?;
                Some((at, f64::from(values[at])))
            }
            Values::Double(values) => {
                let at = values.iter().position(|value| !value.is_finite())?;
                Some((at, values[at]))
            }
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Values::Single(values) => values.len(),
            Values::Double(values) => values.len(),
        }
    }

    /// How many are zero.
    pub fn zeros(&self) -> usize {
        match self {
            Values::Single(values) => values.iter().filter(|value| **value == 0.0).count(),
            Values::Double(values) => values.iter().filter(|value| **value == 0.0).count(),
        }
    }
}

/// The prunable weights of `file`, without those named, or whose layer is named, in `exclude`, by
/// the file's own names too: of a checkpoint the convolution and linear weights, in parameter
/// order; of any other file every floating-point tensor of 2 or 4 dimensions, in file order.
///
/// # Errors
/// The file and tensor are named: a broken checkpoint, a value that is not finite, no prunable
/// tensor, or a name in `exclude` that none bears.
pub fn prunable_tensors(file: &TensorFile, exclude: &[String]) -> Result<Vec<PrunableTensor>> {
    let all = if file.is_checkpoint() { of_checkpoint(file)? } else { of_bare_file(file)? };
    let bears = |tensor: &PrunableTensor, name: &String| {
        let names = [tensor.name.as_str(), file.own_name(&tensor.name)];
        names.iter().any(|own| own == name || own.strip_suffix(".weight") == Some(name))
    };
    if let Some(unknown) = exclude.iter().find(|name| !all.iter().any(|tensor| bears(tensor, name))) {
        return Err(Error::input(format!("exclude: {} has no prunable weight `{unknown}`", file.origin())));
    }
    let kept: Vec<_> = all.into_iter().filter(|tensor| !exclude.iter().any(|name| bears(tensor, name))).collect();
    match kept.is_empty() {
        true => Err(Error::input(format!("{}: holds no prunable weight", file.origin()))),
        false => Ok(kept),
    }
}

fn of_checkpoint(file: &TensorFile) -> Result<Vec<PrunableTensor>> {
    let layout = checkpoint_of(file)?.weights.layout().clone();
    let prunable = layout.parameters.iter().filter(|spec| spec.kind.prunable());
    prunable.filter_map(|spec| file.get(&spec.name).map(|tensor| prunable_tensor(file, &spec.name, tensor))).collect()
}

fn of_bare_file(file: &TensorFile) -> Result<Vec<PrunableTensor>> {
    file.iter()
        // A mask that stands without its weights is no weight.
        .filter(|(name, _)| !name.ends_with("_mask"))
        .filter(|(_, tensor)| matches!(tensor.rank(), 2 | 4) && tensor.dtype().is_float())
        .map(|(name, tensor)| prunable_tensor(file, name, tensor))
        .collect()
}

fn prunable_tensor(file: &TensorFile, name: &str, tensor: &Tensor) -> Result<PrunableTensor> {
    let values = Values::of(tensor, &format!("{}:{name}", file.origin()))?;
    Ok(PrunableTensor { name: name.into(), shape: tensor.dims().to_vec(), values })
}

/// Masks after 1, 2, … `levels` cuts of `fraction`, each nested in the one before; per level one
/// mask of 0 and 1 for each tensor. No weight is trained in between.
///
/// # Errors
/// When `fraction` is outside (0, 1).
pub fn prune_levels(
    tensors: &[PrunableTensor],
    scope: Scope,
    fraction: f64,
    levels: usize,
) -> Result<Vec<Vec<Vec<u8>>>> {
    let single = tensors.iter().map(|tensor| match &tensor.values {
        Values::Single(values) => Some(values.as_slice()),
        Values::Double(_) => None,
    });
    if let Some(values) = single.collect::<Option<Vec<&[f32]>>>() {
        return cut_levels(&values, scope, fraction, levels);
    }
    // Where one tensor is in f64, all are compared in f64.
    let double = tensors.iter().map(|tensor| match &tensor.values {
        Values::Single(values) => Cow::Owned(values.iter().copied().map(f64::from).collect()),
        Values::Double(values) => Cow::Borrowed(values.as_slice()),
    });
    let double: Vec<Cow<'_, [f64]>> = double.collect();
    cut_levels(&double.iter().map(Cow::as_ref).collect::<Vec<_>>(), scope, fraction, levels)
}

fn cut_levels<V: Magnitude>(values: &[&[V]], scope: Scope, fraction: f64, levels: usize) -> Result<Vec<Vec<Vec<u8>>>> {
    let mut masks: Vec<Vec<u8>> = values.iter().map(|layer| vec![1; layer.len()]).collect();
    (0..levels)
        .map(|_| {
            cut(values, &mut masks, scope, fraction)?;
            Ok(masks.clone())
        })
        .collect()
}

/// How much of each tensor the masks of one level keep.
pub fn densities(tensors: &[PrunableTensor], masks: &[Vec<u8>]) -> Vec<LayerDensity> {
    tensors
        .iter()
        .zip(masks)
        .map(|(tensor, mask)| LayerDensity {
            name: tensor.name.clone(),
            kept: mask.iter().filter(|&&bit| bit != 0).count(),
            total: mask.len(),
        })
        .collect()
}

/// Share of the prunable weights that are not zero.
pub fn density(weights: &Weights) -> f64 {
    let prunable = weights.layout().parameters.iter().filter(|spec| spec.kind.prunable());
    let (mut kept, mut total) = (0, 0);
    for spec in prunable {
        let values = &weights.parameters[spec.range.clone()];
        kept += values.iter().filter(|value| **value != 0.0).count();
        total += values.len();
    }
    kept as f64 / total.max(1) as f64
}

/// Zeroes the weights that a file of masks does not keep: masks as `prune` writes them
/// (`mask/LEVEL/NAME`, the last level counts), or one for each weight by its name, with or without
/// `_mask` at its end.
///
/// # Errors
/// The file and tensor are named: a mask of no prunable weight, of another shape, or with other
/// values than 0 and 1; no mask at all.
pub fn apply_mask(weights: &mut Weights, file: &TensorFile) -> Result<()> {
    let level = |name: &str| name.strip_prefix("mask/")?.split_once('/')?.0.parse::<u32>().ok();
    let last = file.iter().filter_map(|(name, _)| level(name)).max();
    let layout = weights.layout().clone();
    let mut applied = 0;
    for (name, tensor) in file.iter().filter(|(name, _)| level(name) == last) {
        let fault = |what: String| Error::tensor(format!("{}:{name}", file.origin()), what);
        let weight = match last {
            Some(_) => name.splitn(3, '/').nth(2).unwrap_or_default(),
            None => name.strip_suffix("_mask").unwrap_or(name),
        };
        let spec = layout.parameters.iter().find(|spec| spec.name == weight && spec.kind.prunable());
        let spec =
            spec.ok_or_else(|| fault(format!("is the mask of `{weight}`, which is no weight of the candidate")))?;
        if tensor.dims() != spec.shape.as_slice() {
            return Err(fault(format!("has shape {:?}, the weight {:?}", tensor.dims(), spec.shape)));
        }
        let mask = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        if let Some(at) = mask.iter().position(|value| *value != 0.0 && *value != 1.0) {
            return Err(fault(format!("holds {} at flat index {at}: a mask is 0 or 1", mask[at])));
        }
        for (value, keep) in weights.parameters[spec.range.clone()].iter_mut().zip(mask) {
            *value *= keep;
        }
        applied += 1;
    }
    match applied {
        0 => Err(Error::format(file.origin(), "holds no mask")),
        _ => Ok(()),
    }
}
