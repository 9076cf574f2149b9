//! A section of a [`Network`] as one Candle operation, so that Candle's autograd can run through it.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use candle_core::{CpuStorage, CustomOp1, Layout as CandleLayout, Shape, Tensor};

use crate::error::Result;
use crate::kernels::layout::{filled, from_kernels, to_kernels};
use crate::kernels::on_worker;

use super::compute::{Accelerator, Compute};
use super::layout::Weights;
use super::network::Network;
use super::patterns::Patterns;
use super::shape::Shape3;
use super::tape::{Gradients, Mode, Tape};
use super::workspace::Workspace;

/// A network with weights that nothing changes, whose sections are Candle operations.
#[derive(Clone)]
pub struct Fixed {
    compute: Compute,
    network: Arc<Network>,
    weights: Arc<Weights>,
    /// By which the weights are packed.
    patterns: Option<Arc<Patterns>>,
    /// Memory that one batch leaves to the next: its pages are there already.
    buffers: Arc<Mutex<Workspace>>,
}

/// One fused operation with its own tape: every layer of the section in one node of Candle's graph,
/// because each edge of that graph costs a zero fill and an addition.
struct SectionOp {
    fixed: Fixed,
    section: Range<usize>,
    mode: Mode,
    state: Mutex<(Option<Tape>, Workspace)>,
}

impl Fixed {
    /// `network` with `weights`, where `compute` says. With `patterns` of the network's layers
    /// weights outside them count as zero; a device does without.
    pub fn new(compute: &Compute, network: &Arc<Network>, weights: &Arc<Weights>, patterns: Option<Patterns>) -> Self {
        let (compute, network) = (compute.clone(), network.clone());
        let weights = patterns.as_ref().map_or_else(|| weights.clone(), |patterns| patterns.pack(weights).into());
        Self { compute, network, weights, patterns: patterns.map(Arc::new), buffers: Arc::default() }
    }

    /// Applies `section` of the network to `input` `(N, C, H, W)` as a Candle operation; the result
    /// is `(N, C', H', W')`, or `(N, K)` when the section ends in the linear layer. Gradients flow
    /// to `input` when it is tracked.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn section(&self, section: Range<usize>, mode: Mode, input: &Tensor) -> Result<Tensor> {
        Ok(input.contiguous()?.apply_op1(SectionOp::new(self, section, mode))?)
    }

    /// The output of `section` on `input` `(N, C, H, W)` in [`Mode::EvalTape`], and the gradient of
    /// `Σ direction · output` with respect to `input`, where `direction` sees the output and is
    /// shaped like it: what Candle's autograd would give through [`Fixed::section`], without the
    /// zeros and the sum that an edge of its graph costs.
    ///
    /// # Errors
    /// When shapes do not fit, and those of `direction`.
    pub fn section_gradient(
        &self,
        section: Range<usize>,
        input: &Tensor,
        direction: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<(Tensor, Tensor)> {
        let op = SectionOp::new(self, section, Mode::EvalTape);
        let input = input.contiguous()?;
        let output = input.apply_op1_no_bwd(&op)?;
        let direction = direction(&output)?;
        let gradient = on_worker(|| op.back(&input, &direction))?;
        Ok((output, gradient))
    }
}

fn contiguous_slice<'a>(storage: &'a CpuStorage, layout: &CandleLayout) -> candle_core::Result<&'a [f32]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::msg("a network section takes contiguous tensors"))?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

impl SectionOp {
    fn new(fixed: &Fixed, section: Range<usize>, mode: Mode) -> Self {
        let buffers = std::mem::take(&mut *lock(&fixed.buffers));
        Self { fixed: fixed.clone(), section, mode, state: Mutex::new((None, buffers)) }
    }

    fn run(&self, input: &[f32], dims: &[usize]) -> candle_core::Result<(CpuStorage, Shape)> {
        let &[batch, channels, height, width] = dims else {
            return Err(candle_core::Error::msg(format!("expected (N, C, H, W), got {dims:?}")));
        };
        let shape = Shape3 { channels, height, width };
        if let Some(device) = self.fixed.compute.device() {
            let (network, section) = (&self.fixed.network, self.section.clone());
            let output = device.forward(network, section, self.mode, &self.fixed.weights, input, shape);
            let to = self.fixed.network.shapes(self.section.clone(), shape).map_err(candle_core::Error::wrap)?;
            let output = output.map_err(candle_core::Error::wrap)?;
            return Ok((CpuStorage::F32(output), self.output_shape(batch, to[to.len() - 1])));
        }
        let mut state = lock(&self.state);
        let count = if self.mode.trains() { batch } else { filled(batch) };
        let mut images = Cow::from(input);
        if count > batch {
            images.to_mut().resize(count * shape.len(), 0.0);
        }
        let mut inner = state.1.take(images.len());
        to_kernels(count, channels, height * width, &images, &mut inner);
        let (_, workspace) = &mut *state;
        let tape = self
            .fixed
            .network
            .forward(
                self.section.clone(),
                self.mode,
                &self.fixed.weights,
                self.patterns(),
                inner,
                shape,
                count,
                workspace,
            )
            .map_err(candle_core::Error::wrap)?;
        let to = tape.output_shape();
        let mut output = vec![0.0; to.len() * count];
        from_kernels(count, to.channels, to.height * to.width, tape.output(), &mut output);
        output.truncate(to.len() * batch);
        state.0 = Some(tape);
        Ok((CpuStorage::F32(output), self.output_shape(batch, to)))
    }

    fn patterns(&self) -> Option<&Patterns> {
        self.fixed.patterns.as_deref()
    }

    /// `(N, K)` at the end of the network, else `(N, C, H, W)`.
    fn output_shape(&self, batch: usize, to: Shape3) -> Shape {
        if (to.height, to.width) == (1, 1) && self.section.end == self.fixed.network.layers.len() {
            Shape::from((batch, to.channels))
        } else {
            Shape::from((batch, to.channels, to.height, to.width))
        }
    }

    /// [`SectionOp::back`] on a device.
    fn back_on(&self, device: &Accelerator, input: &Tensor, grad_result: &Tensor) -> candle_core::Result<Tensor> {
        let (_, channels, height, width) = input.dims4()?;
        let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        let (shape, section) = (Shape3 { channels, height, width }, self.section.clone());
        let (images, grad_output) = (values(input)?, values(grad_result)?);
        let grad_input = device
            .input_gradient(&self.fixed.network, section, self.mode, &self.fixed.weights, &images, shape, &grad_output)
            .map_err(candle_core::Error::wrap)?;
        Tensor::from_vec(grad_input, input.dims(), input.device())
    }

    fn back(&self, input: &Tensor, grad_result: &Tensor) -> candle_core::Result<Tensor> {
        if let Some(device) = self.fixed.compute.device() {
            return self.back_on(device, input, grad_result);
        }
        let mut state = lock(&self.state);
        let tape = state.0.take().ok_or_else(|| candle_core::Error::msg("a network section runs backward once"))?;
        let (batch, channels, height, width) = input.dims4()?;
        let to = tape.output_shape();
        let mut values = grad_result.flatten_all()?.to_vec1::<f32>()?;
        let count = tape.batch;
        values.resize(count * to.len(), 0.0);
        let mut grad = state.1.take(values.len());
        to_kernels(count, to.channels, to.height * to.width, &values, &mut grad);
        let wanted = Gradients { parameters: None, input: true };
        let grad_input = self
            .fixed
            .network
            .backward(tape, &self.fixed.weights, self.patterns(), grad, wanted, &mut state.1)
            .ok_or_else(|| candle_core::Error::msg("the section does not reach its input"))?;
        let mut outer = vec![0.0; grad_input.len()];
        from_kernels(count, channels, height * width, &grad_input, &mut outer);
        outer.truncate(batch * channels * height * width);
        Tensor::from_vec(outer, input.dims(), input.device())
    }
}

impl Drop for SectionOp {
    /// Leaves its buffers to the next operation. Where several run at once, those of the last to end.
    fn drop(&mut self) {
        let (tape, mut workspace) = std::mem::take(&mut *lock(&self.state));
        if let Some(tape) = tape {
            tape.recycle(&mut workspace);
        }
        *lock(&self.fixed.buffers) = workspace;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl CustomOp1 for SectionOp {
    fn name(&self) -> &'static str {
        "network-section"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &CandleLayout) -> candle_core::Result<(CpuStorage, Shape)> {
        let input = contiguous_slice(storage, layout)?;
        on_worker(|| self.run(input, layout.dims()))
    }

    fn bwd(&self, arg: &Tensor, _result: &Tensor, grad_result: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(on_worker(|| self.back(arg, grad_result))?))
    }
}
