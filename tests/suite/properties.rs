//! What must stay the same when something that does not matter changes: invariances of Grad-CAM and
//! TCAV, and round trips.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, IndexOp, Tensor};
use proptest::prelude::*;
use rand::Rng;
use rand::seq::SliceRandom;
use ticketlens::explain::tcav::cav::CavKind;
use ticketlens::explain::tcav::gram::{Rows, cross, gram};
use ticketlens::explain::tcav::{ClassScores, Sets, fit_pairs, score_class};
use ticketlens::explain::{Cut, Targets, grad_cam};
use ticketlens::model::{Block, Forward, Model, ResNet, Stage, Stem, TensorFile, load_into, resnet, save_weights};
use ticketlens::nn::Weights;
use ticketlens::nn::schedule::{Schedule, ScheduleKind};
use ticketlens::plan::Plan;
use ticketlens::plan::Rewind;
use ticketlens::prune::{Mask, Scope, prune, prune_count};
use ticketlens::records::Store;
use ticketlens::records::{RoundId, RoundRecord, Seconds};
use ticketlens::seed;
use ticketlens::stats::effect::concept_effect;

use crate::support::{relative_error, values};

fn noise(seed: u64, shape: &[usize]) -> Tensor {
    let mut stream = seed::stream(seed, "properties/noise", 0);
    let pixels: Vec<f32> = (0..shape.iter().product()).map(|_| stream.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(pixels, shape, &Device::Cpu).unwrap()
}

fn network(seed: u64, width: usize) -> (Model, Weights) {
    let model = resnet(18, width, Stem::Small, 1, 3).unwrap();
    let mut weights = model.network.initialise(seed);
    let mut stream = seed::stream(seed, "properties/trained", 0);
    weights.buffers.iter_mut().for_each(|value| *value += stream.random_range(0.0..0.5));
    (model, weights)
}

/// Where the parameter `name` stands.
fn place(model: &Model, name: &str) -> std::ops::Range<usize> {
    model.network.layout.parameters.iter().find(|spec| spec.name == name).unwrap().range.clone()
}

struct Explained {
    logits: Vec<f32>,
    maps: Vec<f32>,
    scores: ClassScores,
}

const CLASS: usize = 1;

/// Grad-CAM of four images and TCAV of one concept against two random sets, for class 1 at layer3.
fn explain(model: &Model, weights: &Weights, images: &Tensor, swapped: bool) -> Explained {
    let cut = Cut::new(model, Arc::new(weights.clone()), Stage::new("layer3")).unwrap();
    let activation = cut.activation(images).unwrap();
    let found = cut.gradient(&activation, Targets::Class(CLASS)).unwrap();
    let (features, rows) = (activation.elem_count() / images.dim(0).unwrap(), values(&activation));
    let rows = Rows::new(&rows, features).unwrap();
    let gradients = values(&found.gradient);
    let products = cross(Rows::new(&gradients, features).unwrap(), rows).unwrap();
    let (first, second) = ((0..4).collect::<Vec<_>>(), (4..8).collect::<Vec<_>>());
    let (concept, random) = if swapped { (second, first) } else { (first, second) };
    let sets = Sets { concepts: vec![concept], random: vec![random, (8..12).collect()] };
    let cavs = fit_pairs(&gram(rows).unwrap(), sets, &[(0, 1)], CavKind::Logistic { c: 1.0 }, 0).unwrap();
    let maps = values(&grad_cam(&activation, &found.gradient).unwrap().raw);
    Explained { logits: values(&found.logits), maps, scores: score_class(&cavs, &products).unwrap() }
}

/// `exclude` takes a weight's name or its layer's; what it names is neither cut nor counted.
#[test]
fn excluded_layers_are_neither_cut_nor_counted() {
    let (model, weights) = network(4, 2);
    let dense = Mask::dense(model.network.layout.clone());
    let exclude = ["conv1".to_owned(), "fc.weight".to_owned()];
    let named = |name: &str| name == "conv1.weight" || name == "fc.weight";
    let total: usize = model
        .network
        .layout
        .parameters
        .iter()
        .filter(|spec| spec.kind.prunable() && !named(&spec.name))
        .map(|spec| spec.range.len())
        .sum();
    for scope in [Scope::Global, Scope::Layerwise] {
        let mask = prune(&weights, &dense, scope, 0.5, &exclude).unwrap();
        for spec in model.network.layout.parameters.iter().filter(|spec| spec.kind.prunable()) {
            let whole = mask.bits()[spec.range.clone()].iter().all(|&bit| bit == 1);
            assert_eq!(whole, named(&spec.name), "{scope:?} {}", spec.name);
        }
        let (kept, counted) = mask.counts(&exclude);
        assert_eq!(counted, total);
        if scope == Scope::Global {
            assert_eq!(kept, total - prune_count(0.5, total));
        }
        assert!(mask.layer_densities(&exclude).iter().all(|layer| !named(&layer.name)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// h + b has the gradient of h.
    #[test]
    fn adding_to_a_class_logit_changes_no_explanation(seed in any::<u64>(), shift in -50.0f32..50.0) {
        let (model, weights) = network(seed, 2);
        let images = noise(seed, &[12, 1, 16, 16]);
        let before = explain(&model, &weights, &images, false);
        let mut moved = weights.clone();
        moved.parameters[place(&model, "fc.bias").start + CLASS] += shift;
        let after = explain(&model, &moved, &images, false);
        prop_assert!((after.logits[CLASS] - before.logits[CLASS] - shift).abs() < 1e-3);
        prop_assert_eq!(before.maps, after.maps);
        prop_assert_eq!(before.scores, after.scores);
    }

    /// A row of the head times a power of two: maps, sensitivities and effects follow exactly,
    /// scores and standardised effects stay.
    #[test]
    fn scaling_a_row_of_the_head_scales_and_keeps_order(seed in any::<u64>(), power in -3i32..4) {
        let (model, weights) = network(seed, 2);
        let images = noise(seed, &[12, 1, 16, 16]);
        let before = explain(&model, &weights, &images, false);
        let factor = 2f32.powi(power);
        let mut scaled = weights.clone();
        let head = place(&model, "fc.weight");
        let inputs = head.len() / 3;
        for value in &mut scaled.parameters[head][CLASS * inputs..(CLASS + 1) * inputs] {
            *value *= factor;
        }
        let after = explain(&model, &scaled, &images, false);
        let expected: Vec<f32> = before.maps.iter().map(|value| value * factor).collect();
        prop_assert_eq!(&after.maps, &expected);
        let (before, after) = (&before.scores.concepts[0], &after.scores.concepts[0]);
        prop_assert_eq!((before.runs[0].score, before.runs[0].ties), (after.runs[0].score, after.runs[0].ties));
        let factor = f64::from(factor);
        for (b, a) in before.runs[0].sensitivity.iter().zip(&after.runs[0].sensitivity) {
            prop_assert!((b * factor - a).abs() <= 1e-12 * a.abs());
        }
        prop_assert!((before.effect.effect * factor - after.effect.effect).abs() <= 1e-9 * after.effect.effect.abs());
        match (before.effect.effect_standardised, after.effect.effect_standardised) {
            (Some(b), Some(a)) => prop_assert!((b - a).abs() <= 1e-9 * a.abs().max(1.0), "{} {}", b, a),
            (b, a) => prop_assert_eq!(b, a),
        }
    }

    /// The order of the channels carries nothing: neither maps nor concepts depend on it.
    #[test]
    fn channels_in_another_order_give_the_same_explanations(seed in any::<u64>()) {
        let (count, channels, side) = (12, 6, 4);
        let activation = noise(seed, &[count, channels, side, side]);
        let gradient = noise(seed ^ 1, &[count, channels, side, side]);
        let mut order: Vec<u32> = (0..channels as u32).collect();
        order.shuffle(&mut seed::stream(seed, "properties/order", 0));
        let order = Tensor::new(order, &Device::Cpu).unwrap();
        let (other_activation, other_gradient) =
            (activation.index_select(&order, 1).unwrap(), gradient.index_select(&order, 1).unwrap());
        let maps = |a: &Tensor, g: &Tensor| values(&grad_cam(a, g).unwrap().raw);
        prop_assert!(relative_error(&maps(&other_activation, &other_gradient), &maps(&activation, &gradient)) < 1e-5);
        let scores = |a: &Tensor, g: &Tensor| {
            let (a, g) = (values(a), values(g));
            let features = channels * side * side;
            let (a, g) = (Rows::new(&a, features).unwrap(), Rows::new(&g, features).unwrap());
            let sets = Sets { concepts: vec![(0..4).collect()], random: vec![(4..8).collect(), (8..12).collect()] };
            let cavs = fit_pairs(&gram(a).unwrap(), sets, &[(0, 1), (0, 2)], CavKind::Logistic { c: 1.0 }, 0).unwrap();
            score_class(&cavs, &cross(g, a).unwrap()).unwrap()
        };
        let (one, two) = (scores(&activation, &gradient), scores(&other_activation, &other_gradient));
        for (a, b) in one.concepts[0].runs.iter().zip(&two.concepts[0].runs) {
            for (a, b) in a.sensitivity.iter().zip(&b.sensitivity) {
                prop_assert!((a - b).abs() < 1e-5);
            }
        }
        prop_assert!((one.concepts[0].effect.effect - two.concepts[0].effect.effect).abs() < 1e-5);
    }

    /// What speaks for the concept speaks against its counterpart.
    #[test]
    fn swapping_concept_and_random_set_reverses_every_sensitivity(seed in any::<u64>()) {
        let (model, weights) = network(seed, 2);
        let images = noise(seed, &[12, 1, 16, 16]);
        let (one, two) = (explain(&model, &weights, &images, false), explain(&model, &weights, &images, true));
        let (one, two) = (&one.scores.concepts[0].runs[0], &two.scores.concepts[0].runs[0]);
        for (a, b) in one.sensitivity.iter().zip(&two.sensitivity) {
            prop_assert!((a + b).abs() <= 1e-7 * a.abs().max(1e-9), "{} {}", a, b);
        }
        prop_assert!((one.score + two.score + one.ties - 1.0).abs() < 1e-12);
    }
}

proptest! {
    #[test]
    fn the_concept_effect_is_antisymmetric_and_does_not_care_for_order_or_origin(
        concept in prop::collection::vec(-100i32..100, 3..20),
        random in prop::collection::vec(-100i32..100, 3..20),
        origin in -1000i32..1000,
    ) {
        let floats = |values: &[i32], by: i32| values.iter().map(|value| f64::from(value + by) / 16.0).collect::<Vec<_>>();
        let (a, b) = (floats(&concept, 0), floats(&random, 0));
        let Ok(effect) = concept_effect(&a, &b) else { return Ok(()) };
        let back = concept_effect(&b, &a).unwrap();
        prop_assert_eq!((effect.effect, effect.effect_standardised), (-back.effect, -back.effect_standardised));
        let moved = concept_effect(&floats(&concept, origin), &floats(&random, origin)).unwrap();
        prop_assert!((effect.effect_standardised - moved.effect_standardised).abs() < 1e-9);
        let (mut c, mut d) = (a, b);
        c.reverse();
        d.rotate_left(1);
        prop_assert!((concept_effect(&c, &d).unwrap().effect_standardised - effect.effect_standardised).abs() < 1e-9);
    }

    #[test]
    fn a_schedule_stays_between_nothing_and_the_base_rate(
        kind in prop_oneof![
            Just(ScheduleKind::Constant),
            Just(ScheduleKind::Cosine),
            (1u64..9, 0.0f64..1.0).prop_map(|(every_epochs, factor)| ScheduleKind::Step { every_epochs, factor }),
        ],
        warmup_steps in 0u64..50,
        steps_per_epoch in 1u64..40,
        epochs in 1u64..20,
    ) {
        let schedule = Schedule { kind, warmup_steps, steps_per_epoch, total_steps: steps_per_epoch * epochs };
        let factors: Vec<f64> = (0..schedule.total_steps + 3).map(|step| schedule.factor(step)).collect();
        prop_assert!(factors.iter().all(|factor| (0.0..=1.0).contains(factor)));
        // Before the first drop it only rises; after the warm-up it only falls.
        let after = factors.iter().skip(warmup_steps as usize);
        prop_assert!(after.clone().zip(after.skip(1)).all(|(now, next)| next <= now));
    }

    #[test]
    fn a_rewind_point_is_read_back_or_refused(number in any::<u64>(), text in "\\PC{0,12}") {
        prop_assert_eq!(Rewind::parse(&format!("{number}ep")).unwrap(), Rewind::Epochs(number));
        prop_assert_eq!(Rewind::parse(&format!("{number}it")).unwrap(), Rewind::Steps(number));
        // No overflow whatever the number.
        prop_assert!(Rewind::Epochs(number).step(100) >= number);
        let digits = text.strip_suffix("ep").or(text.strip_suffix("it"));
        if digits.is_none_or(|digits| digits.parse::<u64>().is_err()) {
            prop_assert!(Rewind::parse(&text).is_err());
        }
    }

    #[test]
    fn plans_survive_a_round_trip_and_their_hash_sees_every_change(
        seed in 0u64..1 << 60,
        replicates in 2usize..9,
        fraction in 0.01f64..0.99,
        rounds in 1usize..30,
        rate in 1e-5f64..1.0,
        decay in 0.0f64..0.1,
        excluded in prop::collection::vec("[a-z0-9.]{1,12}", 0..3),
        layerwise: bool,
        stages in prop::sample::subsequence(vec!["layer1", "layer2", "layer3", "layer4"], 1..=4),
        name in "[a-zA-Zé0-9_ +-][a-zA-Zé0-9_ .+-]{0,19}",
    ) {
        let overrides: Vec<(String, String)> = [
            ("seed", seed.to_string()),
            ("replicates", replicates.to_string()),
            ("prune.fraction", format!("{fraction:?}")),
            ("prune.rounds", rounds.to_string()),
            ("prune.exclude", format!("{excluded:?}")),
            ("prune.scope", if layerwise { "layerwise" } else { "global" }.to_owned()),
            ("train.learning_rate", format!("{rate:?}")),
            ("train.weight_decay", format!("{decay:?}")),
            ("explain.stages", format!("{stages:?}")),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
        let mut plan = Plan::preset("quick", &overrides).unwrap();
        plan.name = name;
        let again = Plan::parse("again", &plan.to_toml().unwrap(), &[]).unwrap();
        prop_assert_eq!(&plan, &again);
        prop_assert_eq!(plan.digest().unwrap(), again.digest().unwrap());
        let mut other = plan.clone();
        other.name.push('x');
        prop_assert_eq!(plan.digest().unwrap(), other.digest().unwrap());
        let changes: [fn(&mut Plan); 5] = [
            |plan| plan.seed += 1,
            |plan| plan.prune.fraction = plan.prune.fraction.next_up(),
            |plan| plan.train.learning_rate = plan.train.learning_rate.next_up(),
            |plan| plan.prune.exclude.push("fc".into()),
            |plan| plan.verdict.drift_margin = plan.verdict.drift_margin.next_up(),
        ];
        for change in changes {
            let mut other = plan.clone();
            change(&mut other);
            prop_assert_ne!(plan.digest().unwrap(), other.digest().unwrap());
        }
    }
}

/// A whole pixel shift of the input by the network's stride moves Grad-CAM by one position, away
/// from the borders: two windows of one canvas, the last stage (stride 8; its receptive field is
/// 109 pixels), where the gradient of GAP + linear is the same everywhere.
#[test]
fn moving_the_image_by_the_stride_moves_the_map() {
    // Running means above zero, as in the other properties, leave the last stage of a random network dead.
    let (model, _) = network(3, 6);
    let weights = Arc::new(model.network.initialise(3));
    let canvas = noise(3, &[1, 1, 184, 176]);
    let maps = |top: usize, class: usize| {
        let window = canvas.i((.., .., top..top + 176, ..)).unwrap().contiguous().unwrap();
        let cut = Cut::new(&model, weights.clone(), Stage::new("layer4")).unwrap();
        let activation = cut.activation(&window).unwrap();
        let found = cut.gradient(&activation, Targets::Class(class)).unwrap();
        let raw = grad_cam(&activation, &found.gradient).unwrap().raw;
        raw.to_vec3::<f32>().unwrap().remove(0)
    };
    let mut seen = 0;
    for class in 0..3 {
        let (still, moved) = (maps(0, class), maps(8, class));
        for row in 8..13 {
            for column in 8..14 {
                let (a, b) = (still[row + 1][column], moved[row][column]);
                assert!((a - b).abs() <= 1e-5 * a.abs().max(0.01), "{class}, row {row}, column {column}: {a} and {b}");
                seen += usize::from(a > 0.0 && moved[row + 1][column] != b);
            }
        }
    }
    assert!(seen > 5, "maps without a pattern would show nothing");
}

/// Finite values of every size and sign, for records.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>().prop_filter("JSON holds finite numbers", |value| value.is_finite()), -1.0f64..1.0]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn weights_masks_and_records_come_back_bit_for_bit(
        seed in any::<u64>(),
        fraction in 0.05f64..0.95,
        layerwise: bool,
        losses in prop::collection::vec(number(), 0..6),
        accuracies in (number(), number(), number()),
        id in (prop::sample::select(vec!["lottery", "random_mask", "reinit"]), 0usize..4, 1usize..40),
    ) {
        let model = resnet(18, 1, Stem::Small, 1, 2).unwrap();
        let layout = model.network.layout.clone();
        let mut weights = model.network.initialise(seed);
        for (value, special) in weights.parameters.iter_mut().zip([-0.0, f32::MIN_POSITIVE, 1e-45, f32::MAX, -1e-45]) {
            *value = special;
        }
        let scope = if layerwise { Scope::Layerwise } else { Scope::Global };
        let mask = prune(&weights, &Mask::dense(layout.clone()), scope, fraction, &[]).unwrap();
        let maps = BTreeMap::from([("layer3".to_owned(), noise(seed, &[3, 2, 2]))]);
        let record = RoundRecord {
            format: ticketlens::records::FORMAT,
            id: RoundId { arm: id.0.to_owned(), replicate: id.1, round: id.2 },
            weights: weights.digest(),
            density: mask.density(&[]),
            kept: mask.counts(&[]).0,
            total: mask.counts(&[]).1,
            layers: mask.layer_densities(&[]),
            epoch_loss: losses,
            looks: Vec::new(),
            validation_accuracy: accuracies.0,
            test_accuracy: accuracies.1,
            class_accuracy: vec![accuracies.1, accuracies.0],
            test_correct: "1011".into(),
            grad_cam: Vec::new(),
            input_maps: Vec::new(),
            representations: Vec::new(),
            tcav: Vec::new(),
            cavs: Vec::new(),
            faithfulness: Vec::new(),
            calibration: Vec::new(),
            localisation: Vec::new(),
            seconds: Seconds { train: accuracies.2, explain: 0.0 },
        };
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan::preset("quick", &[]).unwrap();
        let store = Store::open(folder.path(), &plan).unwrap();
        prop_assert_eq!(store.round(&record.id).unwrap(), None);
        store.finish_round(&record, &weights, &mask, &maps).unwrap();
        prop_assert_eq!(store.plan().unwrap(), plan);
        prop_assert!(store.weights(&record.id, &model).unwrap() == weights);
        prop_assert!(store.mask(&record.id, &layout).unwrap() == mask);
        prop_assert_eq!(values(&store.maps(&record.id).unwrap()["layer3"]), values(&maps["layer3"]));
        prop_assert_eq!(store.round(&record.id).unwrap().unwrap(), record);
    }

    /// A checkpoint says its own architecture, whatever that is.
    #[test]
    fn a_checkpoint_is_read_back_as_the_network_that_wrote_it(
        bottleneck: bool,
        blocks in prop::array::uniform4(1usize..3),
        width in 1usize..4,
        large: bool,
        channels in 1usize..4,
        classes in 2usize..5,
        seed in any::<u64>(),
    ) {
        let block = if bottleneck { Block::Bottleneck } else { Block::Basic };
        let stem = if large { Stem::Large } else { Stem::Small };
        let model = ResNet { block, blocks, width, stem, channels, classes, forward: Forward::default() }.model();
        let weights = model.network.initialise(seed);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        std::fs::write(&path, save_weights(&weights).unwrap()).unwrap();
        let read = ticketlens::model::load_checkpoint(&path).unwrap();
        prop_assert!(read.model.same_as(&model) && read.model.name == model.name);
        prop_assert!(*read.weights == weights);
        prop_assert!(load_into(&model, &TensorFile::open(&path).unwrap()).unwrap() == weights);
    }

    #[test]
    fn a_shuffled_mask_keeps_each_layers_count_and_touches_nothing_else(seed in any::<u64>(), fraction in 0.1f64..0.9) {
        let model = resnet(18, 2, Stem::Small, 1, 2).unwrap();
        let weights = model.network.initialise(seed);
        let mask = prune(&weights, &Mask::dense(model.network.layout.clone()), Scope::Global, fraction, &[]).unwrap();
        let shuffled = mask.shuffled(seed);
        prop_assert_eq!(mask.layer_densities(&[]), shuffled.layer_densities(&[]));
        prop_assert_ne!(&mask, &shuffled);
        prop_assert!(shuffled == mask.shuffled(seed));
        for spec in model.network.layout.parameters.iter().filter(|spec| !spec.kind.prunable()) {
            prop_assert!(shuffled.bits()[spec.range.clone()].iter().all(|&bit| bit == 1));
        }
    }
}
