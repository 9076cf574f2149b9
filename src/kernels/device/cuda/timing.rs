//! Seconds on the device's own clock.

use cudarc::driver::CudaEvent;
use cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;

use super::{DeviceWeights, Engine, Pass, Program, Wanted, failed};
use crate::error::Result;

impl Engine {
    /// Seconds of the forward and, if any gradient is wanted, of the backward pass, `repeats` times after two that are not counted.
    /// Weights are packed in the forward pass each time; moving images and results to and from the device is not counted.
    ///
    /// # Errors
    /// As [`Engine::forward`] and [`Engine::backward`].
    pub fn time(
        &self,
        program: &Program,
        pass: Pass,
        wanted: Option<Wanted>,
        weights: &DeviceWeights,
        images: &[f32],
        repeats: usize,
    ) -> Result<(Vec<f64>, Vec<f64>)> {
        let floats = self.0.pool.upload(images)?;
        let ones = vec![1e-3; program.output_len()];
        let gradient = self.take_floats(program.parameters)?;
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        for _ in 0..repeats + 2 {
            let input = self.import_input(program, weights, floats.pointer())?;
            let started = self.mark()?;
            let tape = self.forward_map(program, pass, weights, input)?;
            let ended = self.mark()?;
            forward.push(seconds(&started, &ended)?);
            if let Some(wanted) = wanted {
                let grad = self.import_gradient(program, &tape, &ones)?;
                let started = self.mark()?;
                let to = wanted.parameters.then(|| gradient.pointer());
                self.backward_from(program, tape, weights, grad, to, wanted.input)?;
                let ended = self.mark()?;
                backward.push(seconds(&started, &ended)?);
            }
        }
        Ok((forward.split_off(2), if backward.is_empty() { backward } else { backward.split_off(2) }))
    }

    fn mark(&self) -> Result<CudaEvent> {
        self.0.pool.stream().record_event(Some(CU_EVENT_DEFAULT)).map_err(failed("an event"))
    }
}

fn seconds(started: &CudaEvent, ended: &CudaEvent) -> Result<f64> {
    Ok(f64::from(started.elapsed_ms(ended).map_err(failed("an event"))?) / 1e3)
}
