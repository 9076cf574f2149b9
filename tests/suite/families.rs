//! Every family of the table: its numbers beside PyTorch's, its gradients, its stages, its checkpoints, its plans.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use rand::Rng;
use ticketlens::data::{Subset, Task, builtin_mnist};
use ticketlens::explain::{Cut, Targets, grad_cam};
use ticketlens::kernels::layout::filled;
use ticketlens::model::{Model, Stage, Wish, build, family_names, load_checkpoint, save_weights};
use ticketlens::nn::optimizer::OptimizerKind;
use ticketlens::nn::schedule::ScheduleKind;
use ticketlens::nn::{
    Compute, Draws, Fixed, Gradients, Initialisation, Layer, LayoutBuilder, Mode, Network, Shape3, Weights, Workspace,
};
use ticketlens::plan::Plan;
use ticketlens::progress::Silent;
use ticketlens::prune::{Mask, Scope, prune};
use ticketlens::records::{Store, round_ids};
use ticketlens::seed;
use ticketlens::study::run;
use ticketlens::train::{TrainConfig, Training, logits};

use crate::plain_candle;
use crate::run::tiny_plan;
use crate::support::{assert_expected, fixture, network_gradients, relative_error, tensor, values};

/// Channels, rows and columns of an image.
type Size = (usize, usize, usize);

/// One small network of each kind: name, width, image.
const SMALL: [(&str, Option<usize>, Size); 6] = [
    ("vgg11", Some(2), (3, 32, 32)),
    ("vgg11_bn", Some(2), (1, 33, 40)),
    ("resnet20", Some(2), (3, 16, 16)),
    ("lenet-300-100", None, (1, 12, 12)),
    ("conv2", Some(3), (1, 13, 12)),
    ("conv4", Some(2), (3, 16, 16)),
];

fn wish(width: Option<usize>, images: Size, classes: usize) -> Wish {
    Wish { width, stem: None, images: images.into(), classes }
}

fn small() -> impl Iterator<Item = (&'static str, Model, Size)> {
    SMALL.into_iter().map(|(name, width, images)| (name, build(name, &wish(width, images, 3)).unwrap(), images))
}

fn noise(name: &str, dims: &[usize]) -> Tensor {
    let mut stream = seed::stream(3, name, 0);
    let count = dims.iter().product();
    let values: Vec<f32> = (0..count).map(|_| stream.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

fn pictures(count: usize, (channels, height, width): Size) -> Tensor {
    noise("test/pictures", &[count, channels, height, width])
}

/// Weights at which nothing is 0 that could hide a fault, and no layer's output dies out.
fn weights(model: &Model) -> Weights {
    let mut weights =
        Network { initialisation: Initialisation::Torchvision, ..Network::clone(&model.network) }.initialise(5);
    let mut stream = seed::stream(4, "test/buffers", 0);
    weights.buffers.iter_mut().for_each(|value| *value += stream.random_range(0.0..0.3));
    weights
}

#[test]
fn logits_activations_gradients_and_maps_equal_pytorchs() {
    for case in
        ["family_cifar_resnet20", "family_kuangliu_resnet18", "family_lenet_300_100", "family_vgg11", "family_vgg11_bn"]
    {
        let expected: serde_json::Value =
            serde_json::from_slice(&std::fs::read(fixture(&format!("oracle/{case}/expected.json"))).unwrap()).unwrap();
        let class = expected["class"].as_u64().unwrap() as usize;
        let checkpoint = load_checkpoint(&fixture(&format!("oracle/{case}/checkpoint.safetensors"))).unwrap();
        let images = tensor(&format!("oracle/{case}/inputs.safetensors"), "images");
        let named = expected["stage"].as_str();
        let stage = named.map_or(checkpoint.model.default_stage(), |stage| stage.parse().unwrap());
        let cut = Cut::new(&checkpoint.model, checkpoint.weights.clone(), stage).unwrap();
        let activation = cut.activation(&images).unwrap();
        let result = cut.gradient(&activation, Targets::Class(class)).unwrap();
        let mut got = vec![("logits", result.logits)];
        if named.is_some() {
            got.push(("cam_raw", grad_cam(&activation, &result.gradient).unwrap().raw));
            got.extend([("activation", activation), ("gradient", result.gradient)]);
        }
        got.iter().for_each(|(name, got)| assert_expected(case, name, got));
    }
}

#[test]
fn gradients_equal_those_of_candles_own_operations() {
    // Maps of 32 images lie in the kernels' other order.
    for (count, (name, model, images)) in small().map(|one| (10, one)).chain(small().map(|one| (32, one))) {
        // Candle's own operations know nothing of our draws.
        let mut network = Network::clone(&model.network);
        for layer in &mut network.layers {
            if let Layer::Dropout { probability, .. } = layer {
                *probability = 0.0;
            }
        }
        let network = Arc::new(network);
        let (weights, images) = (Arc::new(weights(&model)), pictures(count, images));
        let weighting = noise("test/weighting", &[count, 3]);
        let plain = |dtype: DType| {
            let variables = plain_candle::variables(&weights, dtype);
            let logits = plain_candle::forward(&network, &variables, &images.to_dtype(dtype).unwrap()).unwrap();
            let sum = (logits * weighting.to_dtype(dtype).unwrap()).unwrap().sum_all().unwrap();
            let gradients = sum.backward().unwrap();
            let of = |name: &String| gradients.get(variables[name].as_tensor()).unwrap().to_dtype(DType::F32).unwrap();
            network.layout.parameters.iter().map(|spec| values(&of(&spec.name))).collect::<Vec<_>>()
        };
        let (exact, rounded) = (plain(DType::F64), plain(DType::F32));
        let loss = |logits: &Tensor| (logits * &weighting).unwrap().sum_all().unwrap();
        let ours = network_gradients(&network, Mode::TRAIN, &weights, &images, loss).0;
        let largest = |values: &[f32]| values.iter().fold(0.0_f32, |top, value| top.max(value.abs()));
        let top = exact.iter().map(|values| largest(values)).fold(0.0, f32::max);
        // A bias before a batch norm has no gradient but for rounding.
        let counts = |values: &[f32]| largest(values) > 1e-6 * top;
        let pairs = exact.iter().zip(&rounded).filter(|(exact, _)| counts(exact));
        let allowed = pairs.map(|(e, r)| relative_error(r, e)).fold(1e-4, f64::max) * 2.0;
        assert!(allowed < 0.05, "{name}: the case is too ill-conditioned to say anything");
        let mut none = 0;
        for (spec, exact) in network.layout.parameters.iter().zip(&exact) {
            let ours = &ours[spec.range.clone()];
            if !counts(exact) {
                none += 1;
                assert!(largest(ours) < 1e-4 * top, "{name} {}: {} where there is none", spec.name, largest(ours));
                continue;
            }
            let error = relative_error(ours, exact);
            assert!(error < allowed, "{name} {}: {error:e}, allowed {allowed:e}", spec.name);
        }
        assert_eq!(none, if name == "vgg11_bn" { 8 } else { 0 }, "{name}: gradients that are none");
    }
}

/// In training, with dropout's draws, and of the image in evaluation.
#[test]
fn gradients_equal_finite_differences() {
    for (name, model, shape) in small() {
        let (weights, images) = (Arc::new(weights(&model)), pictures(6, shape));
        let weighting = noise("test/weighting", &[6, 3]);
        let mode = Mode::Train(Draws { seed: 7, step: 11 });
        let network = &model.network;
        let loss = |logits: &Tensor| (logits * &weighting).unwrap().sum_all().unwrap();
        let value = |mode: Mode, images: &Tensor, weights: &Arc<Weights>| {
            let fixed = Fixed::new(&Compute::Cpu, network, weights, None);
            loss(&fixed.section(network.whole(), mode, images).unwrap())
        };
        let close = |what: &str, gradient: &[f32], from: &[f32], value: &dyn Fn(Vec<f32>) -> Tensor| {
            let direction: Vec<f64> = (0..from.len()).map(|i| ((i * 31 % 17) as f64 - 8.0) / 8.0).collect();
            let norm = direction.iter().map(|d| d * d).sum::<f64>().sqrt().max(1e-9);
            let step = 1e-3;
            let at = |sign: f64| {
                let moved = from.iter().zip(&direction).map(|(v, d)| v + (sign * step * d / norm) as f32).collect();
                f64::from(value(moved).to_scalar::<f32>().unwrap())
            };
            let numeric = (at(1.0) - at(-1.0)) / (2.0 * step);
            let exact: f64 = gradient.iter().zip(&direction).map(|(&g, d)| f64::from(g) * d / norm).sum();
            let scale = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            let far = (numeric - exact).abs() > 0.05 * scale + 0.01;
            assert!(!far, "{name} {what}: {numeric} against {exact} (norm {scale})");
        };
        let gradient = network_gradients(network, mode, &weights, &images, loss).0;
        for spec in &network.layout.parameters {
            let range = spec.range.clone();
            close(&spec.name, &gradient[range.clone()], &weights.parameters[range.clone()], &|moved| {
                let mut all = Weights::clone(&weights);
                all.parameters[range.clone()].copy_from_slice(&moved);
                value(mode, &images, &Arc::new(all))
            });
        }
        let input = Var::from_tensor(&images).unwrap();
        let sum = value(Mode::EvalTape, input.as_tensor(), &weights);
        let gradient = values(sum.backward().unwrap().get(input.as_tensor()).unwrap());
        assert!(gradient.iter().any(|&value| value != 0.0));
        close("image", &gradient, &values(&images), &|moved| {
            value(Mode::Eval, &Tensor::from_vec(moved, images.dims(), &Device::Cpu).unwrap(), &weights)
        });
    }
}

#[test]
fn a_cut_at_any_stage_changes_no_logit_and_has_the_right_gradient() {
    for (name, model, images) in small() {
        let (weights, images) = (Arc::new(weights(&model)), pictures(5, images));
        let network = &model.network;
        let fixed = Fixed::new(&Compute::Cpu, network, &weights, None);
        let whole = values(&fixed.section(network.whole(), Mode::Eval, &images).unwrap());
        for stage in model.stages() {
            let cut = Cut::new(&model, weights.clone(), stage).unwrap();
            let activation = cut.activation(&images).unwrap();
            let (_, channels, height, width) = activation.dims4().unwrap();
            let shape = model.activation_shape(
                stage,
                Shape3::from((images.dim(1).unwrap(), images.dim(2).unwrap(), images.dim(3).unwrap())),
            );
            assert_eq!(shape.unwrap(), Shape3 { channels, height, width }, "{name} {stage}");
            assert!(height * width == 1 || model.has_map(stage), "{name} {stage}");
            let result = cut.gradient(&activation, Targets::Predicted).unwrap();
            assert!(relative_error(&values(&result.logits), &whole) < 1e-5, "{name} {stage}");
            let gradient = values(&cut.gradient(&activation, Targets::Class(1)).unwrap().gradient);
            let from = values(&activation);
            let direction: Vec<f64> = (0..from.len()).map(|i| ((i * 31 % 17) as f64 - 8.0) / 8.0).collect();
            let norm = direction.iter().map(|d| d * d).sum::<f64>().sqrt();
            let step = 1e-3;
            let at = |sign: f64| {
                let moved = from.iter().zip(&direction).map(|(v, d)| v + (sign * step * d / norm) as f32).collect();
                let logits = cut.logits(&Tensor::from_vec(moved, activation.dims(), &Device::Cpu).unwrap()).unwrap();
                logits.to_vec2::<f32>().unwrap().iter().map(|row| f64::from(row[1])).sum::<f64>()
            };
            let numeric = (at(1.0) - at(-1.0)) / (2.0 * step);
            let exact: f64 = gradient.iter().zip(&direction).map(|(&g, d)| f64::from(g) * d / norm).sum();
            let scale = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            assert!(scale > 0.0, "{name} {stage}");
            let far = (numeric - exact).abs() > 0.05 * scale + 2e-3;
            assert!(!far, "{name} {stage}: {numeric} against {exact} (norm {scale})");
        }
    }
}

/// 60 images are evaluated with four of zeros, 20 as they are.
#[test]
fn an_odd_batch_is_evaluated_and_explained_as_its_thirds_are() {
    assert_eq!([60, 20].map(filled), [64, 20]);
    let data = builtin_mnist().unwrap().with_task(&Task::EvenOdd).unwrap();
    for (name, model, size) in small() {
        let weights = Arc::new(weights(&model));
        let images = pictures(60, size);
        for stage in model.stages() {
            let cut = Cut::new(&model, weights.clone(), stage).unwrap();
            let explained = |images: &Tensor| {
                let activation = cut.activation(images).unwrap();
                let result = cut.gradient(&activation, Targets::Class(1)).unwrap();
                [activation, result.logits, result.gradient]
            };
            let whole = explained(&images);
            let thirds = [0, 20, 40].map(|first| explained(&images.narrow(0, first, 20).unwrap()));
            for (nth, whole) in whole.iter().enumerate() {
                let together = Tensor::cat(&thirds.each_ref().map(|third| &third[nth]), 0).unwrap();
                assert_eq!(whole.dims(), together.dims(), "{name} {stage}");
                assert!(relative_error(&values(whole), &values(&together)) < 1e-4, "{name} {stage}");
            }
        }
    }
    let model = build("lenet-300-100", &wish(None, (1, 28, 28), 2)).unwrap();
    let weights = model.network.initialise(3);
    let indices: Vec<usize> = (0..60).collect();
    let rows = |batch: usize| logits(&model, &weights, &data, &indices, batch).unwrap().concat();
    assert!(relative_error(&rows(60), &rows(20)) < 1e-5);
}

/// The mask of the largest `share` of all prunable weights, which leaves layers of few weights denser than wide ones.
fn pruned(model: &Model, mut weights: Weights, share: f64) -> Weights {
    let mask = Mask::dense(model.network.layout.clone());
    prune(&weights, &mask, Scope::Global, 1.0 - share, &[]).unwrap().apply(&mut weights);
    weights
}

/// Every twentieth of each layer's weights, small ones and large ones.
fn thinned(model: &Model, mut weights: Weights) -> Weights {
    for spec in model.network.layout.parameters.iter().filter(|spec| spec.kind.prunable()) {
        let values = weights.parameters[spec.range.clone()].iter_mut().enumerate();
        values.filter(|(nth, _)| nth % 20 != 7).for_each(|(_, value)| *value = 0.0);
    }
    weights
}

#[test]
fn what_a_batch_leaves_in_memory_changes_no_bit_of_the_next() {
    for (name, model, images) in small() {
        let (weights, stage) = (Arc::new(weights(&model)), model.stages().next().unwrap());
        let used = Cut::new(&model, weights.clone(), stage).unwrap();
        // Batches of 7 and 32 lie in memory in different orders.
        for count in [7, 32, 5] {
            let pixels = pictures(count, images);
            let of = |cut: &Cut| {
                let activation = cut.activation(&pixels).unwrap();
                let logits = cut.logits(&activation).unwrap();
                let gradient = cut.gradient(&activation, Targets::Predicted).unwrap().gradient;
                [activation, logits, gradient]
                    .map(|tensor| values(&tensor).into_iter().map(f32::to_bits).collect::<Vec<_>>())
            };
            assert_eq!(of(&used), of(&Cut::new(&model, weights.clone(), stage).unwrap()), "{name}, {count} images");
        }
    }
}

#[test]
fn a_network_of_zeros_is_evaluated_and_explained_as_its_dense_products_would() {
    for (name, model, images) in small() {
        let dense = weights(&model);
        assert!(model.network.patterns_at_rest(&pruned(&model, dense.clone(), 0.2)).is_none(), "{name}: 80 % zeros");
        assert!(model.network.patterns_at_rest(&pruned(&model, dense.clone(), 0.1501)).is_some(), "{name}: 85 % zeros");
        let pixels = pictures(5, images);
        let network = &model.network;
        for sparse in [pruned(&model, dense.clone(), 0.05), thinned(&model, dense)].map(Arc::new) {
            let patterns = network.patterns_at_rest(&sparse).unwrap();
            assert!(patterns.count() > 0, "{name}");
            let fixed = Fixed::new(&Compute::Cpu, network, &sparse, None);
            let whole = fixed.section(network.whole(), Mode::Eval, &pixels).unwrap();
            let cut = Cut::before(&model, sparse.clone());
            assert!(relative_error(&values(&cut.logits(&pixels).unwrap()), &values(&whole)) < 1e-5, "{name}");
            let (_, expected) = network_gradients(network, Mode::EvalTape, &sparse, &pixels, |logits| {
                logits.narrow(1, 1, 1).unwrap().sum_all().unwrap()
            });
            let gradient = values(&cut.gradient(&pixels, Targets::Class(1)).unwrap().gradient);
            assert!(relative_error(&gradient, &expected) < 1e-5, "{name}");
        }
    }
}

#[test]
fn stages_are_pytorchs_names_and_others_are_refused_with_near_ones() {
    let of = |family: &str, images| build(family, &wish(None, images, 10)).unwrap();
    let names = |model: &Model| model.stages().map(Stage::name).collect::<Vec<_>>();
    let vgg = names(&of("vgg11_bn", (3, 64, 64)));
    assert_eq!(vgg[..5], ["features.0", "features.1", "features.2", "features.3", "features.4"]);
    assert_eq!(
        vgg[vgg.len() - 9..],
        [
            "features.28",
            "features",
            "avgpool",
            "classifier.0",
            "classifier.1",
            "classifier.2",
            "classifier.3",
            "classifier.4",
            "classifier.5",
        ]
    );
    assert_eq!(vgg.len(), 29 + 2 + 6);
    let lenet = of("lenet-300-100", (1, 28, 28));
    assert_eq!(names(&lenet), ["fc_layers.0", "fc_layers.1"]);
    assert!(!lenet.has_map(Stage::new("fc_layers.0")));
    assert_eq!(names(&of("resnet20", (3, 32, 32)))[..3], ["conv", "bn", "blocks.0"]);
    let conv = names(&of("conv2", (3, 32, 32)));
    assert_eq!(
        conv,
        ["layers.0.conv", "layers.0", "layers.1.conv", "layers.1", "layers.2", "layers", "fc_layers.0", "fc_layers.1"]
    );
    let resnet = of("resnet18", (3, 64, 64));
    assert_eq!(names(&resnet)[..7], ["conv1", "bn1", "relu", "maxpool", "layer1.0", "layer1.1", "layer1"]);
    let error = |stage| resnet.halves(Stage::new(stage)).err().unwrap().to_string();
    let near = error("layer5");
    assert!(near.contains("`layer5`") && near.contains("ResNet-18") && near.contains("near: `layer"), "{near}");
    let inside = error("layer3.0.conv1");
    assert!(inside.contains("inside `layer3.0`") && inside.contains("a shortcut"), "{inside}");
    assert!(error("zzz").ends_with("it can be cut at conv1, bn1, relu, maxpool, layer1.0, layer1.1, layer1, layer2.0, layer2.1, layer2, layer3.0, layer3.1, layer3, layer4.0, layer4.1, layer4, avgpool"), "{}", error("zzz"));
    // Values before a ReLU have both signs, after it one.
    let (weights, images) = (Arc::new(resnet.network.initialise(1)), pictures(2, (3, 33, 32)));
    let least = |stage| {
        let cut = Cut::new(&resnet, weights.clone(), Stage::new(stage)).unwrap();
        values(&cut.activation(&images).unwrap()).into_iter().fold(f32::INFINITY, f32::min)
    };
    assert!(least("bn1") < 0.0 && least("relu") == 0.0);
}

#[test]
fn a_checkpoint_says_its_family_and_is_read_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    for name in family_names().split(", ") {
        let width = (name != "lenet-300-100").then_some(2);
        let model = build(name, &wish(width, (3, 40, 40), 4)).unwrap();
        let weights = model.network.initialise(9);
        let path = folder.path().join(format!("{name}.safetensors"));
        std::fs::write(&path, save_weights(&weights).unwrap()).unwrap();
        let read = load_checkpoint(&path).unwrap();
        assert!(read.model.same_as(&model) && *read.weights == weights, "{name}");
        assert_eq!((read.model.name, read.model.channels), (model.name, 3), "{name}");
    }
    let strange = folder.path().join("strange.safetensors");
    let one = Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap();
    safetensors::serialize_to_file([("encoder.weight", &one)], None, &strange).unwrap();
    let error = load_checkpoint(&strange).err().unwrap().to_string();
    assert!(
        error.contains("encoder.weight") && error.contains("strange.safetensors") && error.contains("vgg11"),
        "{error}"
    );
}

#[test]
fn masks_choose_kernels_and_threads_change_no_bit_in_every_family() {
    let data = builtin_mnist().unwrap().with_task(&Task::EvenOdd).unwrap();
    let indices: Vec<usize> = (0..128).collect();
    let images = Subset::new(&data, &indices);
    for (name, width) in [("lenet-300-100", None), ("conv2", Some(4)), ("resnet20", Some(3))] {
        let model = build(name, &wish(width, (1, 28, 28), 2)).unwrap();
        let initial = model.network.initialise(1);
        let mask = prune(&initial, &Mask::dense(model.network.layout.clone()), Scope::Global, 0.6, &[]).unwrap();
        let trained = |sparse_below: f64, threads: usize| {
            let config = TrainConfig {
                optimizer: OptimizerKind::Sgd { momentum: 0.9 },
                learning_rate: 0.02,
                weight_decay: 1e-3,
                schedule: ScheduleKind::Constant,
                warmup_steps: 0,
                epochs: 1,
                batch_size: 64,
                sparse_below: Some(sparse_below),
            };
            let mut weights = initial.clone();
            let training = Training { model: &model, images: &images, config: &config, seed: 3 };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| training.run(&mut weights, &mask, 0, 2, &Silent, |_, _| {})).unwrap();
            assert!(mask.holds(&weights), "{name}");
            weights
        };
        let (dense, sparse) = (trained(0.0, 2), trained(1.1, 2));
        assert!(dense != sparse, "{name}: the same kernels ran");
        let error = relative_error(&dense.parameters, &sparse.parameters);
        assert!(error < 1e-3, "{name}: {error}");
        assert!(trained(1.1, 1) == sparse, "{name}: threads");
    }
}

#[test]
fn dropout_draws_from_seed_and_step_and_keeps_the_mean() {
    let (batch, features, probability) = (64, 500, 0.3);
    let network = Network::new(LayoutBuilder::default().finish(), vec![Layer::Dropout { probability, source: 0 }]);
    let weights = Weights::zeros(network.layout.clone());
    let shape = Shape3 { channels: features, height: 1, width: 1 };
    let input: Vec<f32> = (0..batch * features).map(|at| 1.0 + (at % 5) as f32).collect();
    let run = |mode: Mode| {
        let mut workspace = Workspace::default();
        let tape =
            network.forward(0..1, mode, &weights, None, input.clone().into(), shape, batch, &mut workspace).unwrap();
        let output = tape.output().to_vec();
        let wanted = Gradients { parameters: None, input: true };
        let ones = vec![1.0; output.len()];
        let gradient = match mode {
            Mode::Eval => ones,
            _ => network.backward(tape, &weights, None, ones.into(), wanted, &mut workspace).unwrap().to_vec(),
        };
        (output, gradient)
    };
    let at = |seed, step| run(Mode::Train(Draws { seed, step }));
    let (output, gradient) = at(1, 2);
    let kept = output.iter().filter(|&&value| value != 0.0).count() as f64 / output.len() as f64;
    // Five standard deviations of a share of 32,000 draws.
    assert!((kept - 0.7).abs() < 0.013, "{kept}");
    for ((&output, &input), &gradient) in output.iter().zip(&input).zip(&gradient) {
        assert!((output - input * gradient).abs() < 1e-6 && (gradient == 0.0 || (gradient - 1.0 / 0.7).abs() < 1e-6));
    }
    assert!(at(1, 2).0 == output && at(1, 3).0 != output && at(2, 2).0 != output);
    assert!(run(Mode::Eval).0 == input && run(Mode::EvalTape).0 == input);
    assert_eq!(run(Mode::EvalTape).1, vec![1.0; input.len()]);
}

#[test]
fn fresh_weights_are_drawn_as_the_originals_draw_them() {
    let deviation = |values: &[f32]| {
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
        (values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    };
    let expected = [
        ("vgg11", "features.3.weight", (2.0_f64 / (32.0 * 9.0)).sqrt()),
        ("vgg11", "classifier.0.weight", 0.01),
        ("vgg11", "features.3.bias", 0.0),
        ("lenet-300-100", "fc_layers.0.weight", (2.0_f64 / (300.0 + 1024.0 * 3.0)).sqrt()),
        ("lenet-300-100", "fc_layers.0.bias", 0.0),
        ("conv2", "layers.1.conv.weight", (1.0_f64 / (16.0 * 9.0)).sqrt()),
        ("resnet20", "blocks.8.conv2.weight", (2.0_f64 / (64.0 * 9.0)).sqrt()),
        ("resnet18", "layer1.0.conv1.weight", (2.0_f64 / (16.0 * 9.0)).sqrt()),
    ];
    for (family, parameter, expected) in expected {
        let width = (family != "lenet-300-100").then_some(16);
        let model = build(family, &wish(width, (3, 32, 32), 10)).unwrap();
        let weights = model.network.initialise(2);
        let index = model.network.layout.parameters.iter().position(|spec| spec.name == parameter).unwrap();
        let found = deviation(weights.parameter(index));
        assert!((found - expected).abs() <= 0.05 * expected, "{family} {parameter}: {found} against {expected}");
    }
}

#[test]
fn devices_refuse_what_they_have_no_code_for() {
    for (name, model, images) in small() {
        let program = model.network.program(model.network.whole(), images.into(), 2);
        match name {
            "resnet20" => assert!(program.is_ok()),
            _ => {
                let error = program.unwrap_err().to_string();
                assert!(error.starts_with("GPUs run no ") && error.ends_with("use --device cpu"), "{name}: {error}");
            }
        }
    }
}

#[test]
fn plans_name_what_a_family_does_not_have() {
    let error = |settings: &[(&str, &str)]| {
        let all: Vec<(String, String)> = settings.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Plan::preset("quick", &all).unwrap_err().to_string()
    };
    let unknown = error(&[("model.family", "resnet19")]);
    assert!(unknown.contains("model.family") && unknown.contains("resnet18, resnet34"), "{unknown}");
    assert!(error(&[("model.family", "vgg11")]).contains("model.stem"));
    assert!(error(&[("model.depth", "18")]).contains("depth"));
    assert!(error(&[("model.width", "0")]).contains("model.width"));
    let stage = error(&[("explain.stages", "[\"layer3\", \"layer7\"]")]);
    assert!(stage.contains("explain.stages") && stage.contains("`layer7`") && stage.contains("layer4.1"), "{stage}");
    assert!(error(&[("explain.stages", "[]")]).contains("such as layer3"));
}

/// A study of each kind of network, end to end: with maps of another family's stage, and without maps.
#[test]
fn other_families_go_through_a_whole_study() {
    let planted =
        [("data.source", "planted"), ("data.task", "classes"), ("data.train", "320"), ("explain.random", "same-pool")];
    let of = |model: &str, stages: &str, data: &[(&str, &str)]| {
        let settings = [("model", model), ("explain.stages", stages), ("arms", "[\"lottery\"]"), ("prune.rounds", "1")];
        tiny_plan(&[&settings[..], data].concat())
    };
    let cases = [
        (of("{ family = \"lenet-300-100\" }", "[\"fc_layers.1\"]", &[]), [28, 28], "fc_layers.0"),
        (of("{ family = \"conv2\", width = 4 }", "[\"layers.1\", \"fc_layers.0\"]", &[]), [28, 28], "layers.0"),
        (
            of("{ family = \"vgg11_bn\", width = 2 }", "[\"features.21\", \"features.18\"]", &planted),
            [2, 2],
            "features.0",
        ),
    ];
    for (plan, size, first) in cases {
        let out = tempfile::tempdir().unwrap();
        run(&plan, out.path(), &Silent).unwrap();
        let store = Store::existing(out.path()).unwrap();
        assert!(store.manifest().unwrap().pretrained.is_none());
        for id in round_ids(&plan) {
            let record = store.round(&id).unwrap().unwrap();
            let stages = record.grad_cam.iter().map(|cam| cam.stage).collect::<Vec<_>>();
            assert_eq!(stages, plan.explain.stages);
            assert_eq!(record.grad_cam[0].size, size);
            assert!(plan.explain.stages.iter().all(|&stage| record.tcav.iter().any(|found| found.stage == stage)));
            let maps = store.maps(&id).unwrap();
            let map = &maps[plan.explain.stages[0].name()];
            assert_eq!(map.dims()[1..], size);
            assert!(values(map).iter().any(|&value| value > 0.0), "{}", plan.model.family);
        }
        let sanity = store.sanity(0).unwrap().unwrap();
        assert_eq!(sanity.layers[sanity.layers.len() - 1].layer, first);
        assert!(store.study().unwrap().networks.len() >= 2);
    }
}
