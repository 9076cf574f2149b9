//! Training step by step against the textbook: the update, the running statistics and the order of
//! the images, each written out here once more.

use std::sync::Mutex;

use candle_core::{DType, Device, Tensor};
use rand::Rng;
use ticketlens::data::Images;
use ticketlens::error::Result;
use ticketlens::model::{Model, Stem, resnet};
use ticketlens::nn::optimizer::OptimizerKind;
use ticketlens::nn::schedule::ScheduleKind;
use ticketlens::nn::{BufferKind, Mode, Weights};
use ticketlens::progress::Silent;
use ticketlens::prune::{Mask, Scope, prune};
use ticketlens::seed;
use ticketlens::train::{TrainConfig, Training, epoch_order};

use crate::support::{network_gradients, relative_error};

/// Random pixels; keeps what training asks for.
struct Recorder {
    side: usize,
    pixels: Vec<f32>,
    asked: Mutex<Vec<(Option<u64>, Vec<usize>)>>,
}

impl Recorder {
    fn new(count: usize, side: usize) -> Self {
        let mut stream = seed::stream(2, "test/recorder", 0);
        let pixels = (0..count * side * side).map(|_| stream.random_range(-1.0..1.0)).collect();
        Self { side, pixels, asked: Mutex::default() }
    }

    fn batch(&self, indices: &[usize]) -> Tensor {
        let mut pixels = vec![0.0; indices.len() * self.side * self.side];
        self.read(indices, Some(u64::MAX), &mut pixels).unwrap();
        Tensor::from_vec(pixels, (indices.len(), 1, self.side, self.side), &Device::Cpu).unwrap()
    }
}

impl Images for Recorder {
    fn len(&self) -> usize {
        self.pixels.len() / (self.side * self.side)
    }

    fn shape(&self) -> (usize, usize, usize) {
        (1, self.side, self.side)
    }

    fn label(&self, index: usize) -> usize {
        index % 3
    }

    fn read(&self, indices: &[usize], epoch: Option<u64>, target: &mut [f32]) -> Result<()> {
        self.asked.lock().unwrap().push((epoch, indices.to_vec()));
        let size = self.side * self.side;
        for (target, &index) in target.chunks_exact_mut(size).zip(indices) {
            target.copy_from_slice(&self.pixels[index * size..][..size]);
        }
        Ok(())
    }
}

const BATCH: usize = 4;
const SEED: u64 = 9;

fn config() -> TrainConfig {
    TrainConfig {
        optimizer: OptimizerKind::Sgd { momentum: 0.9 },
        learning_rate: 0.05,
        weight_decay: 0.0,
        schedule: ScheduleKind::Cosine,
        warmup_steps: 2,
        epochs: 3,
        batch_size: BATCH,
        sparse_below: None,
    }
}

fn train(model: &Model, images: &Recorder, config: &TrainConfig, mask: &Mask, steps: u64) -> (Weights, Vec<Weights>) {
    let initial = model.network.initialise(1);
    let mut weights = initial.clone();
    let training = Training { model, images, config, seed: SEED };
    let mut after = Vec::new();
    training.run(&mut weights, mask, 0, steps, &Silent, |_, weights| after.push(weights.clone())).unwrap();
    (initial, after)
}

fn model() -> Model {
    resnet(18, 2, Stem::Small, 1, 3).unwrap()
}

/// The gradient of the mean cross-entropy with respect to all parameters.
fn gradient(model: &Model, weights: &Weights, images: &Recorder, indices: &[usize]) -> Vec<f32> {
    let labels: Vec<u32> = indices.iter().map(|&index| images.label(index) as u32).collect();
    let labels = Tensor::new(labels, &Device::Cpu).unwrap();
    let loss = |logits: &Tensor| candle_nn::loss::cross_entropy(logits, &labels).unwrap();
    network_gradients(&model.network, Mode::TRAIN, weights, &images.batch(indices), loss).0
}

/// v ← 0.9 v + (g + λ w), w ← w − η(t) v, masked: PyTorch's SGD, with every weight free to move,
/// whatever its sign or size.
#[test]
fn six_steps_are_those_of_sgd_with_momentum_decay_warm_up_and_cosine() {
    let (model, images) = (model(), Recorder::new(3 * BATCH, 8));
    let dense = Mask::dense(model.network.layout.clone());
    let ticket = prune(&model.network.initialise(1), &dense, Scope::Global, 0.5, &[]).unwrap();
    for (mask, weight_decay) in [(&dense, 0.0), (&dense, 0.01), (&ticket, 0.01)] {
        let config = TrainConfig { weight_decay, ..config() };
        let (initial, after) = train(&model, &images, &config, mask, 6);
        let mut before = initial;
        mask.apply(&mut before);
        let mut velocity = vec![0.0_f64; before.parameters.len()];
        for (step, found) in after.iter().enumerate() {
            let order = epoch_order(SEED, step as u64 / 3, images.len());
            let gradient = gradient(&model, &before, &images, &order[step % 3 * BATCH..][..BATCH]);
            let warm = if step < 2 { (step + 1) as f64 / 2.0 } else { 1.0 };
            let done = (step as f64 - 2.0).max(0.0) / 7.0;
            let rate = 0.05 * warm * 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
            let mut change = Vec::new();
            for (at, (&g, &w)) in gradient.iter().zip(&before.parameters).enumerate() {
                velocity[at] = 0.9 * velocity[at] + f64::from(g) + weight_decay * f64::from(w);
                if mask.bits()[at] == 0 {
                    velocity[at] = 0.0;
                }
                change.push((-rate * velocity[at]) as f32);
            }
            let moved: Vec<f32> = found.parameters.iter().zip(&before.parameters).map(|(a, b)| a - b).collect();
            let error = relative_error(&moved, &change);
            assert!(error < 2e-4, "step {step}, decay {weight_decay}: {error:e}");
            // Each weight by itself too: a share of weights that does not move would hide in a norm, not here.
            let still = (moved.iter().zip(&change)).filter(|(moved, change)| **moved == 0.0 && change.abs() > 1e-5);
            assert_eq!(still.count(), 0, "step {step}: weights that should have moved");
            before = found.clone();
        }
    }
}

/// PyTorch: running ← 0.9 running + 0.1 batch, the variance with n / (n − 1); n = 4 images of 2×2
/// here, so the factor shows.
#[test]
fn running_statistics_take_the_unbiased_variance() {
    let (model, images) = (model(), Recorder::new(2 * BATCH, 2));
    let dense = Mask::dense(model.network.layout.clone());
    let (initial, after) = train(&model, &images, &config(), &dense, 2);
    let order = epoch_order(SEED, 0, images.len());
    let spec = model.network.layout.parameters.iter().find(|spec| spec.name == "conv1.weight").unwrap();
    let (mut mean, mut variance) = ([0.0_f64; 2], [1.0_f64; 2]);
    for (step, found) in after.iter().enumerate() {
        let parameters = if step == 0 { &initial.parameters } else { &after[0].parameters };
        let kernel = Tensor::new(&parameters[spec.range.clone()], &Device::Cpu).unwrap();
        let kernel = kernel.reshape(spec.shape.as_slice()).unwrap().to_dtype(DType::F64).unwrap();
        let input = images.batch(&order[step * BATCH..][..BATCH]).to_dtype(DType::F64).unwrap();
        let z = input.conv2d(&kernel, 1, 1, 1, 1).unwrap().transpose(0, 1).unwrap().flatten_from(1).unwrap();
        for (channel, z) in z.to_vec2::<f64>().unwrap().iter().enumerate() {
            let n = z.len() as f64;
            assert_eq!(n, 16.0);
            let average = z.iter().sum::<f64>() / n;
            let biased = z.iter().map(|z| (z - average).powi(2)).sum::<f64>() / n;
            mean[channel] = 0.9 * mean[channel] + 0.1 * average;
            variance[channel] = 0.9 * variance[channel] + 0.1 * biased * n / (n - 1.0);
        }
        for (kind, name, expected) in [
            (BufferKind::RunningMean, "bn1.running_mean", mean),
            (BufferKind::RunningVariance, "bn1.running_var", variance),
        ] {
            let buffer = model.network.layout.buffers.iter().find(|spec| spec.name == name).unwrap();
            assert_eq!(buffer.kind, kind);
            for (found, expected) in found.buffers[buffer.range.clone()].iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-6, "{name} after step {step}: {found} {expected}");
            }
        }
    }
}

/// Every epoch sees each image once, in an order of its own that is a function of seed and epoch alone.
#[test]
fn every_epoch_has_an_order_of_its_own() {
    let (model, images) = (model(), Recorder::new(8 * BATCH, 2));
    let dense = Mask::dense(model.network.layout.clone());
    train(&model, &images, &config(), &dense, 24);
    let asked = images.asked.lock().unwrap().clone();
    let epochs: Vec<Vec<usize>> = (0..3)
        .map(|epoch| {
            asked.iter().filter(|(of, _)| *of == Some(epoch)).flat_map(|(_, indices)| indices.clone()).collect()
        })
        .collect();
    for (epoch, order) in epochs.iter().enumerate() {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..images.len()).collect::<Vec<_>>(), "epoch {epoch} sees each image once");
        assert_eq!(*order, epoch_order(SEED, epoch as u64, images.len()));
        assert_ne!(*order, sorted);
    }
    assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2] && epochs[0] != epochs[2], "no order comes again");
    assert_ne!(epoch_order(SEED, 0, images.len()), epoch_order(SEED + 1, 0, images.len()));
}

/// Learning rate and data order are functions of the step: without momentum, which a fresh
/// optimiser forgets, training on from step k is the same as never having stopped.
#[test]
fn training_on_from_step_k_continues_schedule_and_order() {
    let (model, images) = (model(), Recorder::new(3 * BATCH, 4));
    let dense = Mask::dense(model.network.layout.clone());
    let config = TrainConfig { optimizer: OptimizerKind::Sgd { momentum: 0.0 }, ..config() };
    let training = Training { model: &model, images: &images, config: &config, seed: SEED };
    let run = |weights: &mut Weights, from, to| training.run(weights, &dense, from, to, &Silent, |_, _| {}).unwrap();
    let (mut whole, mut parts) = (model.network.initialise(1), model.network.initialise(1));
    run(&mut whole, 0, 8);
    // Step 4 is in the middle of the second epoch.
    run(&mut parts, 0, 4);
    run(&mut parts, 4, 8);
    assert!(whole == parts);
}
