//! Whole steps, inference, Grad-CAM and a lottery run, to be timed beside PyTorch by `ci/peers/kernels.py`.
//!
//! `cargo bench --bench peers -- step --width 16` prints one JSON line: seconds of each repetition
//! and the peak of memory.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use clap::{Parser, Subcommand};
use rand::Rng;
use ticketlens::data::{Family, Images, Subset, Task, idx};
use ticketlens::explain::{Cut, Targets, grad_cam};
use ticketlens::model::{Model, Stage, Stem, Wish, build, resnet};
use ticketlens::nn::optimizer::OptimizerKind;
use ticketlens::nn::schedule::ScheduleKind;
use ticketlens::nn::{Shape3, Weights};
use ticketlens::progress::{Event, Observer, Silent};
use ticketlens::prune::{Mask, Scope, prune};
use ticketlens::seed;
use ticketlens::train::{TrainConfig, Training, evaluate, logits};

#[path = "../tests/suite/plain_candle.rs"]
mod plain_candle;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Arguments {
    /// Nothing where absent, as when `cargo test --benches` runs every bench once.
    #[command(subcommand)]
    what: Option<What>,
    /// Given by cargo.
    #[arg(long, global = true)]
    bench: bool,
    #[command(flatten)]
    size: Size,
}

#[derive(clap::Args)]
struct Size {
    /// A family of docs/models.md; a ResNet of `depth` where absent. For steps.
    #[arg(long, global = true)]
    family: Option<String>,
    #[arg(long, default_value_t = 18, global = true)]
    depth: usize,
    #[arg(long, default_value_t = 16, global = true)]
    width: usize,
    /// 3x3 or 7x7
    #[arg(long, default_value = "3x3", global = true)]
    stem: String,
    #[arg(long, default_value_t = 1, global = true)]
    channels: usize,
    #[arg(long, default_value_t = 28, global = true)]
    side: usize,
    #[arg(long, default_value_t = 128, global = true)]
    batch: usize,
    #[arg(long, default_value_t = 1.0, global = true)]
    density: f64,
    /// Repetitions that count; one tenth, at least two, come before.
    #[arg(long, default_value_t = 10, global = true)]
    repeats: usize,
    #[arg(long, default_value_t = 2, global = true)]
    threads: usize,
}

#[derive(Subcommand)]
enum What {
    /// Training steps.
    Step,
    /// Training steps in Candle's own operations (SGD without momentum).
    CandleStep,
    /// Logits of 1,000 images.
    Inference,
    /// Grad-CAM at layer3 of 1,000 images.
    GradCam,
    /// Iterative magnitude pruning as in `shared/peers/imp_torch.py`; one line a round.
    Lottery {
        mnist: PathBuf,
        #[arg(long, default_value_t = 6000)]
        train: usize,
        #[arg(long, default_value_t = 2)]
        epochs: u64,
        #[arg(long, default_value_t = 35)]
        rounds: usize,
        /// Share of the kept weights that a round prunes.
        #[arg(long, default_value_t = 0.1)]
        rate: f64,
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

/// Images of noise, all in memory.
struct Noise {
    shape: (usize, usize, usize),
    pixels: Vec<f32>,
}

impl Noise {
    fn new(size: &Size, count: usize) -> Self {
        let mut stream = seed::stream(0, "bench images", 0);
        let length = count * size.channels * size.side * size.side;
        let pixels = (0..length).map(|_| stream.random_range(-1.0..1.0)).collect();
        Self { shape: (size.channels, size.side, size.side), pixels }
    }
}

impl Images for Noise {
    fn len(&self) -> usize {
        self.pixels.len() / (self.shape.0 * self.shape.1 * self.shape.2)
    }
    fn shape(&self) -> (usize, usize, usize) {
        self.shape
    }
    fn label(&self, index: usize) -> usize {
        index % 2
    }
    fn read(&self, indices: &[usize], _: Option<u64>, target: &mut [f32]) -> ticketlens::error::Result<()> {
        let length = self.pixels.len() / self.len();
        for (image, target) in indices.iter().zip(target.chunks_exact_mut(length)) {
            target.copy_from_slice(&self.pixels[image * length..][..length]);
        }
        Ok(())
    }
}

/// Notes when each step ended.
struct Clock(Mutex<Vec<Instant>>);

impl Observer for Clock {
    fn notice(&self, event: &Event) -> ControlFlow<()> {
        if matches!(event, Event::StepDone { .. }) {
            self.0.lock().expect("nobody panics while holding it").push(Instant::now());
        }
        ControlFlow::Continue(())
    }
}

fn config(batch: usize, epochs: u64) -> TrainConfig {
    TrainConfig {
        optimizer: OptimizerKind::Sgd { momentum: 0.9 },
        learning_rate: 0.05,
        weight_decay: 1e-4,
        schedule: ScheduleKind::Constant,
        warmup_steps: 0,
        epochs,
        batch_size: batch,
        sparse_below: None,
    }
}

fn random_mask(model: &Model, density: f64) -> Mask {
    let stream = RefCell::new(seed::stream(0, "bench mask", 0));
    let layout = model.network.layout.clone();
    let size = |name: &str| layout.parameters.iter().find(|spec| spec.name == name).map(|spec| spec.range.len());
    Mask::from_lookup(layout.clone(), "mask", |name| {
        let mut stream = stream.borrow_mut();
        size(name).map(|size| (0..size).map(|_| u8::from(density >= 1.0 || stream.random_bool(density))).collect())
    })
    .expect("every size fits")
}

fn report(seconds: &[f64]) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
    println!("{}", serde_json::json!({ "seconds": seconds, "peak_mb": peak.unwrap_or(0.0_f64) / 1024.0 }));
}

fn repeat(repeats: usize, mut body: impl FnMut()) -> Vec<f64> {
    (0..repeats + 1)
        .map(|_| {
            let start = Instant::now();
            body();
            start.elapsed().as_secs_f64()
        })
        .skip(1)
        .collect()
}

/// Trains for some steps between which nobody looks at the weights.
fn unseen(training: &Training<'_>, weights: &mut Weights, mask: &Mask, steps: u64, observer: &dyn Observer) {
    training.run_with(weights, mask, 0, steps, observer, None, &|_| false, |_, _| {}, None).expect("images train");
}

fn steps(model: &Model, size: &Size) -> Vec<f64> {
    let images = Noise::new(size, size.batch);
    let mask = random_mask(model, size.density);
    let mut weights = model.network.initialise(0);
    let warm = (size.repeats / 10).max(2);
    let config = config(size.batch, (size.repeats + warm) as u64);
    let training = Training { model, images: &images, config: &config, seed: 0 };
    let clock = Clock(Mutex::new(vec![]));
    unseen(&training, &mut weights, &mask, config.epochs, &clock);
    let times = clock.0.into_inner().expect("nobody panics while holding it");
    times.windows(2).skip(warm - 1).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect()
}

fn candle_steps(model: &Model, size: &Size) -> Vec<f64> {
    let images = Noise::new(size, size.batch);
    let weights = model.network.initialise(0);
    let variables = plain_candle::variables(&weights, DType::F32);
    let input = Tensor::from_slice(&images.pixels, (size.batch, size.channels, size.side, size.side), &Device::Cpu)
        .expect("it fits");
    let labels: Vec<u32> = (0..size.batch as u32).map(|image| image % 2).collect();
    let labels = Tensor::new(labels, &Device::Cpu).expect("it fits");
    repeat(size.repeats, || {
        let step = || -> candle_core::Result<()> {
            let logits = plain_candle::forward(&model.network, &variables, &input)?;
            let gradients = candle_nn::loss::cross_entropy(&logits, &labels)?.backward()?;
            for variable in variables.values() {
                if let Some(gradient) = gradients.get(variable) {
                    variable.set(&(variable.as_tensor() - (gradient * 0.05)?)?)?;
                }
            }
            Ok(())
        };
        step().expect("noise trains");
    })
}

fn cams(model: &Model, weights: &Arc<Weights>, images: &Noise, batch: usize) {
    let cut = Cut::new(model, weights.clone(), Stage::new("layer3")).unwrap();
    let indices: Vec<usize> = (0..images.len()).collect();
    for chunk in indices.chunks(batch) {
        let activation = cut.activation(&images.tensor(chunk).expect("it fits")).expect("it fits");
        let gradient = cut.gradient(&activation, Targets::Class(1)).expect("it fits").gradient;
        std::hint::black_box(grad_cam(&activation, &gradient).expect("it fits"));
    }
}

fn lottery(
    model: &Model,
    size: &Size,
    folder: &std::path::Path,
    (train, epochs): (usize, u64),
    (rounds, rate): (usize, f64),
    seed: u64,
) {
    let data =
        idx::read_folder(folder, Family::Mnist).expect("MNIST").with_task(&Task::EvenOdd).expect("a task of digits");
    // The standard split: 60,000 to train on, then 10,000 to test on.
    let (learned, tested): (Vec<usize>, Vec<usize>) = ((0..train).collect(), (60_000..70_000).collect());
    let (learned, tested) = (Subset::new(&data, &learned), Subset::new(&data, &tested));
    let config = config(size.batch, epochs);
    let training = Training { model, images: &learned, config: &config, seed };
    let initial = model.network.initialise(seed);
    let mut mask = Mask::dense(model.network.layout.clone());
    for round in 0..rounds {
        let mut weights = initial.clone();
        let start = Instant::now();
        unseen(&training, &mut weights, &mask, config.total_steps(train), &Silent);
        let seconds = start.elapsed().as_secs_f64();
        let right = evaluate(model, &weights, &tested, 512).expect("it fits");
        let accuracy = right.iter().filter(|&&right| right).count() as f64 / right.len() as f64;
        let density = mask.density(&[]);
        println!(
            "{}",
            serde_json::json!({ "round": round, "density": density, "accuracy": accuracy, "train_seconds": seconds })
        );
        mask = prune(&weights, &mask, Scope::Global, rate, &[]).expect("there is something to prune");
    }
    report(&[]);
}

fn main() {
    let arguments = Arguments::parse();
    let size = &arguments.size;
    rayon::ThreadPoolBuilder::new().num_threads(size.threads).build_global().expect("the first pool");
    let stem = if size.stem == "7x7" { Stem::Large } else { Stem::Small };
    let classes = if size.depth == 50 { 1000 } else { 2 };
    let model = match &size.family {
        Some(family) => {
            let images = Shape3 { channels: size.channels, height: size.side, width: size.side };
            build(family, &Wish { width: Some(size.width), stem: None, images, classes: 10 })
        }
        None => resnet(size.depth, size.width, stem, size.channels, classes),
    };
    let model = model.expect("a size");
    let Some(what) = &arguments.what else { return };
    match what {
        What::Step => report(&steps(&model, size)),
        What::CandleStep => report(&candle_steps(&model, size)),
        What::Inference => {
            let (images, weights) = (Noise::new(size, 1000), model.network.initialise(0));
            let indices: Vec<usize> = (0..images.len()).collect();
            report(&repeat(size.repeats, || {
                std::hint::black_box(logits(&model, &weights, &images, &indices, size.batch).expect("it fits"));
            }));
        }
        What::GradCam => {
            let (images, weights) = (Noise::new(size, 1000), Arc::new(model.network.initialise(0)));
            report(&repeat(size.repeats, || cams(&model, &weights, &images, size.batch)));
        }
        What::Lottery { mnist, train, epochs, rounds, rate, seed } => {
            lottery(&model, size, mnist, (*train, *epochs), (*rounds, *rate), *seed);
        }
    }
}
