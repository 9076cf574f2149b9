//! Every operation on the device against the CPU, in every precision.

use ticketlens::error::Result;
use ticketlens::kernels::device::{Engine, Pass, Precision, Wanted};
use ticketlens::model::{Stem, resnet};
use ticketlens::nn::{Mode, Network, Shape3};

use crate::nets::{self, Result3, noise};
use crate::{relative_error, report};

/// The largest error that passes, relative to the largest value: for one layer.
pub(crate) fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 2e-5,
        // Gradients are rounded to 10 bits where they are no whole numbers any more.
        Precision::Tf32 => 2e-3,
        // Maps are rounded to 8 bits.
        Precision::Bf16 => 1e-2,
    }
}

pub(crate) fn all(engine: &Engine) -> Result<bool> {
    let mut passed = true;
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16] {
        let engine = engine.with_precision(precision)?;
        println!("-- each operation in {}", precision.name());
        passed &= operations(&engine)?;
        passed &= networks(&engine)?;
    }
    println!("-- inner products of rows");
    passed &= products(engine)?;
    Ok(passed)
}

fn operations(engine: &Engine) -> Result<bool> {
    let limit = [tolerance(engine.precision()); 2];
    let mut passed = true;
    // Strides that do not divide, maps that are not square, odd channels.
    let convolutions = [
        ([8, 16, 3, 1, 1], (8, 7, 9), 5),
        ([16, 8, 3, 2, 1], (16, 6, 7), 4),
        ([8, 8, 3, 2, 1], (8, 7, 6), 3),
        ([24, 16, 1, 1, 0], (24, 5, 5), 4),
        ([16, 32, 1, 2, 0], (16, 9, 8), 3),
        ([3, 16, 7, 2, 3], (3, 23, 18), 3),
        ([1, 5, 3, 1, 1], (1, 10, 10), 6),
        ([40, 72, 3, 1, 1], (40, 1, 1), 2),
    ];
    for (sizes, shape, batch) in convolutions {
        for (norm, residual, relu) in [(false, false, false), (false, false, true), (true, false, true)] {
            let network = nets::convolution(sizes, norm, residual, relu);
            let name = format!("convolution {sizes:?} on {shape:?}, norm {norm}, relu {relu}");
            passed &= compare(engine, &name, &network, Mode::TRAIN, shape, batch, limit)?;
            if norm {
                let name = format!("{name}, running statistics");
                passed &= compare(engine, &name, &network, Mode::EvalTape, shape, batch, limit)?;
            }
        }
    }
    // The input is added again, so its gradient has two parts.
    for (norm, relu) in [(true, true), (true, false), (false, true)] {
        let network = nets::convolution([12, 12, 3, 1, 1], norm, true, relu);
        let name = format!("convolution with its input added, norm {norm}, relu {relu}");
        passed &= compare(engine, &name, &network, Mode::TRAIN, (12, 6, 5), 4, limit)?;
        if norm {
            let name = format!("{name}, running statistics");
            passed &= compare(engine, &name, &network, Mode::EvalTape, (12, 6, 5), 4, limit)?;
        }
    }
    // More positions than a block of the sums takes at a time.
    let network = nets::convolution([2, 3, 1, 1, 0], true, false, true);
    passed &= compare(engine, "batch norm over many positions", &network, Mode::TRAIN, (2, 40, 41), 3, limit)?;
    for (kernel, stride, padding, shape) in
        [(3, 2, 1, (5, 9, 8)), (3, 2, 1, (4, 7, 7)), (2, 2, 0, (6, 8, 8)), (3, 1, 1, (3, 5, 6)), (2, 3, 1, (2, 7, 9))]
    {
        let name = format!("max pool {kernel}/{stride}, padding {padding}, on {shape:?}");
        passed &= compare(engine, &name, &nets::max_pool(kernel, stride, padding), Mode::TRAIN, shape, 3, limit)?;
    }
    for (channels, classes, batch) in [(20, 3, 5), (64, 2, 7), (33, 10, 1)] {
        let name = format!("average pool and linear layer, {channels} to {classes}");
        let network = nets::head(channels, classes);
        passed &= compare(engine, &name, &network, Mode::TRAIN, (channels, 4, 3), batch, limit)?;
    }
    Ok(passed)
}

/// Whole networks: errors add up over the layers. Rounded factors move single units across ReLUs,
/// and with them what flows back through all the layers before: gradients get more room than
/// outputs.
fn networks(engine: &Engine) -> Result<bool> {
    let limit = match engine.precision() {
        Precision::F32 => [5e-4, 5e-4],
        Precision::Tf32 => [1e-2, 2e-1],
        Precision::Bf16 => [3e-2, 3e-1],
    };
    let mut passed = true;
    for (depth, width, stem, shape) in [(18, 8, Stem::Small, (1, 12, 12)), (50, 4, Stem::Large, (3, 33, 31))] {
        let network = resnet(depth, width, stem, shape.0, 3)?.network;
        let name = format!("ResNet-{depth}, width {width}, {shape:?}");
        // Over many layers roundings do move values across ReLUs, and batch statistics of a few
        // values carry that to all: what rounding does to training is seen in its loss and
        // accuracy.
        if engine.precision() == Precision::F32 {
            passed &= compare(engine, &format!("{name}, training"), &network, Mode::TRAIN, shape, 4, limit)?;
        }
        passed &= compare(engine, &format!("{name}, evaluating"), &network, Mode::EvalTape, shape, 4, limit)?;
    }
    Ok(passed)
}

/// Output and gradients of a network on CPU and device; `limits` of the two.
fn compare(
    engine: &Engine,
    name: &str,
    network: &Network,
    mode: Mode,
    shape: (usize, usize, usize),
    batch: usize,
    limits: [f64; 2],
) -> Result<bool> {
    let shape = Shape3::from(shape);
    // Whole numbers for single layers in a rounded precision.
    let rounded = engine.precision() != Precision::F32 && network.layers.len() < 3;
    let draw = if rounded { nets::whole } else { noise };
    let weights = nets::weights(network, rounded);
    let images = draw("images", batch * shape.len());
    let direction = |values| draw("direction", values);
    let expected = nets::on_cpu(network, mode, &weights, &images, shape, batch, direction)?;
    let found = on_device(engine, network, mode, &weights, &images, shape, batch, direction)?;
    let parts = [
        (&found.output, &expected.output),
        (&found.grad_input, &expected.grad_input),
        (&found.grad_parameters, &expected.grad_parameters),
    ];
    // The gradient of each tensor on its own scale.
    let [output, mut gradients] = [0, 1].map(|part| distance(engine.precision(), parts[part].0, parts[part].1));
    for spec in &network.layout.parameters {
        let (found, expected) = (&parts[2].0[spec.range.clone()], &parts[2].1[spec.range.clone()]);
        gradients = gradients.max(distance(engine.precision(), found, expected));
    }
    let [of_output, of_gradients] = limits;
    let output = report(&format!("{name}: output"), output, of_output);
    Ok(report(&format!("{name}: gradients"), gradients, of_gradients) && output)
}

/// f32 must agree in its worst value. Rounded maps move a value across a ReLU here and there, which
/// a mean of squares forgives.
pub(crate) fn distance(precision: Precision, found: &[f32], expected: &[f32]) -> f64 {
    if precision == Precision::F32 || found.len() != expected.len() {
        return relative_error(found, expected);
    }
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let difference = squares(&mut found.iter().zip(expected).map(|(a, b)| f64::from(a - b)));
    let size = squares(&mut expected.iter().map(|&value| f64::from(value)));
    let error = (difference / size.max(1e-24)).sqrt();
    if error.is_nan() { f64::INFINITY } else { error }
}

#[expect(clippy::too_many_arguments, reason = "what is run, and on what")]
fn on_device(
    engine: &Engine,
    network: &Network,
    mode: Mode,
    weights: &ticketlens::nn::Weights,
    images: &[f32],
    shape: Shape3,
    batch: usize,
    direction: impl Fn(usize) -> Vec<f32>,
) -> Result<Result3> {
    let program = network.program(network.whole(), shape, batch)?;
    let pass = if mode.trains() { Pass::Train { update: false } } else { Pass::Tape };
    let loaded = engine.load(&weights.parameters, &weights.buffers)?;
    let tape = engine.forward(&program, pass, &loaded, images)?;
    let output = engine.output(&program, &tape)?;
    // Without a tape the output is the same.
    if mode == Mode::EvalTape {
        let evaluated = engine.forward(&program, Pass::Evaluate, &loaded, images)?;
        assert_eq!(engine.output(&program, &evaluated)?, output, "evaluating with and without a tape");
    }
    let wanted = Wanted { parameters: mode.trains(), input: true };
    let direction = direction(output.len());
    let (grad_parameters, grad_input) = engine.backward(&program, tape, &loaded, &direction, wanted)?;
    let grad_parameters = grad_parameters.unwrap_or_else(|| vec![0.0; weights.parameters.len()]);
    Ok(Result3 { output, grad_parameters, grad_input: grad_input.unwrap_or_default() })
}

fn products(engine: &Engine) -> Result<bool> {
    let mut passed = true;
    for (m, n, features) in [(1, 1, 1), (3, 70, 17), (65, 64, 100), (130, 5, 1025)] {
        let (left, right) = (noise("left", m * features), noise("right", n * features));
        let found = engine.row_products(&left, Some(&right), features)?;
        let mut error = 0.0f64;
        for (index, found) in found.iter().enumerate() {
            let (row, column) = (index / n, index % n);
            let pairs = left[row * features..][..features].iter().zip(&right[column * features..][..features]);
            let expected: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            error = error.max((found - expected).abs());
        }
        passed &= report(&format!("{m} rows by {n} rows of {features}"), error, 1e-11);
        let own = engine.row_products(&left, None, features)?;
        let symmetric = (0..m * m).all(|index| own[index] == own[index % m * m + index / m]);
        passed &= report(&format!("{m} rows by themselves: symmetric"), f64::from(u8::from(!symmetric)), 0.0);
    }
    Ok(passed)
}
