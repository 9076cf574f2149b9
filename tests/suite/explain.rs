//! Explanations against closed forms, an independent forward pass, and the promise to change nothing.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use candle_nn::{Module, VarBuilder};
use rand::Rng;
use ticketlens::explain::tcav::cav::CavKind;
use ticketlens::explain::tcav::gram::{Rows, cross, gram};
use ticketlens::explain::tcav::{Sets, fit_pairs, score_class};
use ticketlens::explain::{Cut, Targets, grad_cam, normalise};
use ticketlens::model::{Model, Stage, Stem, resnet};
use ticketlens::nn::Weights;
use ticketlens::seed;

use crate::support::{relative_error, values};

fn noise(name: &str, shape: &[usize]) -> Tensor {
    let mut stream = seed::stream(11, name, 0);
    let count = shape.iter().product();
    let pixels: Vec<f32> = (0..count).map(|_| stream.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(pixels, shape, &Device::Cpu).unwrap()
}

fn model(stem: Stem, width: usize, channels: usize, classes: usize) -> (Model, Arc<Weights>) {
    let model = resnet(18, width, stem, channels, classes).unwrap();
    let mut weights = model.network.initialise(5);
    // Running statistics as after some training, so that eval mode is not the identity.
    let mut stream = seed::stream(12, "test/buffers", 0);
    weights.buffers.iter_mut().for_each(|value| *value += stream.random_range(0.0..0.5));
    (model, Arc::new(weights))
}

#[test]
fn logits_equal_candle_transformers() {
    let (model, weights) = model(Stem::Large, 64, 3, 7);
    let images = noise("test/images", &[2, 3, 64, 64]);
    let tensors = weights.tensors().unwrap().into_iter().collect();
    let builder = VarBuilder::from_tensors(tensors, candle_core::DType::F32, &Device::Cpu);
    let peer = candle_transformers::models::resnet::resnet18(7, builder).unwrap();
    let expected = peer.forward(&images).unwrap();
    let cut = Cut::new(&model, weights, Stage::new("layer2")).unwrap();
    let ours = cut.logits(&cut.activation(&images).unwrap()).unwrap();
    let error = relative_error(&values(&ours), &values(&expected));
    assert!(error < 1e-4, "{error:e}");
}

#[test]
fn every_cut_gives_the_same_logits_and_changes_no_weight_or_buffer() {
    let (model, weights) = model(Stem::Small, 4, 1, 3);
    let before = Weights::clone(&weights);
    let images = noise("test/images", &[5, 1, 20, 20]);
    let mut all = Vec::new();
    for stage in model.stages() {
        let cut = Cut::new(&model, weights.clone(), stage).unwrap();
        let activation = cut.activation(&images).unwrap();
        let result = cut.gradient(&activation, Targets::Predicted).unwrap();
        assert_eq!(result.gradient.dims(), activation.dims());
        all.push(values(&result.logits));
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    assert!(before == *weights);
}

/// At the last stage of a GAP + linear head the gradient of logit c is `w_c / Z` everywhere: Grad-CAM is
/// `ReLU(Σ w_cm A_m) / Z`, and the sensitivity is the same for every image, so the score is 0 or 1.
#[test]
fn the_last_stage_meets_its_closed_forms() {
    let (model, weights) = model(Stem::Small, 4, 1, 3);
    let images = noise("test/images", &[6, 1, 24, 24]);
    let cut = Cut::new(&model, weights.clone(), Stage::new("layer4")).unwrap();
    let activation = cut.activation(&images).unwrap();
    let (count, channels, height, width) = activation.dims4().unwrap();
    let class = 2;
    let gradient = cut.gradient(&activation, Targets::Class(class)).unwrap().gradient;
    let cam = grad_cam(&activation, &gradient).unwrap();
    let head = model.network.layout.parameters.iter().find(|spec| spec.name == "fc.weight").unwrap();
    let row = &weights.parameters[head.range.clone()][class * channels..(class + 1) * channels];
    let flat = values(&activation);
    let positions = height * width;
    let mut expected = Vec::new();
    for image in 0..count {
        for position in 0..positions {
            let sum: f32 = (0..channels).map(|c| row[c] * flat[(image * channels + c) * positions + position]).sum();
            expected.push(sum.max(0.0) / positions as f32);
        }
    }
    assert!(relative_error(&values(&cam.raw), &expected) < 1e-5);

    let features = channels * positions;
    let rows = values(&cut.activation(&noise("test/sets", &[24, 1, 24, 24])).unwrap());
    let rows = Rows::new(&rows, features).unwrap();
    let sets = Sets { concepts: vec![(0..8).collect()], random: vec![(8..16).collect(), (16..24).collect()] };
    let pairs = [(0, 1), (0, 2), (1, 2)];
    let cavs = fit_pairs(&gram(rows).unwrap(), sets, &pairs, CavKind::Logistic { c: 1.0 }, 0).unwrap();
    let gradient = values(&gradient);
    let products = cross(Rows::new(&gradient, features).unwrap(), rows).unwrap();
    let scores = score_class(&cavs, &products).unwrap();
    for run in &scores.concepts[0].runs {
        assert!(run.score == 0.0 || run.score == 1.0, "{}", run.score);
        let first = run.sensitivity[0];
        assert!(run.sensitivity.iter().all(|s| (s - first).abs() <= 1e-6 * first.abs()));
    }
}

#[test]
fn an_all_zero_map_stays_zero_and_is_flagged() {
    let activation = noise("test/activation", &[2, 3, 4, 4]).abs().unwrap();
    let up = Tensor::ones((1, 3, 4, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
    let gradient = Tensor::cat(&[&up, &up.neg().unwrap()], 0).unwrap();
    let cam = grad_cam(&activation, &gradient).unwrap();
    assert_eq!(cam.degenerate, [false, true]);
    let normalised = values(&normalise(&cam.raw).unwrap());
    assert_eq!(normalised[..16].iter().copied().fold(0.0, f32::max), 1.0);
    assert!(normalised[16..].iter().all(|&value| value == 0.0));
}
