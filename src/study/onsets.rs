//! What goes first as weights go: accuracy, pixels or concepts.

use crate::error::{Result, undefined};
use crate::plan::{Arm, Plan};
use crate::records::{DensityRecord, Onset, Onsets, Order, Ratio};
use crate::stats::onset::onset;

use super::densities::deciding;

/// Onsets of the lottery arm; `None` with one replicate.
///
/// # Errors
/// When a curve is not finite.
pub(super) fn onsets(plan: &Plan, densities: &[DensityRecord]) -> Result<Option<Onsets>> {
    let line: Vec<&DensityRecord> = densities.iter().filter(|record| record.arm == Arm::Lottery.name()).collect();
    if plan.replicates < 2 || line.len() < 2 {
        return Ok(None);
    }
    let x: Vec<f64> = line.iter().map(|record| record.density).collect();
    if x.windows(2).any(|pair| pair[0] <= pair[1]) {
        // A level that took no weight has no place of its own.
        return Ok(None);
    }
    let confidence = plan.verdict.confidence;
    let losses: Vec<Vec<f64>> = (0..plan.replicates)
        .map(|replicate| line.iter().map(|record| -record.accuracy.replicates[replicate]).collect())
        .collect();
    let accuracy =
        onset(&x, &losses, plan.verdict.accuracy_margin, confidence).map_err(undefined("onset of accuracy loss"))?;
    let limit = (1.0 + plan.verdict.drift_margin).ln();
    let of = |pick: &dyn Fn(&DensityRecord) -> Option<&Ratio>| -> Result<Option<Onset>> {
        let curves: Option<Vec<Vec<f64>>> = (0..plan.replicates)
            .map(|replicate| {
                let at = |record: &&DensityRecord| match record.round {
                    // The parent takes its own place: ρ is 1.
                    0 => Some(0.0),
                    _ => pick(record)?.replicates.get(replicate).copied().flatten().map(f64::ln),
                };
                line.iter().map(at).collect()
            })
            .collect();
        curves.map(|curves| onset(&x, &curves, limit, confidence)).transpose().map_err(undefined("onset of drift"))
    };
    let pixels = of(&|record| deciding(record).0)?;
    let concepts = of(&|record| deciding(record).1)?;
    let named: Vec<(&str, &Onset)> = [("pixels", &pixels), ("concepts", &concepts)]
        .into_iter()
        .filter_map(|(name, onset)| Some((name, onset.as_ref()?)))
        .chain([("accuracy", &accuracy)])
        .collect();
    let mut order = Vec::new();
    for (place, (first, a)) in named.iter().enumerate() {
        for (second, b) in &named[place + 1..] {
            // What never crosses in the tested range comes after what does.
            let pairs = a.replicates.iter().zip(&b.replicates);
            let sooner = |a: Option<f64>, b: Option<f64>| a.unwrap_or(0.0) > b.unwrap_or(0.0);
            order.push(Order {
                first: (*first).to_owned(),
                second: (*second).to_owned(),
                before: pairs.clone().filter(|(a, b)| sooner(**a, **b)).count(),
                after: pairs.filter(|(a, b)| sooner(**b, **a)).count(),
            });
        }
    }
    Ok(Some(Onsets { accuracy, pixels, concepts, order }))
}
