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

/// Names the draws of its intervals.
pub(in crate::explain::tcav) fn interval_name(label: &str) -> String {
    format!("effect-interval/{label}")
}

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
    let name = interval_name(label);
    // Standardised: over concept and random images, the mean gradient as it is.
    let standardised_interval = case.bootstrap().and_then(|options| {
        let of_resample =
            |concept: &[f64], random: &[f64]| Some(effect::concept_effect(concept, random).ok()?.effect_standardised);
        interval(bootstrap::two_sample(&of.concept, &of.random, of_resample, options, tests.seed, &name))
    });
    Ok(Some(Finding {
        value: of.effect,
        interval: case.effect_in_logits,
        standardised: of.effect_standardised,
        standardised_interval,
        p_value,
    }))
}
