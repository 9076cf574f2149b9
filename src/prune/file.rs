//! Pruning the tensors of a file: a checkpoint, or any file of named tensors.

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};
use crate::model::{TensorFile, checkpoint_of};

use super::{LayerDensity, Scope, cut};

/// A weight that may be pruned.
#[derive(Clone, Debug, PartialEq)]
pub struct PrunableTensor {
    /// Its name in the file, prefixes dropped.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Vec<f32>,
}

/// The prunable weights of `file`, without those named, or whose layer is named, in `exclude`: of a checkpoint the convolution
/// and linear weights, in parameter order; of any other file every floating-point tensor of 2 or 4 dimensions, in file order.
///
/// # Errors
/// The file and tensor are named: a broken checkpoint, a value that is not finite, no prunable tensor, or a name in
/// `exclude` that none bears.
pub fn prunable_tensors(file: &TensorFile, exclude: &[String]) -> Result<Vec<PrunableTensor>> {
    let all = if file.is_checkpoint() { of_checkpoint(file)? } else { of_bare_file(file)? };
    let bears = |tensor: &PrunableTensor, name: &String| {
        tensor.name == *name || tensor.name.strip_suffix(".weight") == Some(name)
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
    let weights = checkpoint_of(file)?.weights;
    let layout = weights.layout().clone();
    Ok(layout
        .parameters
        .iter()
        .filter(|spec| spec.kind.prunable())
        .map(|spec| PrunableTensor {
            name: spec.name.clone(),
            shape: spec.shape.clone(),
            values: weights.parameters[spec.range.clone()].to_vec(),
        })
        .collect())
}

fn of_bare_file(file: &TensorFile) -> Result<Vec<PrunableTensor>> {
    file.iter()
        .filter(|(_, tensor)| matches!(tensor.rank(), 2 | 4) && tensor.dtype().is_float())
        .map(|(name, tensor): (&str, &Tensor)| {
            let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            match values.iter().position(|value| !value.is_finite()) {
                None => Ok(PrunableTensor { name: name.into(), shape: tensor.dims().to_vec(), values }),
                Some(at) => {
                    let what = format!("holds {} at flat index {at}", values[at]);
                    Err(Error::tensor(format!("{}:{name}", file.origin()), what))
                }
            }
        })
        .collect()
}

/// Masks after 1, 2, … `levels` cuts of `fraction`, each nested in the one before; per level one mask of 0 and 1 for each tensor.
/// No weight is trained in between.
///
/// # Errors
/// When `fraction` is outside (0, 1).
pub fn prune_levels(
    tensors: &[PrunableTensor],
    scope: Scope,
    fraction: f64,
    levels: usize,
) -> Result<Vec<Vec<Vec<u8>>>> {
    let values: Vec<&[f32]> = tensors.iter().map(|tensor| tensor.values.as_slice()).collect();
    let mut masks: Vec<Vec<u8>> = values.iter().map(|layer| vec![1; layer.len()]).collect();
    (0..levels)
        .map(|_| {
            cut(&values, &mut masks, scope, fraction)?;
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
