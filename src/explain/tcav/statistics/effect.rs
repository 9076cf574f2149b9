//! The concept effect, tested by label permutation: verdicts rest on it.

use crate::error::{Result, undefined};
use crate::stats::permutation::label_permutation;
use crate::stats::{StatsError, bootstrap, effect};

use super::{Case, Finding, Statistic, interval};

pub(super) const EFFECT: Statistic = Statistic {
    key: "effect",
    title: "concept effect",
    definition: "first-order change of the class logit when activations move from the random images' mean to the concept's, in \
                 logits; standardised by the pooled standard deviation",
    find,
};

fn find(case: &Case<'_>) -> Result<Option<Finding>> {
    let of = &case.scores.effect;
    let (tests, label) = (case.tests, case.label);
    let name = format!("permutation/{label}");
    let p_value = match label_permutation(&of.concept, &of.random, tests.permutations, tests.seed, &name) {
        Ok(test) => test.p_value,
        // Where no projection differs from another, every division of them gives the same difference.
        Err(StatsError::ZeroVariance { .. }) => 1.0,
        Err(error) => return Err(undefined("concept effect")(error)),
    };
    let name = format!("effect-interval/{label}");
    // In logits: over class, concept and random images.
    let in_logits = case.bootstrap().filter(|_| tests.interval_in_logits).and_then(|options| {
        let columns: Vec<usize> = case.concept.iter().chain(case.random).copied().collect();
        let rows = 0..case.cross.nrows();
        let products: Vec<f64> =
            rows.flat_map(|row| columns.iter().map(move |&column| case.cross[(row, column)])).collect();
        let (class, concept, random) = (case.cross.nrows(), case.concept.len(), case.random.len());
        interval(bootstrap::concept_effect(&products, class, concept, random, options, tests.seed, &name))
    });
    // Standardised: over concept and random images, the mean gradient as it is.
    let standardised_interval = case.bootstrap().and_then(|options| {
        let of_resample =
            |concept: &[f64], random: &[f64]| Some(effect::concept_effect(concept, random).ok()?.effect_standardised);
        interval(bootstrap::two_sample(&of.concept, &of.random, of_resample, options, tests.seed, &name))
    });
    Ok(Some(Finding {
        value: of.effect,
        interval: in_logits,
        standardised: of.effect_standardised,
        standardised_interval,
        p_value,
    }))
}
