//! A network on a device: the same list of layers, written out as a program that the device runs.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::kernels::device::{DeviceTape, NormPlaces, Operation, Pass, Program, Rule, Wanted};
use crate::kernels::pool::PoolShape;

use super::compute::Accelerator;
use super::layer::Layer;
use super::layout::Weights;
use super::network::Network;
use super::optimizer::OptimizerKind;
use super::shape::Shape3;
use super::tape::Mode;

impl Accelerator {
    /// A section of `network` on images `(N, C, H, W)`: its output, in that order. [`Mode::Train`]
    /// takes no batch statistics over.
    ///
    /// # Errors
    /// When shapes do not fit or the device fails.
    pub(super) fn forward(
        &self,
        network: &Network,
        section: Range<usize>,
        mode: Mode,
        weights: &Arc<Weights>,
        images: &[f32],
        shape: Shape3,
    ) -> Result<Vec<f32>> {
        let program = network.program(section, shape, images.len() / shape.len().max(1))?;
        let tape = self.tape(&program, pass(mode, Pass::Evaluate), weights, images)?;
        Ok(self.exact().output(&program, &tape)?)
    }

    fn tape(&self, program: &Program, pass: Pass, weights: &Arc<Weights>, images: &[f32]) -> Result<DeviceTape> {
        Ok(self.exact().forward(program, pass, self.resident(weights)?.as_ref(), images)?)
    }

    /// The gradient of a section's output, seen along `grad_output`, with respect to its images
    /// `(N, C, H, W)`. The forward pass is run again: a tape on the device is not kept between the
    /// two.
    ///
    /// # Errors
    /// When shapes do not fit or the device fails.
    #[expect(clippy::too_many_arguments, reason = "what a section is, and where its gradient begins")]
    pub(super) fn input_gradient(
        &self,
        network: &Network,
        section: Range<usize>,
        mode: Mode,
        weights: &Arc<Weights>,
        images: &[f32],
        shape: Shape3,
        grad_output: &[f32],
    ) -> Result<Vec<f32>> {
        let program = network.program(section, shape, images.len() / shape.len().max(1))?;
        let tape = self.tape(&program, pass(mode, Pass::Tape), weights, images)?;
        let wanted = Wanted { parameters: false, input: true };
        let (_, input) =
            self.exact().backward(&program, tape, self.resident(weights)?.as_ref(), grad_output, wanted)?;
        input.ok_or_else(|| Error::input("the section does not reach its input"))
    }
}

/// What a device does in `mode`; with the statistics of training data as constants, `at_rest`.
fn pass(mode: Mode, at_rest: Pass) -> Pass {
    match mode {
        Mode::Train(_) => Pass::Train { update: false },
        Mode::EvalTape | Mode::Eval => at_rest,
    }
}

impl From<OptimizerKind> for Rule {
    fn from(kind: OptimizerKind) -> Self {
        match kind {
            OptimizerKind::Sgd { momentum } => Rule::Sgd { momentum },
            OptimizerKind::Adam { beta1, beta2, epsilon } => Rule::Adam { beta1, beta2, epsilon, decoupled: false },
            OptimizerKind::AdamW { beta1, beta2, epsilon } => Rule::Adam { beta1, beta2, epsilon, decoupled: true },
        }
    }
}

impl Network {
    /// What a device runs for `section` on `batch` images of `input`: the same layers, with names and indices resolved.
    ///
    /// # Errors
    /// When `input` does not fit the section, there is no image, or a layer has no code for devices yet (named).
    pub fn program(&self, section: Range<usize>, input: Shape3, batch: usize) -> Result<Program> {
        let shapes = self.shapes(section.clone(), input)?;
        let parameter = |index: usize| self.layout.parameters[index].range.clone();
        let buffer = |index: usize| self.layout.buffers[index].range.clone();
        let operations = section
            .clone()
            .map(|index| {
                let layer = &self.layers[index];
                let source = layer.source() - section.start;
                let from = shapes[source];
                Ok(match layer {
                    Layer::Convolution { convolution, norm, relu, .. } if convolution.bias.is_none() => {
                        let (weight, shape) = self.geometry(index, from, batch).expect("a convolution multiplies");
                        Operation::Convolution {
                            shape,
                            weight: parameter(weight),
                            norm: norm.as_ref().map(|norm| NormPlaces {
                                scale: parameter(norm.scale),
                                shift: parameter(norm.shift),
                                mean: buffer(norm.mean),
                                variance: buffer(norm.variance),
                            }),
                            residual: layer.residual().map(|slot| slot - section.start),
                            relu: *relu,
                            source,
                        }
                    }
                    Layer::MaxPool { kernel, stride, padding, .. } => Operation::MaxPool {
                        shape: PoolShape {
                            batch,
                            channels: from.channels,
                            in_height: from.height,
                            in_width: from.width,
                            kernel: *kernel,
                            stride: *stride,
                            padding: *padding,
                        },
                        source,
                    },
                    Layer::GlobalAveragePool { .. } => Operation::GlobalAveragePool { source },
                    Layer::Linear { weight, bias, relu: false, .. } => {
                        Operation::Linear { weight: parameter(*weight), bias: parameter(*bias), source }
                    }
                    Layer::Convolution { .. } => return Err(no_device_code("convolutions with a bias")),
                    Layer::Linear { .. } => return Err(no_device_code("linear layers with a ReLU")),
                    Layer::Activation { .. } => return Err(no_device_code("a cut inside a layer")),
                    Layer::AdaptiveAveragePool { .. } => return Err(no_device_code("adaptive average pooling")),
                    Layer::Flatten { .. } => return Err(no_device_code("flattened maps")),
                    Layer::Dropout { .. } => return Err(no_device_code("dropout")),
                })
            })
            .collect::<Result<_>>()?;
        let program = Program {
            batch,
            slots: shapes.iter().map(|shape| [shape.channels, shape.height, shape.width]).collect(),
            operations,
            norm_epsilon: self.norm_epsilon,
            norm_momentum: self.norm_momentum,
            parameters: self.layout.parameter_count(),
            buffers: self.layout.buffer_count(),
        };
        program.check()?;
        Ok(program)
    }
}

fn no_device_code(what: &str) -> Error {
    Error::input(format!("GPUs run no {what} yet: use --device cpu"))
}
