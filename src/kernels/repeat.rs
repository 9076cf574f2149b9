//! Products with an input in which each value stands several times in a row: the weights of such a
//! run count as one, their sum.

use crate::conv2d::{Pattern, Weight};
use crate::simd::{LANES, versions};
use rayon::prelude::*;

/// Weights that a task should read at least.
const TASK: usize = 1 << 15;

versions! {
    fn sums(weight: &[f32], times: usize, sums: &mut [f32]) {
        for (run, sum) in weight.chunks_exact(times).zip(sums) {
            let mut lanes = [0.0; LANES];
            for values in run.chunks(LANES) {
                lanes.iter_mut().zip(values).for_each(|(lane, value)| *lane += value);
            }
            *sum = lanes.iter().sum();
        }
    }
}

/// The sum of each run of `times` weights: of `(O, I·times)`, `(O, I)`.
pub fn fold(weight: Weight<'_>, times: usize, folded: &mut [f32]) {
    assert!(times > 0 && weight.len() == folded.len() * times, "fold: length");
    match weight {
        Weight::Dense(weight) => {
            let count = TASK.div_ceil(times);
            folded.par_chunks_mut(count).zip(weight.par_chunks(count * times)).for_each(|(to, run)| {
                sums(run, times, to);
            });
        }
        Weight::Kept(pattern, kept) => {
            folded.fill(0.0);
            pattern.positions().zip(kept).for_each(|(position, value)| folded[position / times] += value);
        }
    }
}

/// The gradient of what [`fold`] summed: each value, `times` times in a row; with a `pattern` of what that keeps.
pub fn unfold(folded: &[f32], times: usize, pattern: Option<&Pattern>, gradient: &mut [f32]) {
    if let Some(pattern) = pattern {
        let places = pattern.positions().zip(gradient);
        return places.for_each(|(position, gradient)| *gradient = folded[position / times]);
    }
    assert!(times > 0 && gradient.len() == folded.len() * times, "unfold: length");
    let count = TASK.div_ceil(times);
    gradient.par_chunks_mut(count * times).zip(folded.par_chunks(count)).for_each(|(to, from)| {
        to.chunks_exact_mut(times).zip(from).for_each(|(run, &value)| run.fill(value));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_fold_is_each_runs_sum_and_unfolding_repeats(
            values in prop::collection::vec(-2.0f32..2.0, 0..6000),
            times in 1usize..70,
        ) {
            let count = values.len() / times;
            let weight = &values[..count * times];
            let mut folded = vec![f32::NAN; count];
            fold(Weight::Dense(weight), times, &mut folded);
            let mut repeated = vec![f32::NAN; weight.len()];
            unfold(&folded, times, None, &mut repeated);
            for (nth, folded) in folded.iter().enumerate() {
                let run = nth * times..(nth + 1) * times;
                let sum: f64 = weight[run.clone()].iter().map(|&value| f64::from(value)).sum();
                prop_assert!((f64::from(*folded) - sum).abs() < 1e-4);
                prop_assert!(repeated[run].iter().all(|value| value == folded));
            }
        }

        #[test]
        fn kept_weights_fold_and_unfold_as_the_dense_ones_with_zeros_do(
            mut weight in prop::collection::vec(-2.0f32..2.0, 6 * 35),
            times in prop::sample::select(vec![1usize, 5, 7, 35]),
        ) {
            weight.iter_mut().filter(|value| **value < 0.5).for_each(|value| *value = 0.0);
            let mask: Vec<u8> = weight.iter().map(|&value| u8::from(value != 0.0)).collect();
            let pattern = Pattern::new(&mask, 6, 35, 1);
            let [mut dense, mut kept] = [(); 2].map(|()| vec![f32::NAN; weight.len() / times]);
            fold(Weight::Dense(&weight), times, &mut dense);
            fold(Weight::Kept(&pattern, &pattern.gather(&weight)), times, &mut kept);
            prop_assert!(dense.iter().zip(&kept).all(|(dense, kept)| (dense - kept).abs() < 1e-5));
            let (mut all, mut few) = (vec![f32::NAN; weight.len()], vec![f32::NAN; pattern.kept()]);
            unfold(&dense, times, None, &mut all);
            unfold(&dense, times, Some(&pattern), &mut few);
            prop_assert_eq!(few, pattern.gather(&all));
        }
    }
}
