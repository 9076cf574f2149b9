//! Magnitude pruning (Frankle & Carbin 2019; Han et al. 2015): exact counts, nested masks, stable ties.

mod cut;
mod file;
mod mask;

pub use cut::{Magnitude, Scope, cut, cut_layers, prune_count};
pub use file::{PrunableTensor, Values, apply_mask, densities, density, prunable_tensors, prune_levels};
pub use mask::{LayerDensity, Mask, Prunable};

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::nn::Weights;

/// Prunes one round: `mask` loses `round_half_even(fraction · remaining)` of its prunable weights,
/// those of least magnitude in `weights`, over the whole network or layer by layer. Parameters
/// whose name, or layer, is in `exclude` count neither in the total nor in the cut.
///
/// # Errors
/// When `fraction` is outside (0, 1) or a weight is not a number.
pub fn prune(weights: &Weights, mask: &Mask, scope: Scope, fraction: f64, exclude: &[String]) -> Result<Mask> {
    prune_with(weights, mask, exclude, |values, bits| cut(values, bits, scope, fraction))
}

/// [`prune`] layer by layer, where `own` holds fractions of layers, or parameters, that go by another than `fraction`.
///
/// # Errors
/// As [`prune`].
pub fn prune_layers(
    weights: &Weights,
    mask: &Mask,
    fraction: f64,
    own: &BTreeMap<String, f64>,
    exclude: &[String],
) -> Result<Mask> {
    let of = |name: &str| own.get(name).or_else(|| own.get(name.strip_suffix(".weight")?));
    let fractions: Vec<f64> = mask.prunable(exclude).map(|spec| of(&spec.name).copied().unwrap_or(fraction)).collect();
    prune_with(weights, mask, exclude, |values, bits| cut_layers(values, bits, &fractions))
}

/// [`prune`] with another cut: it is given the values and the mask of each prunable tensor, in
/// parameter order, and clears what goes.
///
/// # Errors
/// Those of the cut; a tensor that it names by its position gets its name.
pub fn prune_with(
    weights: &Weights,
    mask: &Mask,
    exclude: &[String],
    cut: impl FnOnce(&[&[f32]], &mut [Vec<u8>]) -> Result<()>,
) -> Result<Mask> {
    let specs: Vec<_> = mask.prunable(exclude).collect();
    let mut next = mask.clone();
    let values: Vec<&[f32]> = specs.iter().map(|spec| &weights.parameters[spec.range.clone()]).collect();
    let mut bits: Vec<Vec<u8>> = specs.iter().map(|spec| mask.bits()[spec.range.clone()].to_vec()).collect();
    cut(&values, &mut bits).map_err(|error| match error {
        Error::Tensor { name, what } => match name.parse::<usize>() {
            Ok(index) => Error::tensor(specs[index].name.clone(), what),
            Err(_) => Error::tensor(name, what),
        },
        other => other,
    })?;
    for (spec, bits) in specs.iter().zip(&bits) {
        next.write(spec.range.clone(), bits);
    }
    Ok(next)
}
