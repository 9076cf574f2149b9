//! Each switch of `[as_published]` shows the defect it is named for, alone; with all off there is nothing to see.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use candle_core::Tensor;
use ticketlens::data::{Images, Subset};
use ticketlens::explain::saliency::GRAD_CAM;
use ticketlens::explain::{Cut, Targets};
use ticketlens::model::Stage;
use ticketlens::nn::{ParameterKind, Weights};
use ticketlens::plan::{AsPublished, Plan};
use ticketlens::progress::Silent;
use ticketlens::prune::{Mask, Prunable, prune_count};
use ticketlens::records::Store;
use ticketlens::records::{RoundId, RoundRecord};
use ticketlens::run::EPSILON;
use ticketlens::run::Setup;
use ticketlens::stats::correlation::pearson_coefficient;
use ticketlens::study::run;
use ticketlens::train::{Training, evaluate};

use crate::run::tiny_plan;
use crate::support::values;

/// Small even for tests: one arm, rewound to the start, trained without weight decay so that what
/// moves, the loss has moved.
fn plan(overrides: &[(&str, &str)]) -> Plan {
    let mut all = vec![
        ("arms", "[\"lottery\"]"),
        ("prune.rewind", "0ep"),
        ("prune.rounds", "1"),
        ("train.weight_decay", "0.0"),
        ("data.train", "160"),
        ("data.test", "150"),
    ];
    all.extend_from_slice(overrides);
    tiny_plan(&all)
}

/// A finished run.
struct Run {
    plan: Plan,
    setup: Setup,
    store: Store,
    _folder: tempfile::TempDir,
}

impl Run {
    fn of(overrides: &[(&str, &str)]) -> Self {
        let plan = plan(overrides);
        let folder = tempfile::tempdir().unwrap();
        run(&plan, folder.path(), &Silent).unwrap();
        let setup = Setup::new(&plan).unwrap();
        Self { plan, setup, store: Store::existing(folder.path()).unwrap(), _folder: folder }
    }

    /// With every switch off.
    fn corrected() -> &'static Self {
        static RUN: OnceLock<Run> = OnceLock::new();
        RUN.get_or_init(|| Run::of(&[]))
    }

    fn id(round: usize) -> RoundId {
        RoundId { arm: "lottery".into(), replicate: 0, round }
    }

    fn record(&self, round: usize) -> RoundRecord {
        self.store.round(&Self::id(round)).unwrap().unwrap()
    }

    fn weights(&self, round: usize) -> Weights {
        self.store.weights(&Self::id(round), &self.setup.model).unwrap()
    }

    fn mask(&self, round: usize) -> Mask {
        self.store.mask(&Self::id(round), &self.setup.model.network.layout).unwrap()
    }

    fn initial(&self) -> Weights {
        self.setup.model.network.initialise(self.plan.seed)
    }

    /// Trains once more from `start` with the mask of `round`.
    fn trained_from(&self, mut start: Weights, round: usize) -> Weights {
        let images = Subset::new(&self.setup.data, &self.setup.splits.train);
        let config = self.plan.train_config();
        let total = config.total_steps(images.len());
        let training = Training { model: &self.setup.model, images: &images, config: &config, seed: self.plan.seed };
        training.run(&mut start, &self.mask(round), 0, total, &Silent, |_, _| {}).unwrap();
        start
    }
}

#[test]
fn a_plan_without_switches_is_written_and_hashed_as_if_there_were_none() {
    let without = plan(&[]);
    assert!(!without.to_toml().unwrap().contains("as_published"));
    let off: Vec<String> =
        without.as_published.switches().iter().map(|(name, _)| format!("as_published.{name}")).collect();
    let off: Vec<(&str, &str)> = off.iter().map(|key| (key.as_str(), "false")).collect();
    let explicit = plan(&off);
    assert_eq!(explicit, without);
    assert_eq!(explicit.digest().unwrap(), without.digest().unwrap());
    let mut digests = BTreeSet::from([without.digest().unwrap()]);
    for (key, _) in &off {
        let on = plan(&[(key, "true")]);
        assert_eq!(on.as_published.switches().iter().filter(|(_, on)| *on).count(), 1, "{key}");
        assert_eq!(Plan::parse("again", &on.to_toml().unwrap(), &[]).unwrap(), on);
        assert!(digests.insert(on.digest().unwrap()), "{key} does not enter the hash");
    }
    let error = Plan::preset("quick", &[("as_published.keep_bufers".into(), "true".into())]).unwrap_err().to_string();
    assert!(error.contains("keep_bufers"), "{error}");
}

#[test]
fn the_presets_differ_in_the_switches_alone() {
    let corrected = Plan::preset("mnist-corrected", &[]).unwrap();
    let mut published = Plan::preset("mnist-as-published", &[]).unwrap();
    assert!(corrected.as_published.is_off());
    assert!(published.as_published.switches().iter().all(|(_, on)| *on));
    published.as_published = AsPublished::default();
    published.name.clone_from(&corrected.name);
    assert_eq!(published, corrected);
}

#[test]
fn freeze_below_epsilon_keeps_the_loss_from_every_negative_weight() {
    let run = Run::of(&[("as_published.freeze_below_epsilon", "true")]);
    let (initial, trained) = (run.initial(), run.weights(0));
    let clean = Run::corrected().weights(0);
    let layout = initial.layout().clone();
    let (mut frozen, mut moved, mut clean_moved) = (0, 0, 0);
    for spec in layout.parameters.iter().filter(|spec| spec.kind.prunable()) {
        for at in spec.range.clone() {
            let start = initial.parameters[at];
            if start < EPSILON {
                assert_eq!(start.to_bits(), trained.parameters[at].to_bits(), "{} moved", spec.name);
                frozen += 1;
                clean_moved += usize::from(clean.parameters[at] != start);
            } else {
                moved += usize::from(trained.parameters[at] != start);
            }
        }
    }
    assert!(frozen > 10_000 && moved > frozen / 2 && clean_moved > frozen / 2, "{frozen} {moved} {clean_moved}");
}

#[test]
fn prune_batch_norm_takes_scales_and_with_them_channels() {
    let run = Run::of(&[("as_published.prune_batch_norm", "true"), ("prune.scope", "layerwise")]);
    let (mask, weights) = (run.mask(1), run.weights(1));
    assert!(mask.holds(&weights), "w (1 - m) = 0 holds for scales too");
    let layout = weights.layout().clone();
    let mut scales = 0;
    for spec in layout.parameters.iter().filter(|spec| spec.kind == ParameterKind::NormScale) {
        let gone = mask.bits()[spec.range.clone()].iter().filter(|bit| **bit == 0).count();
        assert_eq!(gone, prune_count(0.5, spec.range.len()), "{}", spec.name);
        scales += spec.range.len();
    }
    assert_eq!(run.record(1).total, Run::corrected().record(1).total + scales);
    let clean = Run::corrected().mask(1);
    let touched = |spec: &&ticketlens::nn::TensorSpec<ParameterKind>| clean.bits()[spec.range.clone()].contains(&0);
    assert!(layout.parameters.iter().filter(touched).all(|spec| spec.kind.prunable()));
}

#[test]
fn per_layer_percentile_leaves_ties_and_counts_no_zeros() {
    let setup = &Run::corrected().setup;
    let plan = plan(&[("as_published.per_layer_percentile", "true"), ("prune.fraction", "0.3")]);
    let mut weights = setup.model.network.initialise(3);
    let layout = weights.layout().clone();
    let kernels: Vec<_> = layout.parameters.iter().filter(|spec| spec.kind.prunable()).collect();
    // A layer of one magnitude: none lies strictly below the percentile, so none goes. The exact
    // cut takes three tenths.
    weights.parameters[kernels[0].range.clone()].fill(-0.5);
    // A fifth of this layer is zero already: zeros go without counting, and three tenths of the rest go with them.
    let second = kernels[1].range.clone();
    let zeros = second.len() / 5;
    weights.parameters[second.start..second.start + zeros].fill(0.0);
    let mask = Mask::dense_of(layout.clone(), Prunable::Weights);
    let published = plan.as_published.prune(&plan.prune, 1, &weights, &mask).unwrap();
    let exact = AsPublished::default().prune(&plan.prune, 1, &weights, &mask).unwrap();
    let gone =
        |mask: &Mask, layer: usize| mask.bits()[kernels[layer].range.clone()].iter().filter(|bit| **bit == 0).count();
    assert_eq!(gone(&published, 0), 0);
    let alive = (second.len() - zeros) as f64;
    assert_eq!(gone(&published, 1), zeros + (0.3 * (alive - 1.0)).ceil() as usize);
    // Every layer loses its share; the exact cut is over the whole network and exact there.
    for (layer, kernel) in kernels.iter().enumerate().skip(2) {
        let share = gone(&published, layer) as f64 / kernel.range.len() as f64;
        assert!((share - 0.3).abs() < 0.05, "{}: {share}", kernel.name);
    }
    let total: usize = kernels.iter().map(|spec| spec.range.len()).sum();
    assert_eq!((0..kernels.len()).map(|layer| gone(&exact, layer)).sum::<usize>(), prune_count(0.3, total));
    let spread: Vec<usize> =
        (2..kernels.len()).map(|layer| gone(&exact, layer) * 100 / kernels[layer].range.len()).collect();
    assert!(spread.iter().max().unwrap() - spread.iter().min().unwrap() > 5, "{spread:?}");
}

#[test]
fn keep_buffers_starts_a_ticket_from_the_buffers_of_the_network_before() {
    let run = Run::of(&[("as_published.keep_buffers", "true")]);
    let mut start = run.initial();
    assert!(run.trained_from(start.clone(), 1) != run.weights(1), "the buffers were rewound");
    start.buffers = run.weights(0).buffers;
    assert!(run.trained_from(start, 1) == run.weights(1));
    let clean = Run::corrected();
    assert!(clean.trained_from(clean.initial(), 1) == clean.weights(1));
}

#[test]
fn alias_biases_rewinds_biases_once_and_never_again() {
    let run = Run::of(&[("as_published.alias_biases", "true"), ("prune.rounds", "3")]);
    let layout = run.initial().layout().clone();
    let is_bias = |kind| matches!(kind, ParameterKind::LinearBias | ParameterKind::NormShift);
    for round in 1..=3 {
        let mut start = run.initial();
        let untouched = run.trained_from(start.clone(), round) == run.weights(round);
        assert_eq!(untouched, round == 1, "round {round}: biases of theta_0");
        if round > 1 {
            let before = run.weights(round - 1);
            for spec in layout.parameters.iter().filter(|spec| is_bias(spec.kind)) {
                start.parameters[spec.range.clone()].copy_from_slice(&before.parameters[spec.range.clone()]);
            }
            assert_ne!(start, run.initial(), "round {round}: the bias is not theta_0's");
            assert!(run.trained_from(start, round) == run.weights(round), "round {round}");
        }
    }
}

#[test]
fn explain_best_validation_explains_one_network_and_prunes_another() {
    let run = Run::of(&[
        ("as_published.explain_best_validation", "true"),
        ("train.epochs", "4"),
        ("train.schedule", "{ name = \"constant\" }"),
        ("prune.rounds", "3"),
    ]);
    let model = &run.setup.model;
    let validation = Subset::new(&run.setup.data, &run.setup.splits.validation);
    let mut apart = 0;
    for round in 0..=3 {
        let (explained, last) = (run.weights(round), run.store.last_weights(&Run::id(round), model).unwrap());
        assert_eq!(run.record(round).weights, explained.digest());
        assert!(run.trained_from(run.initial(), round) == last, "round {round}: training itself is as ever");
        let correct = evaluate(model, &last, &validation, 64).unwrap();
        let share = correct.iter().filter(|right| **right).count() as f64 / correct.len() as f64;
        assert!(
            run.record(round).validation_accuracy >= share,
            "round {round}: the best epoch is not worse than the last"
        );
        if explained == last {
            continue;
        }
        apart += 1;
        if round < 3 {
            let prune = |weights: &Weights| {
                AsPublished::default().prune(&run.plan.prune, round + 1, weights, &run.mask(round)).unwrap()
            };
            assert!(run.mask(round + 1) == prune(&last), "round {round}: the last epoch is pruned");
            assert!(run.mask(round + 1) != prune(&explained), "round {round}");
        }
    }
    assert!(apart > 0, "in every round the last epoch was the best: the test shows nothing");
}

#[test]
fn duplicate_leak_trains_on_copies_of_test_images() {
    let sizes = [("data.train", "1200"), ("data.validation", "300"), ("data.test", "600")];
    let setup =
        |leak: &str| Setup::new(&plan(&[&sizes[..], &[("as_published.duplicate_leak", leak)]].concat())).unwrap();
    let trained_on = |setup: &Setup| {
        let content = |indices: &[usize]| indices.iter().map(|&i| setup.data.content(i)).collect::<Vec<_>>();
        let train: BTreeSet<_> = content(&setup.splits.train).into_iter().collect();
        let test = content(&setup.splits.test);
        test.iter().filter(|image| train.contains(*image)).count() as f64 / test.len() as f64
    };
    let (clean, leaking) = (setup("false"), setup("true"));
    assert_eq!(trained_on(&clean), 0.0);
    let share = trained_on(&leaking);
    assert!((share - 0.4).abs() < 0.06, "{share} of the test images");
    let sizes_of = |setup: &Setup| [&setup.splits.train, &setup.splits.validation, &setup.splits.test].map(Vec::len);
    assert_eq!(sizes_of(&leaking), sizes_of(&clean));
    let all = [&leaking.splits.train[..], &leaking.splits.validation, &leaking.splits.test].concat();
    for image in &all {
        assert!(all.iter().filter(|other| *other == image).count() <= 2);
    }
    // Where explanations draw, an image stands once, and none is both explained and in a concept.
    let explained: BTreeSet<usize> = leaking.class_images.iter().flatten().copied().collect();
    for concept in leaking.concepts.iter().flat_map(|tested| &tested.sets.concepts) {
        assert_eq!(concept.images.iter().collect::<BTreeSet<_>>().len(), concept.images.len());
        assert!(concept.images.iter().all(|image| !explained.contains(image)));
    }
    let error = Setup::new(&plan(&[("data.test", "800"), ("as_published.duplicate_leak", "true")])).err().unwrap();
    assert!(error.to_string().contains("data.test"), "{error}");
}

/// The trained network of the corrected run cut at layer3, and the activation of some images.
fn cut() -> (Cut, Tensor, Vec<usize>) {
    let run = Run::corrected();
    let cut = Cut::new(&run.setup.model, Arc::new(run.weights(0)), Stage::new("layer3")).unwrap();
    let images = &run.setup.cam_images[..8];
    let activation = cut.activation(&run.setup.data.tensor(images).unwrap()).unwrap();
    (cut, activation, images.iter().map(|&image| run.setup.data.label(image)).collect())
}

#[test]
fn probability_gradient_mixes_classes_and_vanishes_with_confidence() {
    let (cut, activation, labels) = cut();
    let published = AsPublished { probability_gradient: true, ..AsPublished::default() };
    let of = |class| values(&cut.gradient(&activation, Targets::Class(class)).unwrap().gradient);
    let (even, odd) = (of(0), of(1));
    let found = published.gradient(&cut, &activation, Targets::PerImage(&labels)).unwrap();
    let logits = found.logits.to_vec2::<f32>().unwrap();
    let gradient = values(&found.gradient);
    let size = gradient.len() / labels.len();
    for (image, &class) in labels.iter().enumerate() {
        let margin = f64::from(logits[image][class] - logits[image][1 - class]);
        let doubt = 1.0 / (1.0 + margin.exp());
        for at in image * size..(image + 1) * size {
            let difference = f64::from(even[at]) - f64::from(odd[at]);
            let expected = doubt * if class == 0 { difference } else { -difference };
            let tolerance = 1e-5 * (1.0 + even[at].abs() + odd[at].abs());
            assert!((f64::from(gradient[at]) - expected).abs() < f64::from(tolerance), "image {image}");
        }
    }
    // The same network, surer of itself: the logit's gradient stays, the probability's is gone, and with it the map.
    let run = Run::corrected();
    let mut sure = run.weights(0);
    let head =
        sure.layout().parameters.iter().find(|spec| spec.kind == ParameterKind::LinearWeight).unwrap().range.clone();
    sure.parameters[head].iter_mut().for_each(|weight| *weight *= 1e4);
    let cut = Cut::new(&run.setup.model, Arc::new(sure), Stage::new("layer3")).unwrap();
    let predicted = Targets::Predicted;
    assert!(values(&cut.gradient(&activation, predicted).unwrap().gradient).iter().any(|g| *g != 0.0));
    let gone = published.gradient(&cut, &activation, predicted).unwrap().gradient;
    assert!(values(&gone).iter().all(|g| *g == 0.0));
    assert!(published.method(GRAD_CAM).at_stage(&activation, &gone).unwrap().degenerate.iter().all(|blank| *blank));
}

#[test]
fn cam_added_gradients_maps_the_mean_channel_whatever_the_class() {
    let (cut, activation, _) = cut();
    let published = AsPublished { cam_added_gradients: true, ..AsPublished::default() };
    let plain = activation.mean(1).unwrap().flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
    let wide = |map: &[f32]| -> Vec<f64> { map.iter().copied().map(f64::from).collect() };
    let correlations = |switches: &AsPublished, class| {
        let gradient = cut.gradient(&activation, Targets::Class(class)).unwrap().gradient;
        let maps = switches.method(GRAD_CAM).at_stage(&activation, &gradient).unwrap().raw;
        let maps = maps.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
        let with_plain = |(map, plain): (&Vec<f32>, &Vec<f32>)| pearson_coefficient(&wide(map), &wide(plain));
        maps.iter().zip(&plain).map(|pair| with_plain(pair).unwrap_or(0.0)).collect::<Vec<f64>>()
    };
    for class in [0, 1] {
        for correlation in correlations(&published, class) {
            assert!(correlation > 0.9999, "class {class}: {correlation}");
        }
        assert!(correlations(&AsPublished::default(), class).iter().any(|correlation| *correlation < 0.9));
    }
}

#[test]
fn no_random_cavs_scores_without_a_test() {
    let run = Run::of(&[("as_published.no_random_cavs", "true")]);
    let (published, clean) = (run.record(1), Run::corrected().record(1));
    assert_eq!(published.weights, clean.weights, "only the explanation differs");
    let mut differing = 0;
    for (ours, corrected) in published.tcav.iter().zip(&clean.tcav) {
        assert_eq!(ours.score_p, 1.0, "nothing was tested");
        assert!(ours.score_interval.is_none() && ours.legacy_welch_p.is_none());
        let count = ours.score * run.plan.explain.class_images as f64;
        assert!((count - count.round()).abs() < 1e-9, "one CAV gives whole images, not {count}");
        assert_eq!((ours.effect, ours.effect_p), (corrected.effect, corrected.effect_p));
        differing += usize::from(ours.score != corrected.score);
    }
    assert!(differing > published.tcav.len() / 2, "{differing}");
}

#[test]
fn all_switches_together_give_a_whole_study() {
    let all: Vec<String> = AsPublished::default().switches().map(|(name, _)| format!("as_published.{name}")).into();
    let mut all: Vec<(&str, &str)> = all.iter().map(|key| (key.as_str(), "true")).collect();
    all.extend([("prune.rounds", "2"), ("train.epochs", "2"), ("arms", "[\"lottery\", \"random_mask\", \"reinit\"]")]);
    let run = Run::of(&all);
    let study = run.store.study().unwrap();
    assert_eq!(study.networks.len(), 2 * (7 + 1));
    assert!(study.sanity.is_empty(), "the sanity check is of Grad-CAM, which these maps are not");
    for summary in &study.networks {
        let mask = run.store.mask(&summary.id, &run.setup.model.network.layout).unwrap();
        assert!(mask.holds(&run.store.weights(&summary.id, &run.setup.model).unwrap()), "{:?}", summary.id);
    }
}
