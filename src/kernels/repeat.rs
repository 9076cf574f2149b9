//! Products with an input in which each value stands several times in a row: the weights of such a run count as one, their sum.

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
pub fn fold(weight: &[f32], times: usize, folded: &mut [f32]) {
    assert!(times > 0 && weight.len() == folded.len() * times, "fold: length");
    let count = TASK.div_ceil(times);
    folded.par_chunks_mut(count).zip(weight.par_chunks(count * times)).for_each(|(to, run)| sums(run, times, to));
}

/// The gradient of what [`fold`] summed: each value, `times` times in a row.
pub fn unfold(folded: &[f32], times: usize, gradient: &mut [f32]) {
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
            fold(weight, times, &mut folded);
            let mut repeated = vec![f32::NAN; weight.len()];
            unfold(&folded, times, &mut repeated);
            for (nth, folded) in folded.iter().enumerate() {
                let run = nth * times..(nth + 1) * times;
                let sum: f64 = weight[run.clone()].iter().map(|&value| f64::from(value)).sum();
                prop_assert!((f64::from(*folded) - sum).abs() < 1e-4);
                prop_assert!(repeated[run].iter().all(|value| value == folded));
            }
        }
    }
}
