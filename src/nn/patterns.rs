//! The sparse patterns of a network, and weights without what they leave out.

use std::sync::Arc;

use crate::kernels::conv2d::Pattern;

use super::layout::{Layout, Weights};

/// The sparse patterns of a network's layers.
///
/// Products with patterns take *packed* [`Weights`]: in their layout the parameter of a layer with
/// a pattern is what that keeps, in the pattern's order, and so is its gradient. So nothing that
/// training does in a step reads or writes what is pruned.
pub struct Patterns {
    /// of each parameter that has one; the products of the others are dense
    of: Vec<Option<Pattern>>,
    whole: Arc<Layout>,
    packed: Arc<Layout>,
}

impl Patterns {
    /// Patterns of some of the parameters of `layout`.
    pub(super) fn new(layout: &Arc<Layout>, patterns: impl IntoIterator<Item = (usize, Pattern)>) -> Self {
        let mut of: Vec<Option<Pattern>> = layout.parameters.iter().map(|_| None).collect();
        patterns.into_iter().for_each(|(parameter, pattern)| of[parameter] = Some(pattern));
        let packed = layout.shortened(|parameter| of[parameter].as_ref().map(Pattern::kept));
        Self { of, whole: layout.clone(), packed: packed.into() }
    }

    /// The pattern of a parameter.
    pub fn of(&self, parameter: usize) -> Option<&Pattern> {
        self.of[parameter].as_ref()
    }

    /// How many parameters have one.
    pub fn count(&self) -> usize {
        self.of.iter().flatten().count()
    }

    /// Weights as products with the patterns take them.
    pub fn pack(&self, weights: &Weights) -> Weights {
        Weights::new(self.packed.clone(), self.pack_values(&weights.parameters), weights.buffers.clone())
    }

    /// Puts packed weights to their places among all. What the patterns leave out stays.
    pub fn unpack(&self, packed: &Weights, weights: &mut Weights) {
        self.unpack_values(&packed.parameters, &mut weights.parameters);
        weights.buffers.copy_from_slice(&packed.buffers);
    }

    /// Of one value for each scalar of all parameters, those that packed weights have one for.
    pub fn pack_values<T: Copy>(&self, values: &[T]) -> Vec<T> {
        let mut packed = Vec::with_capacity(self.packed.parameter_count());
        for (spec, pattern) in self.whole.parameters.iter().zip(&self.of) {
            let values = &values[spec.range.clone()];
            match pattern {
                Some(pattern) => packed.extend(pattern.gather(values)),
                None => packed.extend_from_slice(values),
            }
        }
        packed
    }

    /// Puts one value for each packed scalar to its place among those of all parameters. The others stay.
    pub fn unpack_values<T: Copy>(&self, packed: &[T], values: &mut [T]) {
        for ((spec, short), pattern) in self.whole.parameters.iter().zip(&self.packed.parameters).zip(&self.of) {
            let (packed, values) = (&packed[short.range.clone()], &mut values[spec.range.clone()]);
            match pattern {
                Some(pattern) => pattern.scatter(packed, values),
                None => values.copy_from_slice(packed),
            }
        }
    }
}
