//! What a plan must hold before anything is computed.

use super::{Arm, Plan, PrunePlan, Rewind, StatisticsPlan};
use crate::error::{Error, Result};
use crate::explain::saliency::Method;
use crate::nn::Shape3;
use crate::prune::Scope;
use crate::stats::power::{permutations_needed, sets_needed};

/// Bytes of a plan's name: it names a folder.
const LONGEST_NAME: usize = 200;
/// Networks of one plan. The record of each is a file or four.
const MOST_NETWORKS: usize = 100_000;

fn open_unit(field: &str, value: f64) -> Result<()> {
    let inside = value > 0.0 && value < 1.0;
    if inside { Ok(()) } else { Err(Error::config(field, format!("{value} is not between 0 and 1"))) }
}

impl Plan {
    /// # Errors
    /// Names the first field that is impossible, and why.
    pub(super) fn check(&self) -> Result<()> {
        let positive = |field: &str, value: usize| {
            if value > 0 { Ok(()) } else { Err(Error::config(field, "must be at least 1")) }
        };
        let not_negative = |field: &str, value: f64| {
            let fine = value >= 0.0 && value.is_finite();
            if fine { Ok(()) } else { Err(Error::config(field, format!("{value} is negative or not finite"))) }
        };
        let unfit = |c: char| c.is_control() || matches!(c, '/' | '\\');
        if self.name.is_empty() || self.name.contains(unfit) || self.name.starts_with('.') {
            let what =
                "names the run's folder, so it holds no slash or control character and does not begin with a dot";
            return Err(Error::config("name", what));
        }
        if self.name.len() > LONGEST_NAME {
            return Err(Error::config("name", format!("has {} bytes, more than {LONGEST_NAME}", self.name.len())));
        }
        positive("replicates", self.replicates)?;
        if !self.arms.contains(&Arm::Lottery) {
            return Err(Error::config("arms", "`lottery` is missing: controls are derived from its masks"));
        }
        if let Some(part) = self.part
            && (part.replicate >= self.replicates || part.arm.is_some_and(|arm| !self.arms.contains(&arm)))
        {
            return Err(Error::config("part", "is of a replicate or an arm that the plan does not have"));
        }
        self.data.check(self.explain.pool)?;
        self.check_counts()?;
        open_unit("prune.fraction", self.prune.fraction)?;
        for (layer, &fraction) in &self.prune.layers {
            open_unit(&format!("prune.layers.{layer}"), fraction)?;
        }
        if !self.prune.layers.is_empty() && self.prune.scope != Scope::Layerwise {
            return Err(Error::config("prune.layers", "is for the scope `layerwise` only"));
        }
        if !self.prune.layers.is_empty() && self.as_published.per_layer_percentile {
            return Err(Error::config(
                "prune.layers",
                "`as_published.per_layer_percentile` takes one share of all layers",
            ));
        }
        positive("prune.rounds", self.prune.rounds)?;
        self.check_rounds()?;
        Rewind::parse(&self.prune.rewind)?;
        positive("train.batch_size", self.train.batch_size)?;
        positive("train.epochs", self.train.epochs as usize)?;
        if !(self.train.learning_rate > 0.0 && self.train.learning_rate.is_finite()) {
            return Err(Error::config("train.learning_rate", "must be positive"));
        }
        not_negative("train.weight_decay", self.train.weight_decay)?;
        not_negative("train.sparse_below", self.train.sparse_below.unwrap_or(0.0))?;
        if self.train.look_every == Some(0) {
            return Err(Error::config("train.look_every", "must be at least 1"));
        }
        self.check_stages()?;
        self.check_saliency()?;
        positive("explain.cam_images", self.explain.cam_images)?;
        positive("explain.class_images", self.explain.class_images)?;
        if self.explain.images_per_set < 2 {
            return Err(Error::config("explain.images_per_set", "at least 2"));
        }
        if self.explain.random_sets < 2 {
            return Err(Error::config("explain.random_sets", "at least 2"));
        }
        if !(self.explain.cav_c > 0.0 && self.explain.cav_c.is_finite()) {
            return Err(Error::config("explain.cav_c", "must be positive"));
        }
        open_unit("statistics.alpha", self.statistics.alpha)?;
        // The family is at least one hypothesis; its true size is known with the data (`Plan::power_warnings`).
        self.power_warnings(1)?;
        self.explain.design(self.seed)?;
        if self.statistics.permutations < 99 {
            return Err(Error::config("statistics.permutations", "at least 99"));
        }
        if self.statistics.bootstrap < 99 {
            return Err(Error::config("statistics.bootstrap", "at least 99"));
        }
        not_negative("verdict.accuracy_margin", self.verdict.accuracy_margin)?;
        not_negative("verdict.drift_margin", self.verdict.drift_margin)?;
        open_unit("verdict.confidence", self.verdict.confidence)?;
        if !(0.0..=1.0).contains(&self.verdict.least_images) {
            return Err(Error::config(
                "verdict.least_images",
                format!("{} is not a share, 0 to 1", self.verdict.least_images),
            ));
        }
        Ok(())
    }

    /// Rounds that are named one by one.
    fn check_rounds(&self) -> Result<()> {
        let PrunePlan { late, rounds, control_rounds, .. } = &self.prune;
        if let Some(late) = late {
            open_unit("prune.late.fraction", late.fraction)?;
            if late.after == 0 || late.after >= *rounds {
                let what = format!("{} leaves no round before or after it: 1 to {}", late.after, rounds - 1);
                return Err(Error::config("prune.late.after", what));
            }
        }
        let Some(controls) = control_rounds else { return Ok(()) };
        if self.as_published.keep_buffers || self.as_published.alias_biases {
            let what = "`as_published.keep_buffers` and `alias_biases` need every round of an arm";
            return Err(Error::config("prune.control_rounds", what));
        }
        let rising = controls.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || controls.is_empty() || controls[0] == 0 || controls[controls.len() - 1] > *rounds {
            let what = format!("{controls:?} are not rising rounds between 1 and {rounds}");
            return Err(Error::config("prune.control_rounds", what));
        }
        Ok(())
    }

    /// Counts that no machine gets to the end of, or has memory for.
    fn check_counts(&self) -> Result<()> {
        let counts = [
            ("replicates", self.replicates, MOST_NETWORKS),
            ("floor.twins", self.floor.twins, MOST_NETWORKS),
            ("prune.rounds", self.prune.rounds, MOST_NETWORKS),
            ("train.epochs", usize::try_from(self.train.epochs).unwrap_or(usize::MAX), 1_000_000),
            ("statistics.permutations", self.statistics.permutations, 10_000_000),
            ("statistics.bootstrap", self.statistics.bootstrap, 1_000_000),
            ("explain.random_sets", self.explain.random_sets, 1_000_000),
            ("explain.images_per_set", self.explain.images_per_set, 1_000_000),
        ];
        if let Some((field, count, most)) = counts.into_iter().find(|(_, count, most)| count > most) {
            return Err(Error::config(field, format!("{count} is more than {most}")));
        }
        let of_one = 1 + self.floor.twins + self.prune.rounds * self.arms.len();
        let networks = self.replicates * of_one;
        if networks > MOST_NETWORKS {
            let what = format!("{} × {of_one} networks are {networks}, more than {MOST_NETWORKS}", self.replicates);
            return Err(Error::config("replicates", what));
        }
        Ok(())
    }

    fn check_saliency(&self) -> Result<()> {
        let bad = |what: String| Err(Error::config("explain.saliency", what));
        let methods = &self.explain.saliency;
        if methods.is_empty() {
            return bad(format!("at least one of {}", Method::names(Some(false))));
        }
        if methods[0].is_on_input() {
            let at_stage = Method::names(Some(false));
            return bad(format!("`{}` works on the input; the first decides, at a stage: {at_stage}", methods[0]));
        }
        match methods.iter().enumerate().find(|(place, method)| methods[..*place].contains(method)) {
            Some((_, twice)) => bad(format!("`{twice}` is named twice")),
            None => Ok(()),
        }
    }

    /// The network must exist, and have the stages; any images and class count will do for that.
    fn check_stages(&self) -> Result<()> {
        let model = self.model.build(Shape3 { channels: 1, height: 32, width: 32 }, 2)?;
        if self.explain.stages.is_empty() {
            let what = format!("at least one, such as {}", model.default_stage());
            return Err(Error::config("explain.stages", what));
        }
        for &stage in &self.explain.stages {
            model.halves(stage).map_err(|error| Error::config("explain.stages", error.to_string()))?;
        }
        Ok(())
    }

    /// Whether the tests can reach `alpha` after adjustment over a family of `hypotheses` (round ×
    /// stage × class × concept): refuses what can find nothing whatever the data, and says what a
    /// single finding would need.
    ///
    /// # Errors
    /// Names the field that is too small, and the least value that is enough.
    pub fn power_warnings(&self, hypotheses: usize) -> Result<Vec<String>> {
        let StatisticsPlan { alpha, permutations, adjustment, .. } = self.statistics;
        let undefined = |error: crate::stats::StatsError| Error::config("statistics", error.to_string());
        let sets = sets_needed(alpha, hypotheses, adjustment).map_err(undefined)?;
        let draws = permutations_needed(alpha, hypotheses, adjustment).map_err(undefined)?;
        let tests = [
            ("explain.random_sets", "TCAV scores", self.explain.random_sets, sets),
            ("statistics.permutations", "concept effects", permutations, draws),
        ];
        let mut warnings = Vec::new();
        for (field, of, count, needed) in tests {
            let smallest = 1.0 / (count as f64 + 1.0);
            if count < needed.for_any_finding {
                let what = format!(
                    "{count} give no p below {smallest:.2e}: no significance at level {alpha} after adjustment over {hypotheses} \
                     hypotheses; {} are needed",
                    needed.for_any_finding
                );
                return Err(Error::config(field, what));
            }
            // Answers rest on effects; of scores the report says what their sets can reach.
            if count < needed.for_one_finding && field != "explain.random_sets" {
                warnings.push(format!(
                    "{of}: with {count} ({field}) the smallest p is {smallest:.2e}, so one finding alone among {hypotheses} hypotheses \
                     cannot be significant after adjustment; that needs {}",
                    needed.for_one_finding
                ));
            }
        }
        Ok(warnings)
    }
}
