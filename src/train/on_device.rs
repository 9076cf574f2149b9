//! Training and evaluation on a device: the same batches, labels and learning rates as on the CPU.

use std::collections::VecDeque;
use std::ops::Range;

use crate::data::{Images, for_each_batch};
use crate::error::Result;
use crate::kernels::device::{Engine, Pass, Trainer};
use crate::nn::schedule::Schedule;
use crate::nn::{Network, Shape3, Weights};
use crate::progress::{Event, Observer};

use super::{EditGradient, TrainSummary, Training, epoch_order, finite, finite_weights};

/// Steps that were asked for and whose loss is not known yet.
#[derive(Default)]
struct Running {
    /// Epoch, and number of steps done with the step.
    steps: VecDeque<(u64, u64)>,
    /// Sum of the losses and number of steps of each epoch.
    losses: Vec<(f64, u64)>,
}

impl Running {
    /// Waits for the oldest step.
    fn settle(
        &mut self,
        trainer: &mut Trainer,
        from: u64,
        rate: &dyn Fn(u64) -> f64,
        observer: &dyn Observer,
    ) -> Result<()> {
        let (Some((epoch, step)), Some(loss)) = (self.steps.pop_front(), trainer.loss()?) else { return Ok(()) };
        finite(loss, step - 1, rate(step - 1))?;
        if let Some(last) = self.losses.last_mut() {
            *last = (last.0 + loss, last.1 + 1);
        }
        observer.tell(&Event::StepDone { epoch, step: step - from, loss })
    }
}

impl Training<'_> {
    /// [`Training::run_with`] on a device. A step's loss is waited for when the next step was asked
    /// for, so that the device is never idle; the observer hears of steps in the same order.
    #[expect(clippy::too_many_arguments, reason = "one call site; what `run_with` was given")]
    pub(super) fn run_on(
        &self,
        engine: &Engine,
        weights: &mut Weights,
        mask: Option<&[u8]>,
        steps: Range<u64>,
        schedule: Schedule,
        observer: &dyn Observer,
        mut edit_gradient: Option<EditGradient<'_>>,
        sees: &dyn Fn(u64) -> bool,
        after_step: &mut dyn FnMut(u64, &Weights),
    ) -> Result<TrainSummary> {
        let Range { start: from, end: to } = steps;
        let batch = self.config.batch_size;
        let network = &self.model.network;
        let program = network.program(network.whole(), Shape3::from(self.images.shape()), batch)?;
        let mut trainer = engine.trainer(
            program,
            &weights.parameters,
            &weights.buffers,
            mask,
            self.config.optimizer.into(),
            self.config.weight_decay as f32,
        )?;
        let rate = |step| self.config.learning_rate * schedule.factor(step);
        let mut running = Running::default();
        let mut first = from;
        while first < to {
            let epoch = first / schedule.steps_per_epoch;
            let order = epoch_order(self.seed, epoch, self.images.len());
            let last = to.min((epoch + 1) * schedule.steps_per_epoch);
            let place = |step: u64| (step % schedule.steps_per_epoch) as usize * batch;
            let batches: Vec<&[usize]> = (first..last).map(|step| &order[place(step)..place(step) + batch]).collect();
            running.losses.push((0.0, 0));
            let mut step = first;
            for_each_batch(self.images, &batches, Some(epoch), |indices, pixels| {
                let labels: Vec<u32> = indices.iter().map(|&index| self.images.label(index) as u32).collect();
                trainer.gradient_of(pixels, &labels)?;
                if let Some(edit_gradient) = &mut edit_gradient {
                    trainer.read(&mut weights.parameters, &mut weights.buffers)?;
                    let mut gradient = trainer.gradient()?;
                    edit_gradient(weights, &mut gradient);
                    trainer.set_gradient(&gradient)?;
                }
                trainer.update(rate(step) as f32)?;
                step += 1;
                running.steps.push_back((epoch, step));
                if sees(step) {
                    trainer.read(&mut weights.parameters, &mut weights.buffers)?;
                    after_step(step, weights);
                }
                if running.steps.len() > 1 {
                    running.settle(&mut trainer, from, &rate, observer)?;
                }
                Ok(())
            })?;
            while !running.steps.is_empty() {
                running.settle(&mut trainer, from, &rate, observer)?;
            }
            first = last;
        }
        trainer.read(&mut weights.parameters, &mut weights.buffers)?;
        finite_weights(weights, to.saturating_sub(1), rate(to.saturating_sub(1)))?;
        let epoch_loss = running.losses.iter().map(|(sum, count)| sum / *count as f64).collect();
        Ok(TrainSummary { epoch_loss, steps: to.saturating_sub(from) })
    }
}

/// [`super::logits`] on a device; images are read ahead.
pub(super) fn logits(
    network: &Network,
    engine: &Engine,
    weights: &Weights,
    images: &dyn Images,
    indices: &[usize],
    batch: usize,
) -> Result<Vec<Vec<f32>>> {
    let shape = Shape3::from(images.shape());
    let on_device = engine.load(&weights.parameters, &weights.buffers)?;
    let mut rows = Vec::with_capacity(indices.len());
    let batches: Vec<&[usize]> = indices.chunks(batch).collect();
    for_each_batch(images, &batches, None, |indices, pixels| {
        let program = network.program(network.whole(), shape, indices.len())?;
        let tape = engine.forward(&program, Pass::Evaluate, &on_device, pixels)?;
        let output = engine.output(&program, &tape)?;
        rows.extend(output.chunks_exact(output.len() / indices.len()).map(<[f32]>::to_vec));
        Ok(())
    })?;
    Ok(rows)
}
