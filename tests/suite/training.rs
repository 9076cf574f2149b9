//! Training, its gradients, and the invariants of lottery tickets.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use rand::Rng;
use ticketlens::data::{Images, Subset, Task, builtin_mnist};
use ticketlens::model::{Block, Forward, ResNet, Stem, resnet};
use ticketlens::nn::optimizer::{OptimizerKind, OptimizerState};
use ticketlens::nn::schedule::ScheduleKind;
use ticketlens::nn::{Buffer, Compute, Fixed, Gradients, Mode, Shape3, Weights, Workspace};
use ticketlens::progress::Silent;
use ticketlens::prune::{Mask, Scope, prune};
use ticketlens::seed;
use ticketlens::train::{Kept, TrainConfig, Training, evaluate, logits, renew_statistics};

use crate::plain_candle;
use crate::support::{network_gradients, relative_error, values};

fn config(optimizer: OptimizerKind) -> TrainConfig {
    TrainConfig {
        optimizer,
        learning_rate: 0.02,
        weight_decay: 1e-3,
        schedule: ScheduleKind::Constant,
        warmup_steps: 0,
        epochs: 2,
        batch_size: 16,
        sparse_below: None,
    }
}

#[test]
fn the_choice_of_kernel_changes_no_meaning() {
    let data = builtin_mnist().unwrap().with_task(&Task::EvenOdd).unwrap();
    let indices: Vec<usize> = (0..96).collect();
    let images = Subset::new(&data, &indices);
    let model = resnet(18, 4, Stem::Small, 1, 2).unwrap();
    let initial = model.network.initialise(1);
    let mask = prune(&initial, &Mask::dense(model.network.layout.clone()), Scope::Global, 0.6, &[]).unwrap();
    let trained = |sparse_below: Option<f64>| {
        let config = TrainConfig { sparse_below, ..config(OptimizerKind::Sgd { momentum: 0.9 }) };
        let mut weights = initial.clone();
        let training = Training { model: &model, images: &images, config: &config, seed: 3 };
        training.run(&mut weights, &mask, 0, 3, &Silent, |_, _| {}).unwrap();
        weights.parameters
    };
    let (dense, sparse) = (trained(Some(0.0)), trained(Some(1.1)));
    assert_ne!(dense, sparse, "the same kernels ran");
    assert!(relative_error(&dense, &sparse) < 1e-3, "{}", relative_error(&dense, &sparse));
}

#[test]
fn masked_weights_stay_zero_and_live_weights_of_both_signs_move() {
    let data = builtin_mnist().unwrap().with_task(&Task::EvenOdd).unwrap();
    let indices: Vec<usize> = (0..160).collect();
    let images = Subset::new(&data, &indices);
    let model = resnet(18, 4, Stem::Small, 1, 2).unwrap();
    let kinds = [
        OptimizerKind::Sgd { momentum: 0.9 },
        OptimizerKind::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
        OptimizerKind::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
    ];
    for kind in kinds {
        let initial = model.network.initialise(1);
        let dense = Mask::dense(model.network.layout.clone());
        let mask = prune(&initial, &dense, Scope::Global, 0.8, &[]).unwrap();
        let config = config(kind);
        let training = Training { model: &model, images: &images, config: &config, seed: 3 };
        let mut weights = initial.clone();
        let mut steps = 0;
        training
            .run(&mut weights, &mask, 0, 10, &Silent, |step, weights| {
                assert!(mask.holds(weights), "after step {step}");
                steps += 1;
            })
            .unwrap();
        assert_eq!(steps, 10);
        let mut checked = [0, 0];
        for spec in model.network.layout.parameters.iter().filter(|spec| spec.kind.prunable()) {
            for negative in [false, true] {
                let live: Vec<usize> = spec
                    .range
                    .clone()
                    .filter(|&at| mask.bits()[at] == 1 && (initial.parameters[at] < 0.0) == negative)
                    .collect();
                checked[usize::from(negative)] += live.len();
                let moved = live.iter().all(|&at| initial.parameters[at] != weights.parameters[at]);
                assert!(moved, "{} negative {negative}", spec.name);
            }
        }
        assert!(checked.iter().all(|&count| count > 1000), "{checked:?}: both signs are there to be seen");
        assert_ne!(initial.buffers, weights.buffers);
    }
}

/// What products leave out, steps do not touch; who looks at the weights or keeps the state sees all of it.
#[test]
fn a_pruned_network_trains_without_what_is_pruned_and_shows_and_resumes_the_whole() {
    let data = builtin_mnist().unwrap().with_task(&Task::EvenOdd).unwrap();
    let indices: Vec<usize> = (0..64).collect();
    let images = Subset::new(&data, &indices);
    let model = resnet(18, 4, Stem::Small, 1, 2).unwrap();
    let initial = model.network.initialise(3);
    let mask = prune(&initial, &Mask::dense(model.network.layout.clone()), Scope::Global, 0.8, &[]).unwrap();
    let zero_where_pruned =
        |values: &[f32]| values.iter().zip(mask.bits()).all(|(value, bit)| *bit != 0 || value.to_bits() == 0);
    for optimizer in
        [OptimizerKind::Sgd { momentum: 0.9 }, OptimizerKind::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }]
    {
        let input = Shape3 { channels: 1, height: 28, width: 28 };
        let patterns = |below| model.network.patterns(mask.bits(), input, 16, Some(below)).unwrap().count();
        assert!(patterns(1.1) > patterns(0.2) && patterns(0.2) > patterns(0.0) && patterns(0.0) == 0);
        // Every layer that loses a weight is sparse; some of them; none.
        for sparse_below in [1.1, 0.2, 0.0] {
            let config = TrainConfig { sparse_below: Some(sparse_below), ..config(optimizer) };
            let training = Training { model: &model, images: &images, config: &config, seed: 8 };
            let steps = config.total_steps(64);
            let train = |kept: Option<Kept>| {
                let (mut weights, mut seen, mut states) = (initial.clone(), Vec::new(), Vec::new());
                let mut keep = |step: u64, weights: &Weights, optimizer: &OptimizerState, losses: &[(f64, u64)]| {
                    let (weights, optimizer) = (weights.clone(), optimizer.clone());
                    states.push(Kept { step, weights, optimizer, losses: losses.to_vec() });
                    Ok(())
                };
                let see = |step, weights: &Weights| seen.push((step, weights.clone()));
                training
                    .run_with(&mut weights, &mask, 0, steps, &Silent, None, &|_| true, see, Some((kept, &mut keep)))
                    .unwrap();
                (weights, seen, states)
            };
            let (end, seen, states) = train(None);
            assert_eq!(seen.len() as u64, steps);
            assert!(seen.iter().all(|(_, weights)| mask.holds(weights)));
            assert!(seen.windows(2).all(|pair| pair[0].1.parameters != pair[1].1.parameters));
            assert_eq!(seen.last().unwrap().1, end);
            let [kept] = &states[..] else { panic!("one epoch but the last") };
            assert_eq!(kept.weights, seen[kept.step as usize - 1].1);
            assert!(zero_where_pruned(&kept.optimizer.first) && kept.optimizer.first.iter().any(|&value| value != 0.0));
            assert!(zero_where_pruned(&kept.optimizer.second));
            assert_eq!(train(Some(kept.clone())).0, end);

            // Who edits the gradient sees it beside the weights that it is of.
            let config = TrainConfig { weight_decay: 0.0, ..config };
            let training = Training { config: &config, ..training };
            let mut still = |weights: &Weights, gradient: &mut [f32]| {
                let each = gradient.iter_mut().zip(&weights.parameters);
                each.filter(|(_, weight)| **weight < 0.0).for_each(|(gradient, _)| *gradient = 0.0);
            };
            let mut edited = initial.clone();
            training
                .run_with(&mut edited, &mask, 0, 3, &Silent, Some(&mut still), &|_| false, |_, _| {}, None)
                .unwrap();
            let live = || (0..mask.bits().len()).filter(|&at| mask.bits()[at] != 0);
            let moved = |at: &usize| edited.parameters[*at] != initial.parameters[*at];
            let (below, above): (Vec<usize>, Vec<usize>) = live().partition(|&at| initial.parameters[at] < 0.0);
            assert!(!below.iter().any(moved) && above.iter().filter(|at| moved(at)).count() > above.len() / 2);
            assert!(below.len() > 1000 && mask.holds(&edited));
        }
    }
}

#[test]
fn a_gradient_of_the_whole_network_equals_finite_differences() {
    for (depth, stem, size) in [(18, Stem::Small, 9), (18, Stem::Large, 33)] {
        let model = resnet(depth, 2, stem, 1, 3).unwrap();
        let weights = model.network.initialise(5);
        let count = 6 * size * size;
        let pixels: Vec<f32> = (0..count).map(|i| ((i * 7919 % 1013) as f32 / 506.0) - 1.0).collect();
        let images = Tensor::from_vec(pixels, (6, 1, size, size), &Device::Cpu).unwrap();
        let weighting: Vec<f32> = (0..18).map(|i| (i as f32 * 0.7).sin()).collect();
        let weighting = Tensor::from_vec(weighting, (6, 3), &Device::Cpu).unwrap();
        let loss = |logits: &Tensor| (logits * &weighting).unwrap().sum_all().unwrap();
        let value = |parameters: Vec<f32>| {
            let mut moved = weights.clone();
            moved.parameters = parameters;
            let whole = model.network.whole();
            let fixed = Fixed::new(&Compute::Cpu, &model.network, &Arc::new(moved), None);
            loss(&fixed.section(whole, Mode::TRAIN, &images).unwrap())
        };
        let gradient = network_gradients(&model.network, Mode::TRAIN, &weights, &images, loss).0;
        // Along random directions inside each tensor; ReLU kinks make single coordinates unreliable in f32.
        for spec in &model.network.layout.parameters {
            let direction: Vec<f64> = spec.range.clone().map(|i| ((i * 31 % 17) as f64 - 8.0) / 8.0).collect();
            let norm = direction.iter().map(|d| d * d).sum::<f64>().sqrt().max(1e-9);
            let step = 1e-3;
            let at = |sign: f64| {
                let mut moved = weights.parameters.clone();
                for (value, d) in moved[spec.range.clone()].iter_mut().zip(&direction) {
                    *value += (sign * step * d / norm) as f32;
                }
                f64::from(value(moved).to_scalar::<f32>().unwrap())
            };
            let numeric = (at(1.0) - at(-1.0)) / (2.0 * step);
            let exact: f64 =
                gradient[spec.range.clone()].iter().zip(&direction).map(|(&g, d)| f64::from(g) * d / norm).sum();
            let scale = gradient[spec.range.clone()].iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            assert!(
                (numeric - exact).abs() < 0.05 * scale + 0.02,
                "ResNet-{depth} {}: {numeric} against {exact} (norm {scale})",
                spec.name
            );
        }
    }
}

/// A later section's input is no map that its backward pass can make again, though a batch norm made it.
#[test]
fn two_sections_in_training_mode_are_the_whole_network() {
    let (network, batch) = (resnet(18, 2, Stem::Small, 1, 3).unwrap().network, 6);
    let (weights, shape) = (network.initialise(5), Shape3 { channels: 1, height: 9, width: 9 });
    let images: Vec<f32> = (0..batch * 81).map(|i| ((i * 7919 % 1013) as f32 / 506.0) - 1.0).collect();
    let through = |cuts: &[usize]| {
        let mut workspace = Workspace::default();
        let (mut tapes, mut values, mut shape) = (Vec::new(), images.clone(), shape);
        for part in cuts.windows(2) {
            let part = part[0]..part[1];
            let tape = network
                .forward(part, Mode::TRAIN, &weights, None, values.into(), shape, batch, &mut workspace)
                .unwrap();
            (values, shape) = (tape.output().to_vec(), tape.output_shape());
            tapes.push(tape);
        }
        let (mut gradient, mut of_parameters): (Buffer, _) = (values.into(), vec![0.0; weights.parameters.len()]);
        for tape in tapes.into_iter().rev() {
            let wanted = Gradients { parameters: Some(&mut of_parameters), input: true };
            gradient = network.backward(tape, &weights, None, gradient, wanted, &mut workspace).unwrap();
        }
        (of_parameters, gradient.to_vec())
    };
    let end = network.whole().end;
    assert_eq!(through(&[0, 1, end]), through(&[0, end]));
}

#[test]
fn gradients_equal_those_of_candles_own_operations() {
    let cases = [
        (Block::Basic, [2, 2, 2, 2], Stem::Small, 12),
        (Block::Basic, [3, 4, 6, 3], Stem::Large, 32),
        (Block::Bottleneck, [1, 1, 1, 1], Stem::Small, 20),
    ];
    for (block, blocks, stem, size) in cases {
        let model =
            ResNet { block, blocks, width: 4, stem, channels: 3, classes: 3, forward: Forward::default() }.model();
        let label = format!("{block:?} {blocks:?} {stem:?}");
        let weights = model.network.initialise(5);
        let mut noise = seed::stream(1, "test/pixels", 0);
        let pixels: Vec<f32> = (0..10 * 3 * size * size).map(|_| noise.random_range(-1.0..1.0)).collect();
        let images = Tensor::from_vec(pixels, (10, 3, size, size), &Device::Cpu).unwrap();
        let weighting: Vec<f32> = (0..30).map(|i| (i as f32 * 0.7).sin()).collect();
        let weighting = Tensor::from_vec(weighting, (10, 3), &Device::Cpu).unwrap();
        // f32 rounding flips ReLUs here and there, more so in deep networks: Candle's own f32
        // result, held against its f64 result, shows how far that carries, and ours may go no
        // further.
        let plain = |dtype: DType| {
            let variables = plain_candle::variables(&weights, dtype);
            let images = images.to_dtype(dtype).unwrap();
            let logits = plain_candle::forward(&model.network, &variables, &images).unwrap();
            let sum = (logits * weighting.to_dtype(dtype).unwrap()).unwrap().sum_all().unwrap();
            let gradients = sum.backward().unwrap();
            let named = model.network.layout.parameters.iter();
            named
                .map(|spec| {
                    let gradient = gradients.get(variables[&spec.name].as_tensor()).unwrap();
                    values(&gradient.to_dtype(DType::F32).unwrap())
                })
                .collect::<Vec<_>>()
        };
        let (exact, rounded) = (plain(DType::F64), plain(DType::F32));
        let loss = |logits: &Tensor| (logits * &weighting).unwrap().sum_all().unwrap();
        let ours = network_gradients(&model.network, Mode::TRAIN, &weights, &images, loss).0;
        let allowed = exact.iter().zip(&rounded).map(|(e, r)| relative_error(r, e)).fold(1e-3, f64::max) * 2.0;
        for (spec, exact) in model.network.layout.parameters.iter().zip(&exact) {
            let error = relative_error(&ours[spec.range.clone()], exact);
            assert!(error < allowed, "{label} {}: {error:e}, allowed {allowed:e}", spec.name);
        }
        println!("{label}: allowed {allowed:.1e}");
        assert!(allowed < 0.05, "{label}: the case is too ill-conditioned to say anything");
    }
}

#[test]
fn a_narrow_network_learns_and_thread_count_changes_no_bit() {
    let data = builtin_mnist().unwrap().with_task(&Task::EvenOdd).unwrap();
    let indices: Vec<usize> = (0..2000).collect();
    let held_out: Vec<usize> = (3000..3400).collect();
    let images = Subset::new(&data, &indices);
    let model = resnet(18, 8, Stem::Small, 1, 2).unwrap();
    let config = TrainConfig {
        epochs: 3,
        learning_rate: 0.05,
        weight_decay: 1e-4,
        schedule: ScheduleKind::Cosine,
        batch_size: 32,
        ..config(OptimizerKind::Sgd { momentum: 0.9 })
    };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut weights = model.network.initialise(1);
            let mask = Mask::dense(model.network.layout.clone());
            let training = Training { model: &model, images: &images, config: &config, seed: 3 };
            training.run(&mut weights, &mask, 0, config.total_steps(2000), &Silent, |_, _| {}).unwrap();
            let correct = evaluate(&model, &weights, &Subset::new(&data, &held_out), 64).unwrap();
            (weights, correct)
        })
    };
    let (one, correct) = run(1);
    let (two, _) = run(2);
    assert!(one == two);
    let accuracy = correct.iter().filter(|&&c| c).count() as f64 / correct.len() as f64;
    println!("accuracy after three epochs of 2,000 digits: {accuracy:.3}");
    assert!(accuracy > 0.9, "{accuracy}");
    assert_eq!(relative_error(&one.parameters, &two.parameters), 0.0);
}

#[test]
fn renewed_statistics_normalise_the_images_that_they_come_from() {
    let plan = crate::run::tiny_plan(&[]);
    let setup = ticketlens::run::Setup::new(&plan).unwrap();
    let (model, images) = (&setup.model, Subset::new(&setup.data, &setup.splits.train[..64]));
    let mut weights = model.network.initialise(7);
    weights.buffers.fill(0.5);
    let pixels = setup.data.tensor(&setup.splits.train[..64]).unwrap();
    let logits =
        |weights: &Weights| logits(model, weights, &images, &(0..64).collect::<Vec<_>>(), 64).unwrap().concat();
    let garbage = logits(&weights);
    renew_statistics(model, &mut weights, &images, 64).unwrap();
    // In training mode a batch is normalised by itself, whatever the running statistics are.
    let by_batch = std::cell::RefCell::default();
    network_gradients(&model.network, Mode::TRAIN, &weights, &pixels, |output| {
        *by_batch.borrow_mut() = values(output);
        output.sum_all().unwrap()
    });
    let by_batch: Vec<f32> = by_batch.into_inner();
    let error = relative_error(&logits(&weights), &by_batch);
    assert!(error < 0.02, "{error}: but for the variance's n / (n - 1) they are the same");
    assert!(relative_error(&garbage, &by_batch) > 0.2);
    // Two batches give the mean of their statistics; a rest of fewer images is left out.
    let of = |from: usize, to: usize, batch: usize| {
        let mut weights = model.network.initialise(7);
        renew_statistics(model, &mut weights, &Subset::new(&setup.data, &setup.splits.train[from..to]), batch).unwrap();
        weights.buffers
    };
    let (first, second, both) = (of(0, 32, 32), of(32, 64, 32), of(0, 70, 32));
    for ((one, other), both) in first.iter().zip(&second).zip(&both) {
        assert!((0.5 * (one + other) - both).abs() <= 1e-5 * both.abs().max(1.0), "{one} {other} {both}");
    }
}
