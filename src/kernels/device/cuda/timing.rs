//! Seconds of passes, on the device's own clock or on the host's.

use std::time::Instant;

use cudarc::driver::CudaEvent;
use cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;

use super::memory::Memory;
use super::{Argument, DeviceWeights, Engine, Pass, Program, Wanted, arguments, failed};
use crate::device::Clock;
use crate::error::Result;

/// Rows, and values in a row, of the product that keeps the device busy: by its operations about a
/// millisecond on one multiprocessor.
const BUSY: (usize, usize) = (64, 1 << 14);

impl Engine {
    /// Seconds of the forward and, if any gradient is wanted, of the backward pass, `repeats` times
    /// after two that are not counted. Weights are packed in the forward pass each time; moving
    /// images and results to and from the device is not counted.
    ///
    /// With [`Clock::Device`] the device is kept busy while the host asks for the work, so that
    /// only the device's time counts: right for a few operations. [`Clock::Host`] is the time until
    /// all is done.
    ///
    /// # Errors
    /// As [`Engine::forward`] and [`Engine::backward`].
    #[expect(clippy::too_many_arguments, reason = "what is run, and how it is timed")]
    pub fn time(
        &self,
        program: &Program,
        pass: Pass,
        wanted: Option<Wanted>,
        weights: &DeviceWeights,
        images: &[f32],
        repeats: usize,
        clock: Clock,
    ) -> Result<(Vec<f64>, Vec<f64>)> {
        let floats = self.0.pool.upload(images)?;
        let ones = vec![1e-3; program.output_len()];
        let gradient = self.take_floats(program.parameters)?;
        let (rows, features) = BUSY;
        let busy = self.0.pool.upload(&vec![1.0f32; rows * features])?;
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        for _ in 0..repeats + 2 {
            let input = self.import_input(program, weights, floats.pointer())?;
            let (seconds, tape) = self.timed(clock, &busy, || self.forward_map(program, pass, weights, input))?;
            forward.push(seconds);
            if let Some(wanted) = wanted {
                let grad = self.import_gradient(program, &tape, &ones)?;
                let to = wanted.parameters.then(|| gradient.pointer());
                let backwards = || self.backward_from(program, tape, weights, grad, to, wanted.input);
                backward.push(self.timed(clock, &busy, backwards)?.0);
            }
        }
        Ok((forward.split_off(2), if backward.is_empty() { backward } else { backward.split_off(2) }))
    }

    /// Seconds of `work`, and its result.
    fn timed<T>(&self, clock: Clock, busy: &Memory, work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
        match clock {
            Clock::Host => {
                self.0.pool.synchronize()?;
                let started = Instant::now();
                let done = work()?;
                self.0.pool.synchronize()?;
                Ok((started.elapsed().as_secs_f64(), done))
            }
            Clock::Device => {
                self.occupy(busy)?;
                let started = self.mark()?;
                let done = work()?;
                let ended = self.mark()?;
                Ok((seconds(&started, &ended)?, done))
            }
        }
    }

    /// Something to do.
    fn occupy(&self, busy: &Memory) -> Result<()> {
        let (rows, features) = BUSY;
        let out = self.0.pool.take(rows * rows * 8)?;
        self.launch(
            "row_products",
            (1, 1),
            (16, 16),
            arguments![busy, busy, &out, rows, rows, Argument::Long(features as u64)],
        )
    }

    fn mark(&self) -> Result<CudaEvent> {
        self.0.pool.stream().record_event(Some(CU_EVENT_DEFAULT)).map_err(failed("an event"))
    }
}

fn seconds(started: &CudaEvent, ended: &CudaEvent) -> Result<f64> {
    Ok(f64::from(started.elapsed_ms(ended).map_err(failed("an event"))?) / 1e3)
}
