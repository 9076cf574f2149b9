//! The TCAV score, tested by exchangeability of the concept set with the random sets.

use crate::error::Result;
use crate::stats::bootstrap;

use super::{Case, Finding, Statistic, interval};

pub(super) const SCORE: Statistic = Statistic {
    key: "score",
    title: "TCAV score",
    definition: "share of class images whose logit rises along the concept's vector, mean over the random sets",
    find,
};

fn find(case: &Case<'_>) -> Result<Option<Finding>> {
    let runs = &case.scores.runs;
    // Over class images: each has a share of random sets against which its sensitivity is positive.
    let interval = case.bootstrap().and_then(|options| {
        let images = runs.first().map_or(0, |run| run.sensitivity.len());
        let positive: Vec<f64> = (0..images)
            .map(|image| {
                let count = runs.iter().filter(|run| run.sensitivity[image] > 0.0).count();
                count as f64 / runs.len() as f64
            })
            .collect();
        let mean = |shares: &[f64]| Some(shares.iter().sum::<f64>() / shares.len() as f64);
        let name = format!("score-interval/{}", case.label);
        interval(bootstrap::one_sample(&positive, mean, options, case.tests.seed, &name))
    });
    Ok(Some(Finding {
        value: case.family.mean_score,
        interval,
        standardised: None,
        standardised_interval: None,
        p_value: case.family.p_value,
    }))
}
