//! Seconds of each operation on the device, of whole training steps, and of explaining; shapes and
//! precisions as in `ci/peers/gpu_torch.py`.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use ticketlens::error::{Error, Result};
use ticketlens::kernels::device::{Clock, Engine, Pass, Precision, Rule, Wanted};
use ticketlens::model::{Model, Stage, Stem, resnet};
use ticketlens::nn::{Network, Shape3};

use crate::nets::{self, Sizes, noise};

/// A convolution of ResNet-18 or ResNet-50 at 224 or 448 px: name, sizes, side.
const CONVOLUTIONS: [(&str, Sizes, usize); 8] = [
    ("stem 7x7/2 at 224", [3, 64, 7, 2, 3], 224),
    ("3x3 64 at 56", [64, 64, 3, 1, 1], 56),
    ("3x3/2 64-128 at 56", [64, 128, 3, 2, 1], 56),
    ("3x3 128 at 28", [128, 128, 3, 1, 1], 28),
    ("3x3 256 at 14", [256, 256, 3, 1, 1], 14),
    ("3x3 512 at 7", [512, 512, 3, 1, 1], 7),
    ("1x1 64-256 at 56", [64, 256, 1, 1, 0], 56),
    ("1x1 1024-256 at 28", [1024, 256, 1, 1, 0], 28),
];

struct Table {
    out: File,
    engine: String,
    only: Vec<String>,
}

impl Table {
    /// Whether a row of one of these operations is asked for.
    fn wants(&self, operations: &[&str], size: &str, precision: Precision) -> bool {
        operations.iter().any(|op| {
            let row = format!("{op} {size} {}", precision.name());
            self.only.iter().all(|word| row.contains(word))
        })
    }

    fn row(
        &mut self,
        op: &str,
        size: &str,
        precision: Precision,
        mut seconds: Vec<f64>,
        operations: f64,
    ) -> Result<()> {
        seconds.sort_by(f64::total_cmp);
        let Some(&median) = seconds.get(seconds.len() / 2) else { return Ok(()) };
        let line = json!({
            "who": "ticketlens", "device": self.engine, "op": op, "size": size, "precision": precision.name(),
            "seconds": median, "fastest": seconds[0], "repeats": seconds.len(), "tflops": operations / median / 1e12,
        });
        println!("{op:<24} {size:<36} {:<5} {:10.1} µs", precision.name(), 1e6 * median);
        writeln!(self.out, "{line}").map_err(|error| Error::input(error.to_string()))
    }
}

pub(crate) fn all(engine: &Engine, small: bool, repeats: usize, only: Vec<String>, out: &Path) -> Result<()> {
    let out = File::create(out).map_err(|error| Error::io(out, error))?;
    let mut table = Table { out, engine: engine.name().to_owned(), only };
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16] {
        let engine = engine.with_precision(precision)?;
        operations(&mut table, &engine, small, repeats)?;
        steps(&mut table, &engine, small, repeats)?;
        if precision != Precision::Bf16 {
            explaining(&mut table, &engine, small, repeats)?;
        }
    }
    products(&mut table, engine, small, repeats)
}

fn operations(table: &mut Table, engine: &Engine, small: bool, repeats: usize) -> Result<()> {
    let precision = engine.precision();
    let (batch, shrink) = if small { (2, 8) } else { (64, 1) };
    let both = Wanted { parameters: true, input: true };
    for (name, sizes, side) in CONVOLUTIONS {
        let sizes = [sizes[0].div_ceil(shrink), sizes[1].div_ceil(shrink), sizes[2], sizes[3], sizes[4]];
        let network = nets::convolution(sizes, false, false, false);
        let shape = Shape3 { channels: sizes[0], height: side.div_ceil(shrink), width: side.div_ceil(shrink) };
        let out = network.shapes(network.whole(), shape)?[1];
        let flops = 2.0 * (out.height * out.width * batch * network.layout.parameter_count()) as f64;
        let size = format!("{name}, {batch} images");
        for (op, wanted) in [
            ("conv grad input", Wanted { parameters: false, input: true }),
            ("conv grad weight", Wanted { parameters: true, input: false }),
        ] {
            let rows: &[&str] = if wanted.input { &["conv forward", op] } else { &[op] };
            if !table.wants(rows, &size, precision) {
                continue;
            }
            let (forward, backward) = time(engine, &network, Pass::Tape, Some(wanted), shape, batch, repeats)?;
            if wanted.input {
                table.row("conv forward", &size, precision, forward, flops)?;
            }
            table.row(op, &size, precision, backward, flops)?;
        }
    }
    // A 1×1 convolution of one channel in front, as little as there can be, is in these; the norm
    // alone is not a network.
    for (channels, side) in [(64usize, 112usize), (64, 56), (256, 56), (512, 7)] {
        let (channels, side) = (channels.div_ceil(shrink), side.div_ceil(shrink));
        let shape = Shape3 { channels: 1, height: side, width: side };
        let size = format!("{channels} at {side}, {batch} images");
        if !table.wants(&["batch norm + ReLU", "batch norm + ReLU grad"], &size, precision) {
            continue;
        }
        let plain = nets::convolution([1, channels, 1, 1, 0], false, false, false);
        let normed = nets::convolution([1, channels, 1, 1, 0], true, false, true);
        let (bare_forward, bare_backward) = time(engine, &plain, Pass::Tape, Some(both), shape, batch, repeats)?;
        let pass = Pass::Train { update: true };
        let (forward, backward) = time(engine, &normed, pass, Some(both), shape, batch, repeats)?;
        let without = |with: Vec<f64>, bare: Vec<f64>| {
            let bare = median(bare);
            with.into_iter().map(|seconds| seconds - bare).collect::<Vec<_>>()
        };
        table.row("batch norm + ReLU", &size, precision, without(forward, bare_forward), 0.0)?;
        table.row("batch norm + ReLU grad", &size, precision, without(backward, bare_backward), 0.0)?;
    }
    let (channels, side) = (64usize.div_ceil(shrink), 112usize.div_ceil(shrink));
    let shape = Shape3 { channels, height: side, width: side };
    let size = format!("3x3/2, {channels} at {side}, {batch} images");
    if !table.wants(&["max pool", "max pool grad"], &size, precision) {
        return Ok(());
    }
    let (forward, backward) = time(engine, &nets::max_pool(3, 2, 1), Pass::Tape, Some(both), shape, batch, repeats)?;
    table.row("max pool", &size, precision, forward, 0.0)?;
    table.row("max pool grad", &size, precision, backward, 0.0)
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

fn time(
    engine: &Engine,
    network: &Network,
    pass: Pass,
    wanted: Option<Wanted>,
    shape: Shape3,
    batch: usize,
    repeats: usize,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let weights = nets::weights(network, false);
    let loaded = engine.load(&weights.parameters, &weights.buffers)?;
    let program = network.program(network.whole(), shape, batch)?;
    let images = noise("images", batch * shape.len());
    Ok(engine.time(&program, pass, wanted, &loaded, &images, repeats, Clock::Device)?)
}

/// Sizes of whole networks: name, network, images a step, side.
fn studies(small: bool) -> Result<Vec<(&'static str, Model, usize, usize)>> {
    let net =
        |depth, width, stem, channels, classes| -> Result<Model> { resnet(depth, width, stem, channels, classes) };
    if small {
        return Ok(vec![("ResNet-18 width 4, 12 px", net(18, 4, Stem::Small, 3, 4)?, 4, 12)]);
    }
    Ok(vec![
        ("ResNet-18 width 16, 28 px", net(18, 16, Stem::Small, 1, 2)?, 128, 28),
        ("ResNet-18, 224 px", net(18, 64, Stem::Large, 1, 2)?, 128, 224),
        ("ResNet-50, 448 px", net(50, 64, Stem::Large, 3, 200)?, 32, 448),
    ])
}

/// Training steps from images in pageable memory, as a study takes them: copying to the device is in them.
fn steps(table: &mut Table, engine: &Engine, small: bool, repeats: usize) -> Result<()> {
    for (name, model, batch, side) in studies(small)? {
        if !table.wants(&["training step"], name, engine.precision()) {
            continue;
        }
        let network = &model.network;
        let shape = Shape3 { channels: model.channels, height: side, width: side };
        let weights = network.initialise(1);
        let program = network.program(network.whole(), shape, batch)?;
        let images = noise("images", batch * shape.len());
        let labels: Vec<u32> = (0..batch).map(|image| (image % model.classes) as u32).collect();
        let rule = Rule::Sgd { momentum: 0.9 };
        let mask = vec![1u8; weights.parameters.len()];
        let mut trainer = engine.trainer(program, &weights.parameters, &weights.buffers, Some(&mask), rule, 1e-4)?;
        let mut step = |asked: bool| -> Result<()> {
            trainer.gradient_of(&images, &labels)?;
            trainer.update(0.01)?;
            if asked {
                trainer.loss()?;
            }
            Ok(())
        };
        step(false)?;
        for _ in 0..3 {
            step(true)?;
        }
        // One step is always on its way, so a turn of the loop takes as long as a step.
        let mut seconds = Vec::new();
        for _ in 0..repeats {
            let started = Instant::now();
            step(true)?;
            seconds.push(started.elapsed().as_secs_f64());
        }
        table.row("training step", &format!("{name}, {batch} images"), engine.precision(), seconds, 0.0)?;
    }
    Ok(())
}

/// Logits, and logits with gradients at layer3, of images that are on the device.
fn explaining(table: &mut Table, engine: &Engine, small: bool, repeats: usize) -> Result<()> {
    for (name, model, batch, side) in studies(small)? {
        let network = Arc::clone(&model.network);
        let shape = Shape3 { channels: model.channels, height: side, width: side };
        let size = format!("{name}, {batch} images");
        if !table.wants(&["inference", "gradient at layer3"], &size, engine.precision()) {
            continue;
        }
        let weights = nets::weights(&network, false);
        let loaded = engine.load(&weights.parameters, &weights.buffers)?;
        let program = network.program(network.whole(), shape, batch)?;
        let images = noise("images", batch * shape.len());
        let (forward, _) = engine.time(&program, Pass::Evaluate, None, &loaded, &images, repeats, Clock::Host)?;
        table.row("inference", &size, engine.precision(), forward, 0.0)?;
        let stage = Stage::new("layer3");
        let activation = model.activation_shape(stage, shape)?;
        let program = network.program(model.halves(stage)?.layers..network.layers.len(), activation, batch)?;
        let wanted = Some(Wanted { parameters: false, input: true });
        let images = noise("activations", batch * activation.len());
        let (forward, backward) = engine.time(&program, Pass::Tape, wanted, &loaded, &images, repeats, Clock::Host)?;
        let both = forward.iter().zip(&backward).map(|(forward, backward)| forward + backward).collect();
        table.row("gradient at layer3", &size, engine.precision(), both, 0.0)?;
    }
    Ok(())
}

/// The Gram matrix of a study, copying the activations included.
fn products(table: &mut Table, engine: &Engine, small: bool, repeats: usize) -> Result<()> {
    let (rows, features) = if small { (40, 100) } else { (1000, 50_176) };
    let size = format!("{rows} rows of {features}");
    if !table.wants(&["Gram matrix"], &size, Precision::F32) {
        return Ok(());
    }
    let activations = noise("activations", rows * features);
    let mut seconds = Vec::new();
    for _ in 0..repeats.min(10) {
        let started = Instant::now();
        engine.row_products(&activations, None, features)?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    let flops = 2.0 * (rows * rows * features) as f64;
    table.row("Gram matrix", &size, Precision::F32, seconds, flops)
}
