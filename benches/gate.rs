//! What `ci/bench-gate` measures: small, deterministic pieces of the work, on one thread.
//!
//! `gate names`, `gate run NAME REPETITIONS` (under callgrind) and `gate time NAME MILLISECONDS`,
//! which prints the median seconds of a repetition. Without arguments each piece runs once.
//! `TICKETLENS_GATE_SLOW=NAME` does half of the work of NAME again, so that the gate can be seen to
//! trip.

use std::hint::black_box;
use std::time::{Duration, Instant};

use rand::Rng;
use ticketlens::explain::tcav::cav::CavKind;
use ticketlens::explain::tcav::gram::{Rows, cross, gram};
use ticketlens::explain::tcav::{Sets, fit_pairs, score_class};
use ticketlens::kernels::conv2d::{self, Conv2dShape, Pattern, Weight};
use ticketlens::kernels::{norm, optim, pool};
use ticketlens::seed;
use ticketlens::stats::permutation::label_permutation;

// Maps begin where the program's do: sparse products take longer on vectors of the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One piece: its name, and how to make the closure that does it once.
type Piece = (&'static str, fn() -> Box<dyn FnMut()>);

const PIECES: [Piece; 10] = [
    ("conv-forward-dense", || convolution(1.0, Pass::Forward)),
    ("conv-forward-sparse", || convolution(0.1, Pass::Forward)),
    ("conv-input-dense", || convolution(1.0, Pass::Input)),
    ("conv-weight-dense", || convolution(1.0, Pass::Weight)),
    ("conv-weight-sparse", || convolution(0.1, Pass::Weight)),
    ("batch-norm-train", batch_norm),
    ("max-pool", max_pool),
    ("sgd-step", sgd_step),
    ("tcav-solver", tcav),
    ("label-permutation", permutation),
];

fn values(length: usize, index: u64) -> Vec<f32> {
    let mut stream = seed::stream(0, "gate values", index);
    (0..length).map(|_| stream.random_range(-1.0..1.0)).collect()
}

enum Pass {
    Forward,
    Input,
    Weight,
}

fn convolution(density: f64, pass: Pass) -> Box<dyn FnMut()> {
    let shape = Conv2dShape {
        batch: 64,
        in_channels: 32,
        out_channels: 32,
        in_height: 14,
        in_width: 14,
        kernel: 3,
        stride: 1,
        padding: 1,
    };
    let (input, weight) = (values(shape.input_len(), 1), values(shape.weight_len(), 2));
    let gradient = values(shape.output_len(), 3);
    let (mut output, mut grad_input) = (vec![0.0; shape.output_len()], vec![0.0; shape.input_len()]);
    let mut stream = seed::stream(0, "gate mask", 0);
    let mask: Vec<u8> = (0..shape.weight_len()).map(|_| u8::from(stream.random_bool(density))).collect();
    let pattern = (density < 1.0).then(|| Pattern::new(&mask, 32, 32, 3));
    let weight = pattern.as_ref().map_or_else(|| weight.clone(), |pattern| pattern.gather(&weight));
    let mut grad_weight = vec![0.0; weight.len()];
    Box::new(move || {
        let weight = Weight::of(&weight, pattern.as_ref());
        match pass {
            Pass::Forward => conv2d::forward(&shape, weight, &input, black_box(&mut output)),
            Pass::Input => {
                conv2d::grad_input(&shape, weight, &gradient, black_box(&mut grad_input), false);
            }
            Pass::Weight => {
                conv2d::grad_weight(&shape, pattern.as_ref(), &input, &gradient, black_box(&mut grad_weight));
            }
        }
    })
}

fn batch_norm() -> Box<dyn FnMut()> {
    let (channels, length) = (32, 32 * 14 * 14 * 64);
    let (input, ones) = (values(length, 4), vec![1.0; channels]);
    let (mut output, mut mean, mut variance) = (vec![0.0; length], vec![0.0; channels], vec![0.0; channels]);
    Box::new(move || {
        let output = black_box(&mut output);
        norm::batch_norm_train(
            &input,
            norm::NormShape { channels, batch: 64 },
            &ones,
            &ones,
            1e-5,
            None,
            true,
            output,
            &mut mean,
            &mut variance,
        );
    })
}

fn max_pool() -> Box<dyn FnMut()> {
    let shape =
        pool::PoolShape { batch: 32, channels: 32, in_height: 14, in_width: 14, kernel: 3, stride: 2, padding: 1 };
    let length = 32 * shape.out_height() * shape.out_width() * 32;
    let (input, mut output, mut argmax) = (values(32 * 14 * 14 * 32, 5), vec![0.0; length], vec![0; length]);
    Box::new(move || pool::max_pool(&shape, &input, black_box(&mut output), &mut argmax))
}

fn sgd_step() -> Box<dyn FnMut()> {
    let length = 200_000;
    let (mut weight, gradient, mut velocity) = (values(length, 6), values(length, 7), vec![0.0; length]);
    let mask: Vec<u8> = (0..length).map(|at| u8::from(at % 3 == 0)).collect();
    Box::new(move || {
        optim::sgd_step(black_box(&mut weight), &gradient, Some(&mask), &mut velocity, 1e-3, 0.9, 1e-4, false);
    })
}

/// Gram matrix, CAVs of two concepts against six random sets, and one class's scores.
fn tcav() -> Box<dyn FnMut()> {
    const FEATURES: usize = 512;
    const SIZE: usize = 20;
    let (activations, gradients) = (values(8 * SIZE * FEATURES, 8), values(16 * FEATURES, 9));
    let set = |i: usize| (i * SIZE..(i + 1) * SIZE).collect::<Vec<usize>>();
    let sets = Sets { concepts: vec![set(0), set(1)], random: (2..8).map(set).collect() };
    let pairs: Vec<(usize, usize)> = (0..7).flat_map(|a| (a + 1..7).map(move |b| (a, b))).collect();
    Box::new(move || {
        let rows = Rows::new(&activations, FEATURES).expect("whole rows");
        let gram = gram(rows).expect("finite");
        let cavs = fit_pairs(&gram, sets.clone(), &pairs, CavKind::Logistic { c: 1.0 }, 0).expect("sets that fit");
        let products = cross(Rows::new(&gradients, FEATURES).expect("whole rows"), rows).expect("finite");
        black_box(score_class(&cavs, &products).expect("scores"));
    })
}

fn permutation() -> Box<dyn FnMut()> {
    let floats = |index| values(60, index).into_iter().map(f64::from).collect::<Vec<_>>();
    let (concept, random) = (floats(10), floats(11));
    Box::new(move || {
        black_box(label_permutation(&concept, &random, 999, 0, "gate").expect("enough values"));
    })
}

/// The piece, doing every second repetition twice if it is to be slow.
fn make(name: &str) -> Box<dyn FnMut()> {
    let Some((_, piece)) = PIECES.iter().find(|(known, _)| *known == name) else {
        eprintln!("no piece is called {name}");
        std::process::exit(2);
    };
    let mut work = piece();
    let slow = std::env::var("TICKETLENS_GATE_SLOW").is_ok_and(|slow| slow == name);
    let mut odd = false;
    Box::new(move || {
        work();
        if slow && odd {
            work();
        }
        odd = !odd;
    })
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().expect("a whole number");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().expect("a pool");
    pool.install(|| match arguments[..] {
        ["names"] => PIECES.iter().for_each(|(name, _)| println!("{name}")),
        ["run", name, repetitions] => {
            let mut work = make(name);
            (0..number(repetitions)).for_each(|_| work());
        }
        ["time", name, milliseconds] => {
            let (mut work, budget) = (make(name), Duration::from_millis(number(milliseconds)));
            work();
            let (started, mut seconds) = (Instant::now(), Vec::new());
            while started.elapsed() < budget || seconds.len() < 4 {
                // Pairs, so that a slow piece is slow in each of them.
                let clock = Instant::now();
                work();
                work();
                seconds.push(clock.elapsed().as_secs_f64() / 2.0);
            }
            seconds.sort_by(f64::total_cmp);
            println!("{:e}", seconds[seconds.len() / 2]);
        }
        // What `cargo test --benches` asks for.
        _ => {
            for (name, _) in PIECES {
                make(name)();
            }
            println!("{} passed, 0 failed", PIECES.len());
        }
    });
}
