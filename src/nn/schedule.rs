//! Learning-rate schedules: pure functions of the step, so that rewinding to step k needs no replay.

use serde::{Deserialize, Serialize};

/// The shape of the learning rate over a training run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleKind {
    /// The same rate throughout.
    Constant,
    /// Half a cosine from the base rate to zero (Loshchilov & Hutter 2017, without restarts).
    Cosine,
    /// Multiplied by `factor` every `every_epochs` epochs.
    Step {
        /// Epochs between drops.
        every_epochs: u64,
        /// Factor of each drop.
        factor: f64,
    },
    /// Multiplied by `factor` after half of the steps, and again after three quarters of them (He
    /// et al. 2016, section 4.2).
    HalfAndThreeQuarters {
        /// Factor of each drop.
        factor: f64,
    },
}

/// A schedule with its linear warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Shape after warm-up.
    pub kind: ScheduleKind,
    /// Steps over which the rate rises linearly from near zero.
    pub warmup_steps: u64,
    /// Steps of one epoch.
    pub steps_per_epoch: u64,
    /// Steps of the whole training run.
    pub total_steps: u64,
}

impl Schedule {
    /// Factor on the base learning rate at `step` (0-based).
    pub fn factor(&self, step: u64) -> f64 {
        let shape = match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Cosine => {
                let span = (self.total_steps.saturating_sub(self.warmup_steps)).max(1) as f64;
                let done = step.saturating_sub(self.warmup_steps) as f64 / span;
                0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
            }
            ScheduleKind::Step { every_epochs, factor } => {
                let drops = step / self.steps_per_epoch.max(1) / every_epochs.max(1);
                factor.powi(drops.min(i32::MAX as u64) as i32)
            }
            ScheduleKind::HalfAndThreeQuarters { factor } => {
                let past = |quarters: u64| i32::from(step >= (self.total_steps.saturating_mul(quarters)).div_ceil(4));
                factor.powi(past(2) + past(3))
            }
        };
        if step < self.warmup_steps { shape * (step + 1) as f64 / self.warmup_steps as f64 } else { shape }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_take_their_textbook_values() {
        let schedule = |kind, warmup_steps| Schedule { kind, warmup_steps, steps_per_epoch: 10, total_steps: 100 };
        assert_eq!(schedule(ScheduleKind::Constant, 0).factor(99), 1.0);
        assert_eq!(schedule(ScheduleKind::Constant, 4).factor(1), 0.5);
        let step = schedule(ScheduleKind::Step { every_epochs: 3, factor: 0.1 }, 0);
        assert_eq!([step.factor(29), step.factor(30)], [1.0, 0.1]);
        let drops = schedule(ScheduleKind::HalfAndThreeQuarters { factor: 0.1 }, 0);
        assert_eq!([49, 50, 74].map(|step| drops.factor(step)), [1.0, 0.1, 0.1]);
        assert!((drops.factor(75) - 0.01).abs() < 1e-15 && drops.factor(99) == drops.factor(75));
        let cosine = schedule(ScheduleKind::Cosine, 0);
        assert_eq!(cosine.factor(0), 1.0);
        assert!((cosine.factor(50) - 0.5).abs() < 1e-12);
        assert!(cosine.factor(99) < 0.001);
    }
}
