//! Every kernel at the sizes of ResNet-18 on 28 px digits: width 16 with the 3×3 stem, width 64 with the 7×7 stem.
//!
//! Throughput counts the floating-point operations of the dense pass, whatever the density, so that a sparse line over
//! its dense one is the speed-up.

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, measurement::WallTime};
use rand::Rng;
use std::hint::black_box;
use ticketlens::kernels::conv2d::{self, Conv2dShape, Pattern, Weight};
use ticketlens::kernels::{layout, norm, optim, pool};
use ticketlens::seed;

const BATCH: usize = 128;
const DENSITIES: [f64; 4] = [1.0, 0.3, 0.1, 0.03];

fn values(length: usize, index: u64) -> Vec<f32> {
    let mut stream = seed::stream(0, "bench values", index);
    (0..length).map(|_| stream.random_range(-1.0..1.0)).collect()
}

fn mask(length: usize, density: f64) -> Vec<u8> {
    let mut stream = seed::stream(0, "bench mask", 0);
    (0..length).map(|_| u8::from(stream.random_bool(density))).collect()
}

/// (network, input channels, output channels, side, kernel, stride)
const CONVOLUTIONS: [(&str, usize, usize, usize, usize, usize); 18] = [
    ("w16", 1, 16, 28, 3, 1),
    ("w16", 16, 16, 28, 3, 1),
    ("w16", 16, 32, 28, 3, 2),
    ("w16", 16, 32, 28, 1, 2),
    ("w16", 32, 32, 14, 3, 1),
    ("w16", 32, 64, 14, 3, 2),
    ("w16", 64, 64, 7, 3, 1),
    ("w16", 64, 128, 7, 3, 2),
    ("w16", 128, 128, 4, 3, 1),
    ("w16", 128, 2, 1, 1, 1),
    ("w64", 1, 64, 28, 7, 2),
    ("w64", 64, 64, 7, 3, 1),
    ("w64", 64, 128, 7, 3, 2),
    ("w64", 128, 128, 4, 3, 1),
    ("w64", 128, 256, 4, 3, 2),
    ("w64", 256, 256, 2, 3, 1),
    ("w64", 256, 512, 2, 3, 2),
    ("w64", 512, 512, 1, 3, 1),
];

fn convolutions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conv2d");
    for (network, in_channels, out_channels, side, kernel, stride) in CONVOLUTIONS {
        let (in_height, in_width, padding) = (side, side, kernel / 2);
        let shape =
            Conv2dShape { batch: BATCH, in_channels, out_channels, in_height, in_width, kernel, stride, padding };
        group.throughput(Throughput::Elements(2 * shape.multiply_adds()));
        let (input, weight) = (values(shape.input_len(), 1), values(shape.weight_len(), 2));
        let gradient = values(shape.output_len(), 3);
        let (mut output, mut grad_input) = (vec![0.0; shape.output_len()], vec![0.0; shape.input_len()]);
        for density in DENSITIES {
            let mask = mask(shape.weight_len(), density);
            let pattern = (density < 1.0).then(|| Pattern::new(&mask, out_channels, in_channels, kernel));
            let pattern = pattern.as_ref();
            let kept = pattern.map(|pattern| pattern.gather(&weight));
            let weight = Weight::of(kept.as_deref().unwrap_or(&weight), pattern);
            let mut grad_weight = vec![0.0; weight.values().len()];
            let id = |pass: &str| {
                let size = format!("{network} n{BATCH} {in_channels}-{out_channels} {side}px k{kernel} s{stride}");
                BenchmarkId::new(format!("{pass} {size}"), format!("density {density}"))
            };
            group.bench_function(id("forward"), |bencher| {
                bencher.iter(|| conv2d::forward(&shape, weight, &input, black_box(&mut output)));
            });
            group.bench_function(id("grad_input"), |bencher| {
                bencher.iter(|| conv2d::grad_input(&shape, weight, &gradient, black_box(&mut grad_input), false));
            });
            group.bench_function(id("grad_weight"), |bencher| {
                bencher.iter(|| conv2d::grad_weight(&shape, pattern, &input, &gradient, black_box(&mut grad_weight)));
            });
        }
    }
}

fn norms(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch_norm");
    for (channels, side) in [(16, 28), (32, 14), (64, 7), (128, 4), (512, 1)] {
        let length = channels * side * side * BATCH;
        let shape = norm::NormShape { channels, batch: BATCH };
        group.throughput(Throughput::Elements(length as u64));
        let id = |pass: &str| BenchmarkId::new(pass, format!("n{BATCH} {channels}c {side}px"));
        let (input, residual) = (values(length, 1), values(length, 2));
        let (mut z, mut out, mut grad) = (input.clone(), vec![0.0; length], values(length, 3));
        let (ones, mut mean, mut var) = (vec![1.0; channels], vec![0.0; channels], vec![0.0; channels]);
        let (mut grad_gamma, mut grad_beta) = (vec![0.0; channels], vec![0.0; channels]);
        for (name, residual) in [("train relu", None), ("train relu residual", Some(&residual[..]))] {
            group.bench_function(id(name), |bencher| {
                bencher.iter(|| {
                    norm::batch_norm_train(
                        &input,
                        shape,
                        &ones,
                        &ones,
                        1e-5,
                        residual,
                        true,
                        black_box(&mut out),
                        &mut mean,
                        &mut var,
                    );
                });
            });
        }
        group.bench_function(id("eval relu"), |bencher| {
            bencher.iter(|| {
                norm::batch_norm_eval(&input, shape, &ones, &ones, &mean, &ones, 1e-5, None, true, black_box(&mut out))
            });
        });
        group.bench_function(id("train backward relu"), |bencher| {
            bencher.iter(|| {
                let (gamma, beta) = (&mut grad_gamma, &mut grad_beta);
                norm::batch_norm_train_backward(
                    &mut z,
                    shape,
                    &ones,
                    &mean,
                    &ones,
                    1e-5,
                    norm::Relu::Own(&ones),
                    black_box(&mut grad),
                    gamma,
                    beta,
                );
            });
        });
    }
}

fn pools(criterion: &mut Criterion) {
    let mut group: BenchmarkGroup<WallTime> = criterion.benchmark_group("pool");
    let shape =
        pool::PoolShape { batch: BATCH, channels: 64, in_height: 14, in_width: 14, kernel: 3, stride: 2, padding: 1 };
    let (input, length) = (values(64 * 14 * 14 * BATCH, 1), 64 * shape.out_height() * shape.out_width() * BATCH);
    let (mut output, mut argmax, mut grad_input) = (vec![0.0; length], vec![0; length], vec![0.0; input.len()]);
    group.throughput(Throughput::Elements(input.len() as u64));
    group.bench_function(BenchmarkId::new("max forward", "n128 64c 14px k3 s2"), |bencher| {
        bencher.iter(|| pool::max_pool(&shape, &input, black_box(&mut output), &mut argmax));
    });
    group.bench_function(BenchmarkId::new("max backward", "n128 64c 14px k3 s2"), |bencher| {
        bencher.iter(|| pool::max_pool_backward(&shape, &argmax, &output, black_box(&mut grad_input)));
    });
    let (input, mut output) = (values(128 * 16 * BATCH, 1), vec![0.0; 128 * BATCH]);
    let mut gradient = vec![0.0; input.len()];
    group.throughput(Throughput::Elements(input.len() as u64));
    group.bench_function(BenchmarkId::new("global average forward", "n128 128c 4px"), |bencher| {
        bencher.iter(|| pool::global_average_pool(128, 16, BATCH, &input, black_box(&mut output)));
    });
    group.bench_function(BenchmarkId::new("global average backward", "n128 128c 4px"), |bencher| {
        bencher.iter(|| pool::global_average_pool_backward(128, 16, BATCH, &output, black_box(&mut gradient)));
    });
    let (input, mut output) = (values(BATCH * 784, 1), vec![0.0; BATCH * 784]);
    group.throughput(Throughput::Elements(input.len() as u64));
    group.bench_function(BenchmarkId::new("to kernels' order", "n128 16c 7px"), |bencher| {
        bencher.iter(|| layout::to_kernels(BATCH, 16, 49, &input, black_box(&mut output)));
    });
}

fn optimisers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("optim");
    // Parameters of ResNet-18 with width 16 and 64.
    for length in [698_000, 11_170_000] {
        group.throughput(Throughput::Elements(length as u64));
        let (mut weight, grad) = (values(length, 1), values(length, 2));
        let (mut first, mut second) = (vec![0.0; length], vec![0.0; length]);
        let mask = mask(length, 0.1);
        for (name, mask) in [("density 1", None), ("density 0.1", Some(&mask[..]))] {
            group.bench_function(BenchmarkId::new(format!("sgd {length}"), name), |bencher| {
                bencher
                    .iter(|| optim::sgd_step(black_box(&mut weight), &grad, mask, &mut first, 1e-3, 0.9, 1e-4, false));
            });
            group.bench_function(BenchmarkId::new(format!("adam {length}"), name), |bencher| {
                bencher.iter(|| {
                    let weight = black_box(&mut weight);
                    optim::adam_step(
                        weight,
                        &grad,
                        mask,
                        &mut first,
                        &mut second,
                        1e-3,
                        0.9,
                        0.999,
                        1e-8,
                        0.0,
                        false,
                        3,
                    );
                });
            });
        }
    }
}

fn quick() -> Criterion {
    let seconds = std::time::Duration::from_millis;
    Criterion::default().sample_size(20).warm_up_time(seconds(100)).measurement_time(seconds(400))
}

criterion_group!(name = kernels; config = quick(); targets = convolutions, norms, pools, optimisers);
