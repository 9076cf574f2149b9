//! 2-D convolution (cross-correlation, as in PyTorch): forward, gradient of the input, gradient of the weight.

mod correlate;
mod geometry;
mod im2col;
mod kept;
mod outer;
mod pack;
mod panel;
mod pattern;
#[cfg(test)]
mod reference;
mod strips;
mod tiles;
mod transforms;
mod turned;
mod units;
mod weight;
mod winograd;

use crate::layout::Order;
use crate::norm::AtRest;
use crate::simd::Path;
use geometry::{Direction, Problem};
pub use pattern::Pattern;
use std::ops::Range;
use tiles::Kernels;

/// Geometry of a square-kernel convolution of N images, I to O channels. Maps lie in
/// [`Order::of`](crate::layout::Order::of) the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dShape {
    /// N
    pub batch: usize,
    /// I
    pub in_channels: usize,
    /// O
    pub out_channels: usize,
    /// H of the input
    pub in_height: usize,
    /// W of the input
    pub in_width: usize,
    /// side of the square kernel
    pub kernel: usize,
    /// step of the kernel in both directions
    pub stride: usize,
    /// rows and columns of zeros on each side
    pub padding: usize,
}

impl Conv2dShape {
    /// H of the output.
    #[must_use]
    pub fn out_height(&self) -> usize {
        (self.in_height + 2 * self.padding - self.kernel) / self.stride + 1
    }
    /// W of the output.
    #[must_use]
    pub fn out_width(&self) -> usize {
        (self.in_width + 2 * self.padding - self.kernel) / self.stride + 1
    }
    /// Number of values of the input, I·H·W·N.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.in_channels * self.in_height * self.in_width * self.batch
    }
    /// Number of values of the output, O·H'·W'·N.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.out_channels * self.out_height() * self.out_width() * self.batch
    }
    /// Number of weights, O·I·k·k.
    #[must_use]
    pub fn weight_len(&self) -> usize {
        self.out_channels * self.in_channels * self.kernel * self.kernel
    }
    /// Multiplications of one dense pass, padding included (two floating-point operations each).
    #[must_use]
    pub fn multiply_adds(&self) -> u64 {
        self.weight_len() as u64 * (self.out_height() * self.out_width() * self.batch) as u64
    }
    fn check(&self, pattern: Option<&Pattern>) {
        assert!(self.kernel > 0 && self.stride > 0, "conv2d: kernel and stride must be positive");
        assert!(
            self.in_height + 2 * self.padding >= self.kernel && self.in_width + 2 * self.padding >= self.kernel,
            "conv2d: kernel larger than the padded input"
        );
        if let Some(pattern) = pattern {
            assert_eq!(
                (pattern.out_channels, pattern.in_channels, pattern.kernel),
                (self.out_channels, self.in_channels, self.kernel),
                "conv2d: pattern shape"
            );
        }
    }
}

/// A convolution's weight.
#[derive(Clone, Copy, Debug)]
pub enum Weight<'a> {
    /// all of it, `(O, I, k, k)`
    Dense(&'a [f32]),
    /// what a pattern keeps, in the pattern's order ([`Pattern::gather`]); the rest counts as zero
    Kept(&'a Pattern, &'a [f32]),
}

impl<'a> Weight<'a> {
    /// Values that are all of a weight, or where there is a pattern what it keeps.
    #[must_use]
    pub fn of(values: &'a [f32], pattern: Option<&'a Pattern>) -> Self {
        pattern.map_or(Weight::Dense(values), |pattern| Weight::Kept(pattern, values))
    }
    /// All values, or those that are kept.
    #[must_use]
    pub fn values(self) -> &'a [f32] {
        match self {
            Weight::Dense(values) | Weight::Kept(_, values) => values,
        }
    }
    /// Number of weights, kept or not.
    pub(crate) fn len(self) -> usize {
        match self {
            Weight::Dense(weight) => weight.len(),
            Weight::Kept(pattern, _) => pattern.all(),
        }
    }
    fn check(self, shape: &Conv2dShape) {
        let (pattern, length, expected) = match self {
            Weight::Dense(weight) => (None, weight.len(), shape.weight_len()),
            Weight::Kept(pattern, kept) => (Some(pattern), kept.len(), pattern.kept()),
        };
        shape.check(pattern);
        assert_eq!(length, expected, "conv2d: weight length");
    }
}

/// Which kernel computes a masked convolution; the result is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// all weights, masked ones as zeros
    Dense,
    /// the kept weights only
    Sparse,
}

/// The faster algorithm for this geometry and density, from a measured crossover.
///
/// Measured over the three passes of ResNet-18's and ResNet-50's layers, uniform masks, maps that
/// begin with a line of the caches, on AVX-512 and AVX2 (Intel Emerald Rapids). Where minimal
/// filtering (`winograd`) computes all weights they break even, of maps by position, at a density
/// of 0.31 to 0.51 with 16 channels, 0.16 to 0.29 with 128 and more; with fewer than 48 images
/// near 0.3 and between 0.12 and 0.2; of maps by channel between 0.12 and 0.17. Elsewhere they do, of
/// maps by position, at 0.59 with 16 channels, 0.4 with 64 and 0.25 with 128 and more; with fewer
/// than 48 images near 0.3; of maps by channel between 0.3 and 0.58.
#[must_use]
pub fn choose(shape: &Conv2dShape, density: f64) -> Algorithm {
    let (order, channels) = (Order::of(shape.batch), shape.in_channels.min(shape.out_channels) as f64);
    let few = shape.batch < 48;
    let crossover = match order {
        Order::Channels if winograd::pays(shape) => 0.15,
        Order::Positions if winograd::pays(shape) && few => 0.1 + 3.0 / channels,
        Order::Positions if winograd::pays(shape) => 0.12 + 4.0 / channels,
        _ if outer::pays(shape) => 0.2,
        Order::Channels => 0.36,
        Order::Positions => (0.22 + if few { 2.0 } else { 5.5 } / channels).min(0.8),
    };
    if density < crossover { Algorithm::Sparse } else { Algorithm::Dense }
}

/// The density below which the sparse product of a forward pass is the faster for every layer and
/// map that was measured.
pub const ALWAYS_SPARSE: f64 = 0.12;

/// The same for a convolution, whatever its maps; [`choose`] knows them. Measured on AVX-512 and
/// AVX2 (AMD EPYC, Zen 4 and Zen 3) over ResNet-18's and ResNet-50's layers at 224 px, 1 to 128
/// images.
#[must_use]
pub fn crossover_at_rest(in_channels: usize, kernel: usize, stride: usize) -> f64 {
    match (kernel, stride) {
        // Minimal filtering may take such layers.
        (3, 1) => 0.16,
        // What so few channels read of a position is read once, and the output is most of what is moved.
        (1, _) if in_channels <= 128 => 0.6,
        _ => 0.35,
    }
}

/// `output = weight ⋆ input`. The cost follows the number of weights.
pub fn forward(shape: &Conv2dShape, weight: Weight<'_>, input: &[f32], output: &mut [f32]) {
    forward_rows(shape, weight, input, 0..shape.out_height(), None, output);
}

/// Rows `rows` of `weight ⋆ input`, and `norm` of them if there is one, with the bits that they
/// have among all rows. Maps by channel have no rows of their own: of them only all are taken, of
/// maps by position any that begin at a multiple of [`ROWS`].
///
/// In maps by position the sums of sparse products meet the norm in registers. After dense ones,
/// which wait for multiplications and not for memory, a pass of its own is faster.
pub fn forward_rows(
    shape: &Conv2dShape,
    weight: Weight<'_>,
    input: &[f32],
    rows: Range<usize>,
    norm: Option<&AtRest<'_>>,
    output: &mut [f32],
) {
    forward_rows_on(Path::detect(), shape, weight, input, rows, norm, output);
}

/// Rows that some products take together.
pub const ROWS: usize = transforms::STEP;

fn forward_rows_on(
    path: Path,
    shape: &Conv2dShape,
    weight: Weight<'_>,
    input: &[f32],
    rows: Range<usize>,
    norm: Option<&AtRest<'_>>,
    output: &mut [f32],
) {
    weight.check(shape);
    let all = 0..shape.out_height();
    assert_eq!(input.len(), shape.input_len(), "conv2d forward: input length");
    assert_eq!(output.len(), shape.output_len() / all.len() * rows.len(), "conv2d forward: output length");
    let (mut problem, mut source) = (Problem::new(shape, Direction::Forward), input);
    if rows != all {
        assert!(Order::of(shape.batch) == Order::Positions && rows.start.is_multiple_of(ROWS), "conv2d forward: rows");
        let met = problem.take_rows(&rows);
        let row = shape.input_len() / shape.in_height.max(1);
        source = &input[met.start * row..met.end * row];
    }
    match (weight, norm) {
        (Weight::Kept(pattern, kept), Some(norm))
            if Order::of(shape.batch) == Order::Positions && !source.is_empty() =>
        {
            norm.check(shape.out_channels, output.len());
            correlate::sparse(tiles::kernels(path), &problem, (pattern, kept), source, output, false, Some(norm));
        }
        _ => {
            correlate(path, shape, &problem, weight, source, output, false);
            if let Some(norm) = norm {
                norm.apply(output, shape.batch);
            }
        }
    }
}

/// Gradient of the input from the gradient of the output; added to `grad_input` with `accumulate`, else overwriting it.
pub fn grad_input(
    shape: &Conv2dShape,
    weight: Weight<'_>,
    grad_output: &[f32],
    grad_input: &mut [f32],
    accumulate: bool,
) {
    weight.check(shape);
    assert_eq!(grad_output.len(), shape.output_len(), "conv2d grad_input: grad_output length");
    assert_eq!(grad_input.len(), shape.input_len(), "conv2d grad_input: grad_input length");
    let problem = Problem::new(shape, Direction::Backward);
    correlate(Path::detect(), shape, &problem, weight, grad_output, grad_input, accumulate);
}

/// Gradient of the weight `(O, I, k, k)`, or with a `pattern` of what it keeps, in its order; overwritten.
pub fn grad_weight(
    shape: &Conv2dShape,
    pattern: Option<&Pattern>,
    input: &[f32],
    grad_output: &[f32],
    grad_weight: &mut [f32],
) {
    shape.check(pattern);
    assert_eq!(input.len(), shape.input_len(), "conv2d grad_weight: input length");
    assert_eq!(grad_output.len(), shape.output_len(), "conv2d grad_weight: grad_output length");
    let length = pattern.map_or(shape.weight_len(), Pattern::kept);
    assert_eq!(grad_weight.len(), length, "conv2d grad_weight: grad_weight length");
    weight_gradient(Path::detect(), shape, pattern, input, grad_output, grad_weight);
}

/// A product of maps of `shape`, or of the rows of them that `problem` has.
fn correlate(
    path: Path,
    shape: &Conv2dShape,
    problem: &Problem,
    weight: Weight<'_>,
    source: &[f32],
    destination: &mut [f32],
    accumulate: bool,
) {
    if source.is_empty() || destination.is_empty() {
        if !accumulate {
            destination.fill(0.0);
        }
        return;
    }
    let kernels = tiles::kernels(path);
    let sparse = matches!(weight, Weight::Kept(..));
    match weight {
        Weight::Dense(weight) if winograd::pays(shape) => {
            winograd::product(kernels, problem, weight, source, destination, accumulate);
        }
        Weight::Dense(weight) if im2col::pays(problem) => {
            im2col::product(kernels, problem, weight, source, destination, accumulate);
        }
        _ if strips::pays(problem, sparse) => {
            strips::product(problem, source, destination, accumulate, |problem, source, destination| {
                direct(kernels, problem, weight, source, destination, false);
            });
        }
        _ => direct(kernels, problem, weight, source, destination, accumulate),
    }
}

fn direct(
    kernels: &Kernels,
    problem: &Problem,
    weight: Weight<'_>,
    source: &[f32],
    destination: &mut [f32],
    accumulate: bool,
) {
    match weight {
        Weight::Dense(weight) => correlate::dense(kernels, problem, weight, source, destination, accumulate),
        Weight::Kept(pattern, kept) => {
            correlate::sparse(kernels, problem, (pattern, kept), source, destination, accumulate, None);
        }
    }
}

fn weight_gradient(
    path: Path,
    shape: &Conv2dShape,
    pattern: Option<&Pattern>,
    input: &[f32],
    grad_output: &[f32],
    grad_weight: &mut [f32],
) {
    if input.is_empty() || grad_output.is_empty() {
        return grad_weight.fill(0.0);
    }
    let (kernels, problem) = (tiles::kernels(path), Problem::new(shape, Direction::Forward));
    match pattern {
        None if winograd::pays(shape) => winograd::weight_gradient(kernels, &problem, input, grad_output, grad_weight),
        None if outer::pays(shape) => outer::weight_gradient(kernels, shape, input, grad_output, grad_weight),
        None if turned::pays(shape) => turned::weight_gradient(kernels, shape, input, grad_output, grad_weight),
        None => weight::dense(kernels, &problem, input, grad_output, grad_weight),
        Some(pattern) if kept::takes(shape) => {
            kept::weight_gradient(kernels, &problem, pattern, input, grad_output, grad_weight);
        }
        Some(pattern) => weight::sparse(kernels, &problem, pattern, input, grad_output, grad_weight),
    }
}

#[cfg(test)]
mod tests;
