//! Masks over the flat parameters of a network.

use std::ops::Range;
use std::sync::Arc;

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::{Layout, ParameterKind, TensorSpec, Weights};
use crate::seed;

/// Which kinds of parameters pruning may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prunable {
    /// Convolution and linear weights, chosen by the kind of layer.
    #[default]
    Weights,
    /// Batch-norm scales too: what a plan's `as_published.prune_batch_norm` asks for.
    WeightsAndNormScales,
}

impl Prunable {
    /// Whether parameters of this kind may go.
    pub fn takes(self, kind: ParameterKind) -> bool {
        kind.prunable() || (self == Self::WeightsAndNormScales && kind == ParameterKind::NormScale)
    }
}

/// Which weights are kept: one byte for each parameter, 1 kept, 0 pruned; always 1 where a parameter is not prunable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    layout: Arc<Layout>,
    prunable: Prunable,
    bits: Vec<u8>,
}

/// How much of one layer a mask keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerDensity {
    /// The weight's name.
    pub name: String,
    /// Weights kept.
    pub kept: usize,
    /// Weights in all.
    pub total: usize,
}

impl Mask {
    /// Keeps everything.
    pub fn dense(layout: Arc<Layout>) -> Self {
        Self::dense_of(layout, Prunable::Weights)
    }

    /// Keeps everything, of which pruning may take `prunable`.
    pub fn dense_of(layout: Arc<Layout>, prunable: Prunable) -> Self {
        let bits = vec![1; layout.parameter_count()];
        Self { layout, prunable, bits }
    }

    /// The mask as bytes, aligned with [`Weights::parameters`].
    pub fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// Prunable tensors in parameter order, without those named, or whose layer is named, in `exclude`.
    pub fn prunable<'a>(&'a self, exclude: &'a [String]) -> impl Iterator<Item = &'a TensorSpec<ParameterKind>> + 'a {
        self.layout.parameters.iter().filter(|spec| {
            let layer = spec.name.trim_end_matches(".weight");
            self.prunable.takes(spec.kind) && !exclude.iter().any(|name| *name == spec.name || name == layer)
        })
    }

    /// Share of the prunable weights that is kept.
    pub fn density(&self, exclude: &[String]) -> f64 {
        let (kept, total) = self.counts(exclude);
        kept as f64 / total.max(1) as f64
    }

    /// Prunable weights kept, and in all.
    pub fn counts(&self, exclude: &[String]) -> (usize, usize) {
        self.layer_densities(exclude)
            .iter()
            .fold((0, 0), |(kept, total), layer| (kept + layer.kept, total + layer.total))
    }

    /// Density of each prunable layer, in parameter order.
    pub fn layer_densities(&self, exclude: &[String]) -> Vec<LayerDensity> {
        self.prunable(exclude)
            .map(|spec| {
                let bits = &self.bits[spec.range.clone()];
                let kept = bits.iter().filter(|&&bit| bit != 0).count();
                LayerDensity { name: spec.name.clone(), kept, total: bits.len() }
            })
            .collect()
    }

    /// Sets every pruned weight to exactly 0.
    pub fn apply(&self, weights: &mut Weights) {
        for (value, &bit) in weights.parameters.iter_mut().zip(&self.bits) {
            if bit == 0 {
                *value = 0.0;
            }
        }
    }

    /// Whether every pruned weight is exactly 0 (`w (1 − m) = 0`).
    pub fn holds(&self, weights: &Weights) -> bool {
        weights.parameters.iter().zip(&self.bits).all(|(&value, &bit)| bit != 0 || value == 0.0)
    }

    /// The control `random_mask`: the same number of weights kept in each layer, at random positions.
    pub fn shuffled(&self, seed: u64) -> Self {
        let mut bits = self.bits.clone();
        for spec in self.prunable(&[]) {
            bits[spec.range.clone()].shuffle(&mut seed::stream(seed, &format!("random-mask/{}", spec.name), 0));
        }
        Self { layout: self.layout.clone(), prunable: self.prunable, bits }
    }

    /// Overwrites part of the mask; `range` must lie in one prunable parameter.
    pub(super) fn write(&mut self, range: Range<usize>, bits: &[u8]) {
        self.bits[range].copy_from_slice(bits);
    }

    /// Names, shapes and bits of the prunable tensors, for storing.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize], &[u8])> {
        self.prunable(&[]).map(|spec| (spec.name.as_str(), spec.shape.as_slice(), &self.bits[spec.range.clone()]))
    }

    /// Reads a mask back from `lookup(name)`, which gives bits by tensor name. Batch-norm scales
    /// are prunable where it has bits for them.
    ///
    /// # Errors
    /// `origin` and the tensor are named when it is missing, has another size, or holds anything but 0 and 1.
    pub fn from_lookup(layout: Arc<Layout>, origin: &str, lookup: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Self> {
        let scales = layout.parameters.iter().filter(|spec| spec.kind == ParameterKind::NormScale);
        let prunable = match scales.into_iter().any(|spec| lookup(&spec.name).is_some()) {
            true => Prunable::WeightsAndNormScales,
            false => Prunable::Weights,
        };
        let mut mask = Self::dense_of(layout.clone(), prunable);
        for spec in layout.parameters.iter().filter(|spec| prunable.takes(spec.kind)) {
            let fault = |what: &str| Error::tensor(format!("{origin}:{}", spec.name), what);
            let bits = lookup(&spec.name).ok_or_else(|| fault("is missing"))?;
            if bits.len() != spec.range.len() {
                return Err(fault("has another size than the weight"));
            }
            if bits.iter().any(|&bit| bit > 1) {
                return Err(fault("holds a value other than 0 and 1"));
            }
            mask.write(spec.range.clone(), &bits);
        }
        Ok(mask)
    }
}
