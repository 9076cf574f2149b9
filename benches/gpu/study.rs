//! Training, evaluating and explaining through the same calls as a study, on CPU and device.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use ticketlens::data::Images;
use ticketlens::error::Result;
use ticketlens::explain::tcav::cav::CavKind;
use ticketlens::explain::tcav::gram::{Rows, cross_on, gram_on};
use ticketlens::explain::tcav::{ClassScores, Sets, fit_pairs, score_class};
use ticketlens::explain::{Cut, Targets, grad_cam};
use ticketlens::kernels::device::Precision;
use ticketlens::model::{Model, Stage, Stem, resnet};
use ticketlens::nn::optimizer::OptimizerKind;
use ticketlens::nn::schedule::ScheduleKind;
use ticketlens::nn::{Compute, Weights};
use ticketlens::progress::Silent;
use ticketlens::prune::{Mask, Scope, prune};
use ticketlens::train::{TrainConfig, TrainSummary, Training, evaluate, logits};

use crate::checks::distance;
use crate::nets::noise;
use crate::{relative_error, report};

const SHAPE: (usize, usize, usize) = (3, 12, 12);
const CLASSES: usize = 4;

/// Images whose class is the brighter quarter, under noise.
struct Quarters(Vec<f32>);

impl Quarters {
    fn new(count: usize) -> Self {
        let (channels, height, width) = SHAPE;
        let mut pixels = noise("quarters", count * channels * height * width);
        for (index, pixel) in pixels.iter_mut().enumerate() {
            let (image, row, column) = (index / (channels * height * width), index / width % height, index % width);
            let quarter = usize::from(row >= height / 2) * 2 + usize::from(column >= width / 2);
            *pixel += if quarter == image % CLASSES { 0.7 } else { 0.0 };
        }
        Self(pixels)
    }
}

impl Images for Quarters {
    fn len(&self) -> usize {
        self.0.len() / (SHAPE.0 * SHAPE.1 * SHAPE.2)
    }
    fn shape(&self) -> (usize, usize, usize) {
        SHAPE
    }
    fn label(&self, index: usize) -> usize {
        index % CLASSES
    }
    fn read(&self, indices: &[usize], _: Option<u64>, target: &mut [f32]) -> Result<()> {
        let length = self.0.len() / self.len();
        for (image, target) in indices.iter().zip(target.chunks_exact_mut(length)) {
            target.copy_from_slice(&self.0[image * length..][..length]);
        }
        Ok(())
    }
}

fn model() -> Result<Model> {
    resnet(18, 4, Stem::Small, SHAPE.0, CLASSES)
}

fn config(optimizer: OptimizerKind, epochs: u64) -> TrainConfig {
    TrainConfig {
        optimizer,
        learning_rate: if matches!(optimizer, OptimizerKind::Sgd { .. }) { 0.05 } else { 2e-3 },
        weight_decay: 1e-3,
        schedule: ScheduleKind::Cosine,
        warmup_steps: 2,
        epochs,
        batch_size: 16,
        sparse_below: None,
    }
}

const SGD: OptimizerKind = OptimizerKind::Sgd { momentum: 0.9 };
const ADAM: OptimizerKind = OptimizerKind::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
const ADAM_W: OptimizerKind = OptimizerKind::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

fn train(model: &Model, optimizer: OptimizerKind, mask: &Mask, steps: u64) -> Result<(Weights, TrainSummary)> {
    let images = Quarters::new(160);
    let config = config(optimizer, steps.div_ceil(10));
    let mut weights = model.network.initialise(3);
    let training = Training { model, images: &images, config: &config, seed: 5 };
    let summary = training.run_with(&mut weights, mask, 0, steps, &Silent, None, &|_| false, |_, _| {}, None)?;
    Ok((weights, summary))
}

fn half(model: &Model) -> Result<Mask> {
    prune(&model.network.initialise(3), &Mask::dense(model.network.layout.clone()), Scope::Global, 0.5, &[])
}

pub(crate) fn all(ordinal: usize, steps: u64) -> Result<bool> {
    let on_cpu = model()?;
    let open = |precision| -> Result<Model> { Ok(on_cpu.on(&Compute::open(&format!("cuda:{ordinal}"), precision)?)) };
    let on_device = open(Precision::F32)?;
    let mut passed = true;
    println!("-- optimisers, masks and hooks");
    passed &= few_steps(&on_cpu, &on_device)?;
    passed &= hooks(&on_cpu, &on_device)?;
    println!("-- {steps} training steps");
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16] {
        passed &= many_steps(&on_cpu, &open(precision)?, precision, steps)?;
    }
    println!("-- explaining");
    for precision in [Precision::F32, Precision::Tf32] {
        passed &= explaining(&on_cpu, &open(precision)?, precision)?;
    }
    Ok(passed)
}

/// Three steps of every optimiser, dense and masked: few enough that rounding has not grown.
fn few_steps(on_cpu: &Model, on_device: &Model) -> Result<bool> {
    let mut passed = true;
    let dense = Mask::dense(on_cpu.network.layout.clone());
    for (name, optimizer) in [("SGD", SGD), ("Adam", ADAM), ("AdamW", ADAM_W)] {
        for (how, mask) in [("dense", &dense), ("masked", &half(on_cpu)?)] {
            let (expected, _) = train(on_cpu, optimizer, mask, 3)?;
            let (found, _) = train(on_device, optimizer, mask, 3)?;
            // Adam divides by the gradient's size: where that is nearly nothing, rounding decides the step's sign.
            let limit = if optimizer == SGD { 1e-3 } else { 2e-2 };
            let error = relative_error(&found.parameters, &expected.parameters);
            passed &= report(&format!("{name}, {how}, 3 steps: parameters"), error, limit);
            let error = relative_error(&found.buffers, &expected.buffers);
            passed &= report(&format!("{name}, {how}, 3 steps: running statistics"), error, 1e-3);
            passed &=
                report(&format!("{name}, {how}: pruned weights are 0"), f64::from(u8::from(!mask.holds(&found))), 0.0);
        }
    }
    Ok(passed)
}

/// The gradient's hook changes what is learned, and `after_step` sees the weights of its step.
fn hooks(on_cpu: &Model, on_device: &Model) -> Result<bool> {
    let run = |model: &Model| -> Result<(Weights, Vec<Weights>)> {
        let (images, config) = (Quarters::new(64), config(SGD, 1));
        let mut weights = model.network.initialise(3);
        let training = Training { model, images: &images, config: &config, seed: 5 };
        let mut edit =
            |_: &Weights, gradient: &mut [f32]| gradient.iter_mut().step_by(2).for_each(|value| *value = 0.0);
        let mask = Mask::dense(model.network.layout.clone());
        let mut seen = Vec::new();
        training.run_with(
            &mut weights,
            &mask,
            0,
            4,
            &Silent,
            Some(&mut edit),
            &|step| step == 2,
            |_, weights| {
                seen.push(weights.clone());
            },
            None,
        )?;
        Ok((weights, seen))
    };
    let ((expected, expected_seen), (found, found_seen)) = (run(on_cpu)?, run(on_device)?);
    let error = relative_error(&found.parameters, &expected.parameters);
    let mut passed = report("gradients edited in each of 4 steps", error, 2e-3);
    let error = match (&found_seen[..], &expected_seen[..]) {
        ([found], [expected]) => relative_error(&found.parameters, &expected.parameters),
        _ => f64::INFINITY,
    };
    passed &= report("weights seen after step 2", error, 1e-3);
    Ok(passed)
}

fn many_steps(on_cpu: &Model, on_device: &Model, precision: Precision, steps: u64) -> Result<bool> {
    let mask = half(on_cpu)?;
    let name = precision.name();
    let (expected_weights, expected) = train(on_cpu, SGD, &mask, steps)?;
    let (weights, found) = train(on_device, SGD, &mask, steps)?;
    let (again, _) = train(on_device, SGD, &mask, steps)?;
    let mut passed = report(&format!("{name}: bit-equal when repeated"), f64::from(u8::from(weights != again)), 0.0);
    passed &= report(&format!("{name}: pruned weights are 0"), f64::from(u8::from(!mask.holds(&weights))), 0.0);
    let difference = (found.epoch_loss[0] - expected.epoch_loss[0]).abs() / expected.epoch_loss[0];
    let limit = if precision == Precision::F32 { 1e-2 } else { 5e-2 };
    passed &= report(&format!("{name}: mean loss of the first epoch beside the CPU's"), difference, limit);
    let test = Quarters::new(400);
    let share = |model: &Model, weights: &Weights| -> Result<f64> {
        let right = evaluate(model, weights, &test, 64)?;
        Ok(right.iter().filter(|&&right| right).count() as f64 / right.len() as f64)
    };
    let (cpu, device) = (share(on_cpu, &expected_weights)?, share(on_device, &weights)?);
    println!("     accuracy {:.1} % on the device, {:.1} % on the CPU", 100.0 * device, 100.0 * cpu);
    if steps >= 100 {
        passed &= report(&format!("{name}: accuracy below the CPU's"), cpu - device, 0.03);
    }
    // The same weights evaluated in both places.
    let flat = |model: &Model| -> Result<Vec<f32>> {
        let indices: Vec<usize> = (0..100).collect();
        Ok(logits(model, &weights, &test, &indices, 32)?.concat())
    };
    let error = relative_error(&flat(on_device)?, &flat(on_cpu)?);
    let limit = if precision == Precision::F32 { 1e-4 } else { 3e-2 };
    passed &= report(&format!("{name}: logits of the trained network"), error, limit);
    Ok(passed)
}

/// Logits, Grad-CAM, Gram matrix and TCAV of one trained network.
fn explaining(on_cpu: &Model, on_device: &Model, precision: Precision) -> Result<bool> {
    let name = precision.name();
    let (weights, _) = train(on_cpu, SGD, &half(on_cpu)?, 20)?;
    let weights = Arc::new(weights);
    let images = Quarters::new(60);
    let pixels = images.tensor(&(0..60).collect::<Vec<_>>())?;
    // Rounded factors push single units across a ReLU, and their gradients with them: root of mean squares there.
    let limit = if precision == Precision::F32 { 1e-4 } else { 5e-2 };
    let mut passed = true;
    for stage in [Stage::new("layer2"), Stage::new("layer4")] {
        let explain = |model: &Model| -> Result<[Tensor; 4]> {
            let cut = Cut::new(model, weights.clone(), stage)?;
            let activation = cut.activation(&pixels)?;
            let explained = cut.gradient(&activation, Targets::Class(1))?;
            let maps = grad_cam(&activation, &explained.gradient)?.raw;
            Ok([explained.logits, activation, explained.gradient, maps])
        };
        let (expected, found) = (explain(on_cpu)?, explain(on_device)?);
        for ((what, expected), found) in
            ["logits", "activation", "gradient", "Grad-CAM"].iter().zip(&expected).zip(&found)
        {
            let values = |tensor: &Tensor| Ok::<_, ticketlens::error::Error>(tensor.flatten_all()?.to_vec1::<f32>()?);
            let error = distance(precision, &values(found)?, &values(expected)?);
            let limit =
                if precision != Precision::F32 && matches!(*what, "gradient" | "Grad-CAM") { 1e-1 } else { limit };
            passed &= report(&format!("{name}: {what} at {stage}"), error, limit);
        }
        let scores = |model: &Model, activation: &Tensor, gradient: &Tensor| -> Result<ClassScores> {
            concept_scores(&model.compute, activation, gradient)
        };
        // The very same activations on both: what differs is the products.
        let here = scores(on_cpu, &expected[1], &expected[2])?;
        let there = scores(on_device, &expected[1], &expected[2])?;
        let (mut error, mut moved) = (0.0f64, 0.0f64);
        for (here, there) in here.concepts.iter().zip(&there.concepts) {
            error = error.max((here.effect.effect - there.effect.effect).abs() / here.effect.effect.abs().max(1e-9));
            for (here, there) in here.runs.iter().zip(&there.runs) {
                moved = moved.max((here.score - there.score).abs());
            }
        }
        passed &= report(&format!("{name}: concept effects of the same activations at {stage}"), error, 1e-9);
        passed &= report(&format!("{name}: TCAV scores of the same activations at {stage}"), moved, 0.0);
        // And all of it on the device.
        let whole = scores(on_device, &found[1], &found[2])?;
        let error = here.concepts.iter().zip(&whole.concepts).fold(0.0f64, |top, (here, there)| {
            top.max((here.effect.effect - there.effect.effect).abs() / here.effect.effect.abs().max(1e-3))
        });
        passed &= report(&format!("{name}: concept effects, all of it on the device, at {stage}"), error, 10.0 * limit);
    }
    Ok(passed)
}

fn concept_scores(compute: &Compute, activation: &Tensor, gradient: &Tensor) -> Result<ClassScores> {
    let flat = |tensor: &Tensor| Ok::<_, ticketlens::error::Error>(tensor.flatten_all()?.to_vec1::<f32>()?);
    let (activation, gradient) = (activation.to_device(&Device::Cpu)?, gradient.to_device(&Device::Cpu)?);
    let features = activation.elem_count() / activation.dim(0)?;
    let (activations, gradients) = (flat(&activation)?, flat(&gradient)?);
    let failed = |error: &dyn std::fmt::Display| ticketlens::error::Error::input(error.to_string());
    let rows = |values| Rows::new(values, features).map_err(|error| failed(&error));
    let (activations, gradients) = (rows(&activations)?, rows(&gradients)?);
    let gram = gram_on(compute, activations).map_err(|error| failed(&error))?;
    let cross = cross_on(compute, gradients, activations).map_err(|error| failed(&error))?;
    let class = |class: usize| (0..60).filter(|image| image % CLASSES == class).collect::<Vec<_>>();
    let sets = Sets { concepts: vec![class(1)], random: vec![class(0), class(2), class(3)] };
    let pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
    let cavs = fit_pairs(&gram, sets, &pairs, CavKind::Logistic { c: 1.0 }, 0).map_err(|error| failed(&error))?;
    score_class(&cavs, &cross).map_err(|error| failed(&error))
}
