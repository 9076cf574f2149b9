//! Running a program forward and backward on the device; the counterpart of `nn::tape`, layer by layer.
//!
//! Long: every layer forward and backward, side by side.

use super::convolution::Direction;
use super::memory::Memory;
use super::operations::{Extent, Linear, Statistics, at};
use super::{Engine, Pass, Precision, Program, Wanted, arguments};
use crate::conv2d::Conv2dShape;
use crate::device::HostGradients;
use crate::device::program::Operation;
use crate::error::{Error, Result};

/// A network's flat parameters and buffers on a device.
pub struct DeviceWeights {
    pub(super) parameters: Memory,
    pub(super) buffers: Memory,
    pub(super) counts: (usize, usize),
}

impl DeviceWeights {
    pub(super) fn addresses(&self) -> (u64, u64) {
        (self.parameters.pointer(), self.buffers.pointer())
    }
}

/// A slot's values: a map of the engine's kind, or floats `(N, C)`.
pub(super) enum Slot {
    Map(Memory),
    Floats(Memory),
}

impl Slot {
    fn memory(&self) -> &Memory {
        match self {
            Slot::Map(memory) | Slot::Floats(memory) => memory,
        }
    }
}

/// What a layer keeps between forward and backward, beside its output.
#[expect(clippy::large_enum_variant, reason = "one for each layer of a tape")]
enum Saved {
    Nothing,
    /// The weight as cuDNN read it; with batch statistics, the norm's input and what came of it;
    /// else the norm's factor.
    Convolution {
        weight: Memory,
        batch: Option<(Memory, Statistics)>,
        scale: Option<Memory>,
    },
    /// Offset of the maximum in each window.
    MaxPool(Memory),
}

/// The result of a forward pass on a device.
pub struct DeviceTape {
    slots: Vec<Option<Slot>>,
    saved: Vec<Saved>,
}

impl Engine {
    /// Copies flat parameters and buffers to the device.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn load(&self, parameters: &[f32], buffers: &[f32]) -> Result<DeviceWeights> {
        Ok(DeviceWeights {
            parameters: self.0.pool.upload(parameters)?,
            buffers: self.0.pool.upload(buffers)?,
            counts: (parameters.len(), buffers.len()),
        })
    }

    /// Runs a program on images `(N, C, H, W)`.
    ///
    /// # Errors
    /// When program, weights and images do not fit each other, or the device fails.
    pub fn forward(
        &self,
        program: &Program,
        pass: Pass,
        weights: &DeviceWeights,
        images: &[f32],
    ) -> Result<DeviceTape> {
        if images.len() != program.len(0) {
            return Err(Error::input(format!("{} values are no {} images", images.len(), program.batch)));
        }
        let floats = self.0.pool.upload(images)?;
        self.forward_from(program, pass, weights, floats.pointer())
    }

    /// [`Engine::forward`] for images that are on the device, as floats.
    pub(super) fn forward_from(
        &self,
        program: &Program,
        pass: Pass,
        weights: &DeviceWeights,
        floats: u64,
    ) -> Result<DeviceTape> {
        let input = self.import_input(program, weights, floats)?;
        self.forward_map(program, pass, weights, input)
    }

    pub(super) fn import_input(&self, program: &Program, weights: &DeviceWeights, floats: u64) -> Result<Memory> {
        program.check()?;
        if weights.counts != (program.parameters, program.buffers) {
            return Err(Error::input("these device weights are of another network"));
        }
        let input = self.take_map(program.len(0))?;
        self.import(extent(program, 0), floats, &input)?;
        Ok(input)
    }

    pub(super) fn forward_map(
        &self,
        program: &Program,
        pass: Pass,
        weights: &DeviceWeights,
        input: Memory,
    ) -> Result<DeviceTape> {
        let mut tape = DeviceTape { slots: vec![Some(Slot::Map(input))], saved: Vec::new() };
        for (index, operation) in program.operations.iter().enumerate() {
            let (output, saved) = self.run(program, pass, weights, &tape, index, operation)?;
            tape.slots.push(Some(output));
            if pass != Pass::Evaluate {
                tape.saved.push(saved);
                continue;
            }
            for slot in 0..=index {
                if !program.needed_after(index, slot) {
                    tape.slots[slot] = None;
                }
            }
        }
        Ok(tape)
    }

    fn run(
        &self,
        program: &Program,
        pass: Pass,
        weights: &DeviceWeights,
        tape: &DeviceTape,
        index: usize,
        operation: &Operation,
    ) -> Result<(Slot, Saved)> {
        let source = tape.slot(operation.source())?;
        let to = extent(program, index + 1);
        let (parameters, _) = weights.addresses();
        Ok(match operation {
            Operation::Convolution { shape, weight, norm, residual, relu, .. } => {
                let packed = self.pack(shape, at(parameters, weight.start))?;
                let z = self.take_map(to.len())?;
                self.convolve(shape, Direction::Forward, [self.map(source)?, &packed, &z])?;
                let residual = match residual {
                    None => 0,
                    Some(slot) => self.map(tape.slot(*slot)?)?.pointer(),
                };
                let mut saved = (None, None);
                let out = match (norm, pass) {
                    (None, _) => {
                        if *relu || residual != 0 {
                            self.each("finish_plain", to.len(), arguments![&z, residual, *relu, to.len()])?;
                        }
                        z
                    }
                    (Some(places), Pass::Train { update }) => {
                        let out = self.take_map(to.len())?;
                        let constants = (program.norm_epsilon, if update { program.norm_momentum } else { 0.0 });
                        let addresses = weights.addresses();
                        let statistics =
                            self.norm_train(to, &z, addresses, places, constants, residual, *relu, &out)?;
                        saved.0 = Some((z, statistics));
                        out
                    }
                    (Some(places), Pass::Tape | Pass::Evaluate) => {
                        let (parameters, buffers) = weights.addresses();
                        let scale = self.norm_scale((parameters, buffers), places, program.norm_epsilon)?;
                        let (mean, shift) = (at(buffers, places.mean.start), at(parameters, places.shift.start));
                        self.norm_apply(to, &z, mean, &scale, shift, residual, *relu, &z)?;
                        saved.1 = Some(scale);
                        z
                    }
                };
                (Slot::Map(out), Saved::Convolution { weight: packed, batch: saved.0, scale: saved.1 })
            }
            Operation::MaxPool { shape, .. } => {
                let (out, winner) = (self.take_map(to.len())?, self.0.pool.take(to.len())?);
                self.max_pool(shape, self.map(source)?, &out, &winner)?;
                (Slot::Map(out), Saved::MaxPool(winner))
            }
            Operation::GlobalAveragePool { source: slot } => {
                let out = self.take_floats(to.len())?;
                self.average_pool(extent(program, *slot), self.map(source)?, &out)?;
                (Slot::Floats(out), Saved::Nothing)
            }
            Operation::Linear { weight, bias, source: slot } => {
                let out = self.take_floats(to.len())?;
                let sizes = linear(program, *slot, index);
                let (weight, bias) = (at(parameters, weight.start), at(parameters, bias.start));
                self.linear(sizes, self.floats(source)?, weight, bias, &out)?;
                (Slot::Floats(out), Saved::Nothing)
            }
        })
    }

    fn pack(&self, shape: &Conv2dShape, weight: u64) -> Result<Memory> {
        let (total, area) = (shape.weight_len(), shape.kernel * shape.kernel);
        let packed = self.take_map(total)?;
        let arguments = arguments![weight, &packed, shape.in_channels, area, self.innermost(), total];
        self.each("pack_weight", total, arguments)?;
        Ok(packed)
    }

    /// The memory of a slot that must be a map. Where maps are floats, `(N, C, 1, 1)` is one.
    fn map<'a>(&self, slot: &'a Slot) -> Result<&'a Memory> {
        match slot {
            Slot::Floats(_) if self.0.precision == Precision::Bf16 => {
                Err(Error::input("with bfloat16 maps only a linear layer may follow the average pool"))
            }
            _ => Ok(slot.memory()),
        }
    }

    /// The memory of a slot that must hold floats.
    fn floats<'a>(&self, slot: &'a Slot) -> Result<&'a Memory> {
        match slot {
            Slot::Map(_) if self.0.precision == Precision::Bf16 => {
                Err(Error::input("with bfloat16 maps a linear layer must follow the average pool"))
            }
            _ => Ok(slot.memory()),
        }
    }

    /// The output of a tape, `(N, C, H, W)`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn output(&self, program: &Program, tape: &DeviceTape) -> Result<Vec<f32>> {
        let last = program.slots.len() - 1;
        self.read_slot(program, last, tape.slot(last)?)
    }

    /// A slot on the host, `(N, C, H, W)`.
    fn read_slot(&self, program: &Program, slot: usize, values: &Slot) -> Result<Vec<f32>> {
        let mut host = vec![0.0; program.len(slot)];
        match values {
            Slot::Floats(memory) => self.0.pool.read(memory.pointer(), &mut host)?,
            Slot::Map(memory) => {
                let floats = self.take_floats(host.len())?;
                self.export(extent(program, slot), memory, &floats)?;
                self.0.pool.read(floats.pointer(), &mut host)?;
            }
        }
        Ok(host)
    }

    /// Runs a tape backward from the gradient of its output `(N, C, H, W)`: the flat gradient of
    /// the parameters (0 outside the section) and that of the section's input, as far as they are
    /// wanted. The tape must come from [`Pass::Train`] or [`Pass::Tape`] with the same program and
    /// weights.
    ///
    /// # Errors
    /// When the parts do not fit each other, or the device fails.
    pub fn backward(
        &self,
        program: &Program,
        tape: DeviceTape,
        weights: &DeviceWeights,
        grad_output: &[f32],
        wanted: Wanted,
    ) -> Result<HostGradients> {
        let gradient = match wanted.parameters {
            false => None,
            true => {
                let gradient = self.take_floats(program.parameters)?;
                self.0.pool.clear(gradient.pointer(), 4 * program.parameters)?;
                Some(gradient)
            }
        };
        let grad = self.import_gradient(program, &tape, grad_output)?;
        let addresses = gradient.as_ref().map(Memory::pointer);
        let input = self.backward_from(program, tape, weights, grad, addresses, wanted.input)?;
        let gradient = match gradient {
            None => None,
            Some(gradient) => {
                let mut host = vec![0.0; program.parameters];
                self.0.pool.read(gradient.pointer(), &mut host)?;
                Some(host)
            }
        };
        Ok((gradient, input.map(|input| self.read_slot(program, 0, &input)).transpose()?))
    }

    pub(super) fn import_gradient(&self, program: &Program, tape: &DeviceTape, grad_output: &[f32]) -> Result<Slot> {
        let last = program.slots.len() - 1;
        if grad_output.len() != program.output_len() {
            return Err(Error::input("a gradient of another size than the output"));
        }
        let floats = self.0.pool.upload(grad_output)?;
        Ok(match tape.slot(last)? {
            Slot::Floats(_) => Slot::Floats(floats),
            Slot::Map(_) => {
                let map = self.take_map(grad_output.len())?;
                self.import(extent(program, last), floats.pointer(), &map)?;
                Slot::Map(map)
            }
        })
    }

    /// [`Engine::backward`] on the device: parameter gradients go to the flat vector at `gradient`;
    /// the input's is returned.
    pub(super) fn backward_from(
        &self,
        program: &Program,
        mut tape: DeviceTape,
        weights: &DeviceWeights,
        grad_output: Slot,
        gradient: Option<u64>,
        wants_input: bool,
    ) -> Result<Option<Slot>> {
        if tape.saved.len() != program.operations.len() {
            return Err(Error::input("a tape that kept nothing, or of another program"));
        }
        let (parameters, _) = weights.addresses();
        let mut grads: Vec<Option<Slot>> = (0..program.slots.len()).map(|_| None).collect();
        grads[program.slots.len() - 1] = Some(grad_output);
        for (index, operation) in program.operations.iter().enumerate().rev() {
            let Some(grad) = grads[index + 1].take() else { continue };
            let saved = std::mem::replace(&mut tape.saved[index], Saved::Nothing);
            let slot = operation.source();
            let wants_source = slot > 0 || wants_input;
            let (from, to) = (extent(program, slot), extent(program, index + 1));
            match (operation, saved) {
                (
                    Operation::Convolution { shape, weight, norm, residual, relu, .. },
                    Saved::Convolution { weight: packed, batch, scale },
                ) => {
                    let output = tape.slots[index + 1].take().ok_or_else(|| freed(index + 1))?;
                    let (out, relu) = (output.memory(), *relu);
                    let masked = grad.memory();
                    let grad_z = match (norm, batch, scale) {
                        (Some(places), Some((z, statistics)), _) => {
                            let epsilon = program.norm_epsilon;
                            self.norm_train_backward(
                                to,
                                &z,
                                &statistics,
                                parameters,
                                places,
                                epsilon,
                                out,
                                relu,
                                masked,
                                gradient,
                            )?;
                            Some(z)
                        }
                        (Some(_), None, Some(scale)) => {
                            let grad_z = self.take_map(to.len())?;
                            self.norm_eval_backward(to, &scale, out, relu, masked, &grad_z)?;
                            Some(grad_z)
                        }
                        _ => {
                            if relu {
                                self.each("mask_by_output", to.len(), arguments![masked, out, to.len()])?;
                            }
                            None
                        }
                    };
                    let product = grad_z.as_ref().unwrap_or(masked);
                    if let Some(gradient) = gradient {
                        let packed_gradient = self.take_map(shape.weight_len())?;
                        let source = self.map(tape.slot(slot)?)?;
                        self.convolve(shape, Direction::GradWeight, [source, &packed_gradient, product])?;
                        let (total, area) = (shape.weight_len(), shape.kernel * shape.kernel);
                        let place = at(gradient, weight.start);
                        let arguments =
                            arguments![&packed_gradient, place, shape.in_channels, area, self.innermost(), total];
                        self.each("unpack_gradient", total, arguments)?;
                    }
                    if wants_source {
                        let grad_source = self.take_map(from.len())?;
                        self.convolve(shape, Direction::GradInput, [&grad_source, &packed, product])?;
                        self.add(&mut grads[slot], Slot::Map(grad_source), from.len())?;
                    }
                    // The masked gradient is the residual's; nothing reads it any more but what was asked for already.
                    if let Some(residual) = *residual
                        && (residual > 0 || wants_input)
                    {
                        self.add(&mut grads[residual], grad, to.len())?;
                    }
                }
                (Operation::MaxPool { shape, .. }, Saved::MaxPool(winner)) => {
                    if wants_source {
                        let grad_source = self.take_map(from.len())?;
                        self.max_pool_backward(shape, &winner, grad.memory(), &grad_source)?;
                        self.add(&mut grads[slot], Slot::Map(grad_source), from.len())?;
                    }
                }
                (Operation::GlobalAveragePool { .. }, _) => {
                    if wants_source {
                        let grad_source = self.take_map(from.len())?;
                        self.average_pool_backward(from, grad.memory(), &grad_source)?;
                        self.add(&mut grads[slot], Slot::Map(grad_source), from.len())?;
                    }
                }
                (Operation::Linear { weight, bias, .. }, _) => {
                    let sizes = linear(program, slot, index);
                    if let Some(gradient) = gradient {
                        let (weight, bias) = (at(gradient, weight.start), at(gradient, bias.start));
                        let source = self.floats(tape.slot(slot)?)?;
                        self.linear_grad_weight(sizes, grad.memory(), source, weight, bias)?;
                    }
                    if wants_source {
                        let grad_source = self.take_floats(from.len())?;
                        let weight = at(parameters, weight.start);
                        self.linear_grad_input(sizes, grad.memory(), weight, &grad_source)?;
                        self.add(&mut grads[slot], Slot::Floats(grad_source), from.len())?;
                    }
                }
                _ => return Err(Error::input("a tape of another program")),
            }
        }
        match (grads[0].take(), wants_input) {
            (None, true) => Err(Error::input("the section does not reach its input")),
            (input, _) => Ok(input),
        }
    }

    /// Adds a gradient to a slot's, or moves it there.
    fn add(&self, slot: &mut Option<Slot>, grad: Slot, len: usize) -> Result<()> {
        let Some(sum) = slot else {
            *slot = Some(grad);
            return Ok(());
        };
        let kernel = match (&*sum, &grad) {
            (Slot::Map(_), Slot::Map(_)) => "add_maps",
            (Slot::Floats(_), Slot::Floats(_)) => "add_floats",
            _ => return Err(Error::input("gradients of two kinds meet in one slot")),
        };
        self.each(kernel, len, arguments![sum.memory(), grad.memory(), len])
    }
}

impl DeviceTape {
    fn slot(&self, slot: usize) -> Result<&Slot> {
        self.slots.get(slot).and_then(Option::as_ref).ok_or_else(|| freed(slot))
    }

    /// The memory of the last slot.
    pub(super) fn last(&self) -> Result<&Memory> {
        Ok(self.slot(self.slots.len() - 1)?.memory())
    }
}

fn freed(slot: usize) -> Error {
    Error::input(format!("slot {slot} of a device tape was freed"))
}

fn extent(program: &Program, slot: usize) -> Extent {
    let [channels, height, width] = program.slots[slot];
    Extent { batch: program.batch, channels, positions: height * width }
}

fn linear(program: &Program, slot: usize, index: usize) -> Linear {
    Linear { batch: program.batch, features: program.slots[slot][0], classes: program.slots[index + 1][0] }
}
