//! A section of a [`Network`] as one Candle operation, so that Candle's autograd can run through it.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout as CandleLayout, Shape, Tensor};

use crate::error::Result;
use crate::kernels::layout::{from_kernels, to_kernels};
use crate::kernels::on_worker;

use super::compute::Accelerator;
use super::layout::Weights;
use super::network::Network;
use super::shape::Shape3;
use super::tape::{Gradients, Mode, Tape, Workspace};

/// One fused operation with its own tape: every layer of the section in one node of Candle's graph, because each edge of
/// that graph costs a zero fill and an addition.
struct SectionOp {
    network: Arc<Network>,
    section: Range<usize>,
    mode: Mode,
    weights: Arc<Weights>,
    state: Mutex<(Option<Tape>, Workspace)>,
}

/// Applies `section` of `network` to `input` `(N, C, H, W)` as a Candle operation; the result is `(N, C', H', W')`, or
/// `(N, K)` when the section ends in the linear layer. Gradients flow to `input` when it is tracked, and to `parameters`,
/// a flat `(P)` tensor of all trainable parameters, when that is given and tracked ([`Mode::Train`]); without it the values
/// in `weights` are used. Running statistics are read from `weights` and never written back.
///
/// # Errors
/// When shapes do not fit.
pub fn section(
    network: &Arc<Network>,
    section: Range<usize>,
    mode: Mode,
    weights: &Arc<Weights>,
    input: &Tensor,
    parameters: Option<&Tensor>,
) -> Result<Tensor> {
    let op = SectionOp { network: network.clone(), section, mode, weights: weights.clone(), state: Mutex::default() };
    let input = input.contiguous()?;
    Ok(match parameters {
        None => input.apply_op1(op)?,
        Some(parameters) => input.apply_op2(&parameters.contiguous()?, op)?,
    })
}

fn contiguous_slice<'a>(storage: &'a CpuStorage, layout: &CandleLayout) -> candle_core::Result<&'a [f32]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::msg("a network section takes contiguous tensors"))?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

impl SectionOp {
    fn run(
        &self,
        input: &[f32],
        dims: &[usize],
        parameters: Option<&[f32]>,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let &[batch, channels, height, width] = dims else {
            return Err(candle_core::Error::msg(format!("expected (N, C, H, W), got {dims:?}")));
        };
        let shape = Shape3 { channels, height, width };
        if let Some(device) = self.network.compute.device() {
            let weights = self.weights_with(parameters);
            let (network, section) = (&self.network, self.section.clone());
            let output = device.forward(network, section, self.mode, &weights, input, shape);
            let to = self.network.shapes(self.section.clone(), shape).map_err(candle_core::Error::wrap)?;
            let output = output.map_err(candle_core::Error::wrap)?;
            return Ok((CpuStorage::F32(output), self.output_shape(batch, to[to.len() - 1])));
        }
        let mut state = lock(&self.state);
        let own = parameters.map(|parameters| self.weights.with_parameters(parameters.to_vec()));
        let weights = own.as_ref().unwrap_or(&self.weights);
        let mut inner = state.1.take(input.len());
        to_kernels(batch, channels, height * width, input, &mut inner);
        let (_, workspace) = &mut *state;
        let tape = self
            .network
            .forward(self.section.clone(), self.mode, weights, None, inner, shape, batch, workspace)
            .map_err(candle_core::Error::wrap)?;
        let to = tape.output_shape();
        let mut output = vec![0.0; to.len() * batch];
        from_kernels(batch, to.channels, to.height * to.width, tape.output(), &mut output);
        state.0 = Some(tape);
        Ok((CpuStorage::F32(output), self.output_shape(batch, to)))
    }

    /// `(N, K)` at the end of the network, else `(N, C, H, W)`.
    fn output_shape(&self, batch: usize, to: Shape3) -> Shape {
        if (to.height, to.width) == (1, 1) && self.section.end == self.network.layers.len() {
            Shape::from((batch, to.channels))
        } else {
            Shape::from((batch, to.channels, to.height, to.width))
        }
    }

    /// The weights, with other parameters if some are given.
    fn weights_with(&self, parameters: Option<&[f32]>) -> Arc<Weights> {
        match parameters {
            None => self.weights.clone(),
            Some(parameters) => Arc::new(self.weights.with_parameters(parameters.to_vec())),
        }
    }

    /// [`SectionOp::back`] on a device.
    fn back_on(
        &self,
        device: &Accelerator,
        input: &Tensor,
        parameters: Option<&Tensor>,
        grad_result: &Tensor,
    ) -> candle_core::Result<(Tensor, Option<Tensor>)> {
        let (_, channels, height, width) = input.dims4()?;
        let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        let weights = self.weights_with(parameters.map(values).transpose()?.as_deref());
        let wants_parameters = parameters.is_some() && self.mode.trains();
        let (flat, grad_input) = device
            .gradients(
                &self.network,
                self.section.clone(),
                self.mode,
                &weights,
                &values(input)?,
                Shape3 { channels, height, width },
                &values(grad_result)?,
                wants_parameters,
            )
            .map_err(candle_core::Error::wrap)?;
        let grad_input = Tensor::from_vec(grad_input, input.dims(), input.device())?;
        Ok((grad_input, flat.map(|flat| Tensor::new(flat, input.device())).transpose()?))
    }

    fn back(
        &self,
        input: &Tensor,
        parameters: Option<&Tensor>,
        grad_result: &Tensor,
    ) -> candle_core::Result<(Tensor, Option<Tensor>)> {
        if let Some(device) = self.network.compute.device() {
            return self.back_on(device, input, parameters, grad_result);
        }
        let mut state = lock(&self.state);
        let tape = state.0.take().ok_or_else(|| candle_core::Error::msg("a network section runs backward once"))?;
        let (batch, channels, height, width) = input.dims4()?;
        let to = tape.output_shape();
        let values = grad_result.flatten_all()?.to_vec1::<f32>()?;
        let mut grad = state.1.take(values.len());
        to_kernels(batch, to.channels, to.height * to.width, &values, &mut grad);
        let own = parameters
            .map(|parameters| Ok::<_, candle_core::Error>(self.weights.with_parameters(parameters.to_vec1()?)))
            .transpose()?;
        let weights = own.as_ref().unwrap_or(&self.weights);
        // Only a training tape holds what the gradients of batch norm's parameters need.
        let mut flat = (own.is_some() && self.mode.trains()).then(|| vec![0.0; weights.parameters.len()]);
        let wanted = Gradients { parameters: flat.as_deref_mut(), input: true };
        let grad_input = self
            .network
            .backward(tape, weights, None, grad, wanted, &mut state.1)
            .ok_or_else(|| candle_core::Error::msg("the section does not reach its input"))?;
        let mut outer = vec![0.0; grad_input.len()];
        from_kernels(batch, channels, height * width, &grad_input, &mut outer);
        let grad_input = Tensor::from_vec(outer, input.dims(), input.device())?;
        let flat = flat.map(|flat| Tensor::new(flat, input.device())).transpose()?;
        Ok((grad_input, flat))
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
        on_worker(|| self.run(input, layout.dims(), None))
    }

    fn bwd(&self, arg: &Tensor, _result: &Tensor, grad_result: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(on_worker(|| self.back(arg, None, grad_result))?.0))
    }
}

impl CustomOp2 for SectionOp {
    fn name(&self) -> &'static str {
        "network-section"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_layout: &CandleLayout,
        parameters: &CpuStorage,
        parameters_layout: &CandleLayout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let flat = contiguous_slice(parameters, parameters_layout)?;
        let input = contiguous_slice(input, input_layout)?;
        on_worker(|| self.run(input, input_layout.dims(), Some(flat)))
    }

    fn bwd(
        &self,
        input: &Tensor,
        parameters: &Tensor,
        _result: &Tensor,
        grad_result: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let (grad_input, flat) = on_worker(|| self.back(input, Some(parameters), grad_result))?;
        Ok((Some(grad_input), flat))
    }
}
