//! The device's own operations on maps: batch norm, pooling, the linear layer, loss. Shapes come
//! from a checked program.

use super::convolution::{Addresses, Direction};
use super::memory::Memory;
use super::{Engine, arguments};
use crate::conv2d::Conv2dShape;
use crate::device::program::NormPlaces;
use crate::error::{Error, Result};
use crate::pool::PoolShape;

/// How a map lies: images, channels, positions.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub(super) batch: usize,
    pub(super) channels: usize,
    pub(super) positions: usize,
}

impl Extent {
    pub(super) fn len(self) -> usize {
        self.batch * self.channels * self.positions
    }
}

/// What a batch norm leaves for its backward pass: mean, variance, and the factor of the centred input.
pub(super) struct Statistics {
    pub(super) mean: Memory,
    pub(super) variance: Memory,
    pub(super) scale: Memory,
}

impl Engine {
    /// One product of a convolution, of maps as they lie; see `Convolutions::run`.
    ///
    /// What cuDNN takes in no such way (it may refuse odd numbers of channels that lie innermost)
    /// goes through planar floats.
    pub(super) fn convolve(&self, shape: &Conv2dShape, direction: Direction, addresses: [&Memory; 3]) -> Result<()> {
        let [input, weight, output] = addresses;
        let pointers = |[input, weight, output]: [&Memory; 3]| Addresses {
            input: input.pointer(),
            weight: weight.pointer(),
            output: output.pointer(),
        };
        if self.convolutions().run(shape, direction, pointers(addresses))? {
            return Ok(());
        }
        let refused = || Error::input(format!("no deterministic algorithm of cuDNN does {direction:?} of {shape:?}"));
        if !self.innermost() {
            return Err(refused());
        }
        let area = |channels, positions| Extent { batch: shape.batch, channels, positions };
        let from = area(shape.in_channels, shape.in_height * shape.in_width);
        let to = area(shape.out_channels, shape.out_height() * shape.out_width());
        // A weight lies as a map of so many images does.
        let kernels =
            Extent { batch: shape.out_channels, channels: shape.in_channels, positions: shape.kernel * shape.kernel };
        let parts = [(from, input), (kernels, weight), (to, output)];
        let written = match direction {
            Direction::GradInput => 0,
            Direction::GradWeight => 1,
            Direction::Forward => 2,
        };
        let mut floats = Vec::with_capacity(3);
        for (place, (extent, map)) in parts.iter().enumerate() {
            let memory = self.take_floats(extent.len())?;
            if place != written {
                self.export(*extent, map, &memory)?;
            }
            floats.push(memory);
        }
        if !self.planar().run(shape, direction, pointers([&floats[0], &floats[1], &floats[2]]))? {
            return Err(refused());
        }
        let (extent, map) = parts[written];
        self.import(extent, floats[written].pointer(), map)
    }

    pub(super) fn import(&self, extent: Extent, floats: u64, map: &Memory) -> Result<()> {
        let arguments = arguments![floats, map, extent.channels, extent.positions, self.innermost(), extent.len()];
        self.each("import_map", extent.len(), arguments)
    }

    pub(super) fn export(&self, extent: Extent, map: &Memory, floats: &Memory) -> Result<()> {
        let arguments = arguments![map, floats, extent.channels, extent.positions, self.innermost(), extent.len()];
        self.each("export_map", extent.len(), arguments)
    }

    /// Two sums for each channel, in parts: `launch` gets their place and the grid; the number of
    /// parts comes back with them.
    fn channel_sums(
        &self,
        extent: Extent,
        launch: impl FnOnce(&Memory, (u32, u32)) -> Result<()>,
    ) -> Result<(Memory, usize)> {
        // Blocks of one channel, or of 32; enough parts of the images to fill the device.
        let (columns, rows) = match self.innermost() {
            true => (extent.channels.div_ceil(32), 64),
            false => (extent.channels, 1024),
        };
        let most = (extent.batch * extent.positions).div_ceil(rows).max(1);
        let splits = (self.0.blocks as usize / 2 / columns).clamp(1, most);
        let partial = self.0.pool.take(splits * extent.channels * 16)?;
        launch(&partial, (columns as u32, splits as u32))?;
        Ok((partial, splits))
    }

    /// Batch norm with the batch's statistics from `z` into `out`; the running ones take them over
    /// with `momentum` above 0.
    #[expect(clippy::too_many_arguments, reason = "the terms of one formula")]
    pub(super) fn norm_train(
        &self,
        extent: Extent,
        z: &Memory,
        (parameters, buffers): (u64, u64),
        places: &NormPlaces,
        (epsilon, momentum): (f32, f32),
        residual: u64,
        relu: bool,
        out: &Memory,
    ) -> Result<Statistics> {
        let Extent { batch, channels, positions } = extent;
        let (partial, splits) = self.channel_sums(extent, |partial, grid| {
            let arguments = arguments![z, partial, batch, channels, positions, self.innermost()];
            self.launch("norm_moments", grid, (32, 8), arguments)
        })?;
        let (mean, variance) = (self.take_floats(channels)?, self.take_floats(channels)?);
        let scale = self.take_floats(channels)?;
        let arguments = arguments![
            &partial,
            splits,
            channels,
            batch * positions,
            at(parameters, places.scale.start),
            epsilon,
            momentum,
            &mean,
            &variance,
            &scale,
            at(buffers, places.mean.start),
            at(buffers, places.variance.start),
        ];
        self.launch("norm_finish_moments", (channels.div_ceil(8) as u32, 1), (32, 8), arguments)?;
        let statistics = Statistics { mean, variance, scale };
        let mean = statistics.mean.pointer();
        self.norm_apply(extent, z, mean, &statistics.scale, at(parameters, places.shift.start), residual, relu, out)?;
        Ok(statistics)
    }

    #[expect(clippy::too_many_arguments, reason = "the terms of one formula")]
    pub(super) fn norm_apply(
        &self,
        extent: Extent,
        z: &Memory,
        mean: u64,
        scale: &Memory,
        shift: u64,
        residual: u64,
        relu: bool,
        out: &Memory,
    ) -> Result<()> {
        let Extent { channels, positions, .. } = extent;
        let arguments =
            arguments![z, mean, scale, shift, residual, relu, out, channels, positions, self.innermost(), extent.len()];
        self.each("norm_apply", extent.len(), arguments)
    }

    /// The factor of the centred input with the running statistics.
    pub(super) fn norm_scale(
        &self,
        (parameters, buffers): (u64, u64),
        places: &NormPlaces,
        epsilon: f32,
    ) -> Result<Memory> {
        let channels = places.scale.len();
        let scale = self.take_floats(channels)?;
        let (gamma, variance) = (at(parameters, places.scale.start), at(buffers, places.variance.start));
        self.each("norm_scale", channels, arguments![gamma, variance, epsilon, &scale, channels])?;
        Ok(scale)
    }

    /// `z` becomes its gradient, `grad` the masked gradient. The gradients of scale and shift go to
    /// `gradient`, or nowhere.
    #[expect(clippy::too_many_arguments, reason = "the terms of one formula")]
    pub(super) fn norm_train_backward(
        &self,
        extent: Extent,
        z: &Memory,
        statistics: &Statistics,
        parameters: u64,
        places: &NormPlaces,
        epsilon: f32,
        out: &Memory,
        relu: bool,
        grad: &Memory,
        gradient: Option<u64>,
    ) -> Result<()> {
        let Extent { batch, channels, positions } = extent;
        let (partial, splits) = self.channel_sums(extent, |partial, grid| {
            let mean = &statistics.mean;
            let arguments = arguments![z, grad, out, mean, relu, partial, batch, channels, positions, self.innermost()];
            self.launch("norm_gradient_sums", grid, (32, 8), arguments)
        })?;
        let coefficients = self.take_floats(3 * channels)?;
        // The kernel always writes them.
        let unwanted = self.take_floats(2 * channels)?;
        let (grad_scale, grad_shift) = match gradient {
            Some(gradient) => (at(gradient, places.scale.start), at(gradient, places.shift.start)),
            None => (unwanted.pointer(), at(unwanted.pointer(), channels)),
        };
        let arguments = arguments![
            &partial,
            splits,
            channels,
            batch * positions,
            at(parameters, places.scale.start),
            &statistics.variance,
            epsilon,
            grad_scale,
            grad_shift,
            &coefficients,
        ];
        self.launch("norm_finish_sums", (channels.div_ceil(8) as u32, 1), (32, 8), arguments)?;
        let arguments = arguments![
            z,
            grad,
            out,
            &statistics.mean,
            &coefficients,
            relu,
            channels,
            positions,
            self.innermost(),
            extent.len()
        ];
        self.each("norm_spread", extent.len(), arguments)
    }

    pub(super) fn norm_eval_backward(
        &self,
        extent: Extent,
        scale: &Memory,
        out: &Memory,
        relu: bool,
        grad: &Memory,
        grad_z: &Memory,
    ) -> Result<()> {
        let Extent { channels, positions, .. } = extent;
        let arguments = arguments![grad, out, scale, relu, grad_z, channels, positions, self.innermost(), extent.len()];
        self.each("norm_eval_backward", extent.len(), arguments)
    }

    pub(super) fn max_pool(&self, shape: &PoolShape, input: &Memory, out: &Memory, winner: &Memory) -> Result<()> {
        let total = shape.batch * shape.channels * shape.out_height() * shape.out_width();
        let arguments = arguments![
            input,
            out,
            winner,
            shape.channels,
            shape.in_height,
            shape.in_width,
            shape.out_height(),
            shape.out_width(),
            shape.kernel,
            shape.stride,
            shape.padding,
            self.innermost(),
            total,
        ];
        self.each("max_pool", total, arguments)
    }

    pub(super) fn max_pool_backward(
        &self,
        shape: &PoolShape,
        winner: &Memory,
        grad: &Memory,
        grad_input: &Memory,
    ) -> Result<()> {
        let total = shape.batch * shape.channels * shape.in_height * shape.in_width;
        let arguments = arguments![
            winner,
            grad,
            grad_input,
            shape.channels,
            shape.in_height,
            shape.in_width,
            shape.out_height(),
            shape.out_width(),
            shape.kernel,
            shape.stride,
            shape.padding,
            self.innermost(),
            total,
        ];
        self.each("max_pool_backward", total, arguments)
    }

    pub(super) fn average_pool(&self, extent: Extent, input: &Memory, out: &Memory) -> Result<()> {
        let total = extent.batch * extent.channels;
        let arguments = arguments![input, out, extent.channels, extent.positions, self.innermost(), total];
        self.each("average_pool", total, arguments)
    }

    pub(super) fn average_pool_backward(&self, extent: Extent, grad: &Memory, grad_input: &Memory) -> Result<()> {
        let arguments = arguments![grad, grad_input, extent.channels, extent.positions, self.innermost(), extent.len()];
        self.each("average_pool_backward", extent.len(), arguments)
    }

    pub(super) fn linear(&self, sizes: Linear, input: &Memory, weight: u64, bias: u64, out: &Memory) -> Result<()> {
        let total = sizes.batch * sizes.classes;
        let arguments = arguments![input, weight, bias, out, sizes.features, sizes.classes, total];
        self.launch("linear", (total.div_ceil(8) as u32, 1), (32, 8), arguments)
    }

    pub(super) fn linear_grad_input(&self, sizes: Linear, grad: &Memory, weight: u64, to: &Memory) -> Result<()> {
        let total = sizes.batch * sizes.features;
        self.each("linear_grad_input", total, arguments![grad, weight, to, sizes.features, sizes.classes, total])
    }

    pub(super) fn linear_grad_weight(
        &self,
        sizes: Linear,
        grad: &Memory,
        input: &Memory,
        weight: u64,
        bias: u64,
    ) -> Result<()> {
        let total = sizes.classes * sizes.features;
        let arguments = arguments![grad, input, weight, bias, sizes.features, sizes.classes, sizes.batch, total];
        self.each("linear_grad_weight", total + sizes.classes, arguments)
    }
}

/// Sizes of a linear layer.
#[derive(Clone, Copy)]
pub(super) struct Linear {
    pub(super) batch: usize,
    pub(super) features: usize,
    pub(super) classes: usize,
}

/// The address of the float number `index` behind `pointer`.
pub(super) fn at(pointer: u64, index: usize) -> u64 {
    pointer + 4 * index as u64
}
