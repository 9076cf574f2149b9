//! The cut itself, on plain slices.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Over what weights compete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All prunable weights of the network together.
    #[default]
    Global,
    /// Each layer by itself.
    Layerwise,
}

impl std::str::FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "global" => Ok(Scope::Global),
            "layerwise" => Ok(Scope::Layerwise),
            _ => Err(Error::input(format!("scope `{text}` is neither `global` nor `layerwise`"))),
        }
    }
}

/// A weight as it is compared: by its magnitude, without rounding.
pub trait Magnitude: Copy {
    /// What is compared: the bits of |w|, which order like |w|.
    type Bits: Copy + Ord;

    /// Of this weight.
    fn magnitude(self) -> Self::Bits;

    /// Whether it is NaN, which has no place in the order.
    fn is_nan(self) -> bool;
}

impl Magnitude for f32 {
    type Bits = u32;

    fn magnitude(self) -> u32 {
        self.abs().to_bits()
    }

    fn is_nan(self) -> bool {
        self.is_nan()
    }
}

impl Magnitude for f64 {
    type Bits = u64;

    fn magnitude(self) -> u64 {
        self.abs().to_bits()
    }

    fn is_nan(self) -> bool {
        self.is_nan()
    }
}

/// How many of `remaining` weights a cut of `fraction` takes: `fraction · remaining`, halves to even.
pub fn prune_count(fraction: f64, remaining: usize) -> usize {
    (fraction * remaining as f64).round_ties_even() as usize
}

/// Cuts the weights of least magnitude. `values` and `masks` hold one slice a layer, in parameter
/// order; a mask's 1 keeps. Equal magnitudes go in (parameter, flat index) order, so exactly
/// [`prune_count`] weights go however many tie.
///
/// # Errors
/// When `fraction` is outside (0, 1); a NaN weight is reported as the tensor named by its position.
pub fn cut<V: Magnitude>(values: &[&[V]], masks: &mut [Vec<u8>], scope: Scope, fraction: f64) -> Result<()> {
    match scope {
        Scope::Layerwise => cut_layers(values, masks, &vec![fraction; values.len()]),
        Scope::Global => {
            check(values, &[fraction])?;
            cut_group(values, masks, fraction);
            Ok(())
        }
    }
}

/// [`cut`] of each layer by itself, by a fraction of its own.
///
/// # Errors
/// As [`cut`].
pub fn cut_layers<V: Magnitude>(values: &[&[V]], masks: &mut [Vec<u8>], fractions: &[f64]) -> Result<()> {
    check(values, fractions)?;
    for ((values, mask), &fraction) in values.iter().zip(masks.iter_mut()).zip(fractions) {
        cut_group(std::slice::from_ref(values), std::slice::from_mut(mask), fraction);
    }
    Ok(())
}

fn check<V: Magnitude>(values: &[&[V]], fractions: &[f64]) -> Result<()> {
    if let Some(fraction) = fractions.iter().find(|&&fraction| !(fraction > 0.0 && fraction < 1.0)) {
        return Err(Error::config("prune.fraction", format!("{fraction} is not between 0 and 1")));
    }
    for (index, layer) in values.iter().enumerate() {
        if let Some(at) = layer.iter().position(|value| value.is_nan()) {
            return Err(Error::tensor(index.to_string(), format!("holds NaN at flat index {at}")));
        }
    }
    Ok(())
}

fn cut_group<V: Magnitude>(values: &[&[V]], masks: &mut [Vec<u8>], fraction: f64) {
    // The position makes the order total.
    let mut live: Vec<(V::Bits, u32, u32)> = Vec::new();
    for (layer, (values, mask)) in values.iter().zip(masks.iter()).enumerate() {
        for (index, (value, &bit)) in values.iter().zip(mask.iter()).enumerate() {
            if bit != 0 {
                live.push((value.magnitude(), layer as u32, index as u32));
            }
        }
    }
    let count = prune_count(fraction, live.len());
    if count == 0 {
        return;
    }
    live.select_nth_unstable(count - 1);
    for &(_, layer, index) in &live[..count] {
        masks[layer as usize][index as usize] = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_round_half_to_even() {
        assert_eq!([prune_count(0.5, 1), prune_count(0.5, 3), prune_count(0.5, 5)], [0, 2, 2]);
        assert_eq!(prune_count(0.2, 216 + 1152 + 160), 306);
    }

    #[test]
    fn a_tie_group_is_cut_in_order_and_never_whole() {
        let (a, b) = ([0.5_f32, -0.5, 0.5], [0.5_f32, 2.0, -0.5]);
        let mut masks = vec![vec![1; 3], vec![1; 3]];
        cut(&[&a, &b], &mut masks, Scope::Global, 0.34).unwrap();
        assert_eq!(masks, [vec![0, 0, 1], vec![1, 1, 1]]);
    }

    #[test]
    fn magnitudes_in_f64_are_not_rounded() {
        let weights = [1.0 + 1e-12, 1.0, -1.0 + 1e-12, 1.0 + 2e-12, 3e-60, -2e-60, 1e-60, 3e300];
        let mut masks = vec![vec![1; 8]];
        cut(&[&weights[..]], &mut masks, Scope::Global, 0.5).unwrap();
        assert_eq!(masks, [[1, 1, 0, 1, 0, 0, 0, 1]]);
        assert!(cut(&[&[1.0, f64::NAN][..]], &mut [vec![1; 2]], Scope::Global, 0.5).is_err());
    }

    #[test]
    fn layers_go_by_fractions_of_their_own() {
        let (a, b) = ([4.0_f32, 1.0, 3.0, 2.0], [9.0_f32, 6.0, 8.0, 7.0]);
        let mut masks = vec![vec![1; 4], vec![1; 4]];
        cut_layers(&[&a, &b], &mut masks, &[0.5, 0.25]).unwrap();
        assert_eq!(masks, [vec![1, 0, 1, 0], vec![1, 0, 1, 1]]);
        assert!(cut_layers(&[&a, &b], &mut masks, &[0.5, 1.0]).is_err());
    }

    #[test]
    fn bad_fractions_and_nan_are_refused() {
        for fraction in [0.0, 1.0, -0.1, f64::NAN] {
            assert!(cut(&[&[1.0_f32]], &mut [vec![1]], Scope::Global, fraction).is_err());
        }
        let error = cut(&[&[1.0], &[f32::NAN]], &mut [vec![1], vec![1]], Scope::Global, 0.5).unwrap_err();
        assert!(error.to_string().contains("NaN"), "{error}");
    }

    proptest! {
        #[test]
        fn exactly_the_smallest_go_and_masks_nest(
            layers in prop::collection::vec(prop::collection::vec(-3i8..=3, 1..40), 1..5),
            fraction in 0.01f64..0.99,
            layerwise: bool,
        ) {
            let values: Vec<Vec<f32>> =
                layers.iter().map(|layer| layer.iter().map(|&v| f32::from(v) / 2.0).collect()).collect();
            let slices: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
            let scope = if layerwise { Scope::Layerwise } else { Scope::Global };
            let mut masks: Vec<Vec<u8>> = values.iter().map(|layer| vec![1; layer.len()]).collect();
            for _ in 0..3 {
                let before = masks.clone();
                cut(&slices, &mut masks, scope, fraction).unwrap();
                let groups: Vec<Vec<usize>> = match scope {
                    Scope::Global => vec![(0..values.len()).collect()],
                    Scope::Layerwise => (0..values.len()).map(|layer| vec![layer]).collect(),
                };
                for group in groups {
                    let (mut live, mut gone) = (0, 0);
                    let (mut largest_gone, mut smallest_kept) = (0.0_f32, f32::INFINITY);
                    for layer in group {
                        for (index, value) in values[layer].iter().enumerate() {
                            prop_assert!(masks[layer][index] <= before[layer][index]);
                            if before[layer][index] == 1 {
                                live += 1;
                                if masks[layer][index] == 0 {
                                    gone += 1;
                                    largest_gone = largest_gone.max(value.abs());
                                } else {
                                    smallest_kept = smallest_kept.min(value.abs());
                                }
                            }
                        }
                    }
                    prop_assert_eq!(gone, prune_count(fraction, live));
                    prop_assert!(gone == 0 || largest_gone <= smallest_kept);
                }
            }
        }
    }
}
