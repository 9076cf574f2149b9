//! A made-up study on real digits: smooth numbers with noise from named streams, the same on every machine.

use std::collections::BTreeMap;

use rand::Rng;
use ticketlens::data::builtin_mnist;
use ticketlens::explain::saliency::GRAD_CAM;
use ticketlens::model::Stage;
use ticketlens::plan::Plan;
use ticketlens::prune::LayerDensity;
use ticketlens::records::{
    Accuracy, AccuracyRecord, Adjusted, Alone, CalibrationRecord, Call, CamRecord, CavGeometry, Comparators,
    ConceptRecord, DensityRange, DensityRecord, Drift, Explanations, FORMAT, FaithfulnessRecord, Floor, FloorPair,
    Forgetting, ForgettingRecord, Interval, Levels, Manifest, MeasureDrift, MethodChecks, NetworkSummary, Onset,
    Onsets, Order, Outcome, PixelRecord, Randomisation, Ranges, Ratio, RepresentationDrift, RepresentationRecord,
    RoundId, RoundRecord, SanityLayer, SanityRecord, SanitySummary, Seconds, ShownImage, StudyRecord, TcavRecord,
    Verdict, ViewRanges,
};
use ticketlens::report::{Maps, RawMaps, Study};
use ticketlens::seed::stream;
use ticketlens::stats::similarity::Measure;

/// Sizes of a made-up study.
pub(crate) struct Shape {
    pub(crate) rounds: usize,
    pub(crate) fraction: f64,
    pub(crate) replicates: usize,
    pub(crate) arms: &'static [&'static str],
    pub(crate) images: usize,
    pub(crate) map: [usize; 2],
}

/// What `ticketlens run` gives: eleven networks, two replicates.
pub(crate) const QUICK: Shape =
    Shape { rounds: 11, fraction: 0.2, replicates: 2, arms: &["lottery"], images: 80, map: [7, 7] };

/// With controls.
pub(crate) const CONTROLS: Shape = Shape { replicates: 3, arms: &["lottery", "random_mask", "reinit"], ..QUICK };

/// The case of the size budget.
pub(crate) const LARGE: Shape =
    Shape { rounds: 35, fraction: 0.1, replicates: 3, arms: &["lottery"], images: 64, map: [14, 14] };

const CONCEPTS: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
const CLASSES: [&str; 2] = ["even", "odd"];

fn noise(name: &str, index: u64) -> f64 {
    stream(11, name, index).random_range(-1.0..1.0)
}

/// Six decimals, so that no machine's rounding of a power shows in a snapshot.
fn six(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn around(value: f64, half: f64) -> Interval {
    Interval { low: six(value - half), high: six(value + half) }
}

/// How far a network has come from dense, 0 to about 1.
fn wear(arm: &str, density: f64) -> f64 {
    let late = (1.0 - density).powi(6);
    match arm {
        "lottery" => late,
        "reinit" => (1.4 * late + 0.25).min(1.3),
        _ => (1.8 * late + 0.35).min(1.6),
    }
}

fn drift(arm: &str, density: f64, seed: u64, dense: bool) -> Drift {
    let scale = if dense { 0.0 } else { 0.8 + 1.2 * wear(arm, density) + 0.1 * noise("drift", seed) };
    let some = |value: f64| Some(six(value));
    let flipped =
        if wear(arm, density) > 0.3 { vec!["odd/nine".to_owned(), "even/two".to_owned()] } else { Vec::new() };
    Drift {
        pixels: (Measure::ALL.into_iter().zip([0.21, 0.18, 0.3, 0.42, 0.36, 0.12]))
            .map(|(measure, size)| {
                let (both_right, all) = (some(size * scale), some(1.05 * size * scale));
                (measure, MeasureDrift { both_right, all, degenerate: usize::from(density < 0.2) })
            })
            .collect(),
        images: 72,
        degenerate: usize::from(density < 0.2),
        concepts: some(0.34 * scale),
        representation: some(0.08 * scale),
        concept_ranks: some(0.05 * scale),
        scores: some(0.2 * scale),
        flipped: if dense { Vec::new() } else { flipped },
    }
}

fn cavs(arm: &str, replicate: usize, round: usize, density: f64) -> CavGeometry {
    let seed = |a: usize, b: usize| ((((round * 7 + replicate) * 10 + a.min(b)) * 10) + a.max(b)) as u64;
    let cosine = |a: usize, b: usize| match a == b {
        true => Some(1.0),
        // A concept without a direction has no cosine.
        false if (a == 8 || b == 8) && density < 0.12 => None,
        false => Some(six(0.6 * noise("cosine", (10 * a.min(b) + a.max(b)) as u64)
            + 0.15 * wear(arm, density)
            + 0.1 * noise("own", seed(a, b)))),
    };
    let cosines: Vec<Vec<Option<f64>>> = (0..10).map(|a| (0..10).map(|b| cosine(a, b)).collect()).collect();
    let lower: Vec<f64> = (0..10).flat_map(|a| cosines[a][..a].iter().flatten().copied().collect::<Vec<_>>()).collect();
    CavGeometry {
        stage: Stage::new("layer3"),
        class: None,
        concepts: CONCEPTS.map(str::to_owned).to_vec(),
        entanglement: Some(six(lower.iter().sum::<f64>() / lower.len() as f64)),
        entanglement_magnitude: Some(six(lower.iter().map(|c| c.abs()).sum::<f64>() / lower.len() as f64)),
        stability: (0..10)
            .map(|c| Some(six(0.7 - 0.3 * wear(arm, density) + 0.05 * noise("stable", seed(c, c)))))
            .collect(),
        cosines,
    }
}

fn faithfulness(arm: &str, density: f64, seed: u64) -> FaithfulnessRecord {
    let moved = 0.1 * wear(arm, density) + 0.01 * noise("faithful", seed);
    FaithfulnessRecord {
        stage: Stage::new("layer3"),
        method: None,
        images: 32,
        degenerate: usize::from(density < 0.2),
        deletion: Some(six(0.45 + moved)),
        insertion: Some(six(0.82 - moved)),
        random_deletion: Some(six(0.62 + 0.1 * moved)),
        random_insertion: Some(six(0.6)),
    }
}

fn calibration(seed: u64) -> Vec<CalibrationRecord> {
    let count =
        |name: &str, most: f64, class: u64| (most * (0.5 + 0.5 * noise(name, seed * 2 + class))).round() as usize;
    let of = |class: usize| CalibrationRecord {
        stage: Stage::new("layer3"),
        class,
        sets: 39,
        effect: count("null effect", 4.0, class as u64),
        score: 1,
        legacy: 10 + count("null legacy", 20.0, class as u64),
    };
    (0..2).map(of).collect()
}

/// The cascade falls to nothing; one replicate in three leaves it open whether.
fn sanity(replicates: usize) -> (Vec<SanityRecord>, Vec<SanitySummary>) {
    let names =
        ["fc", "layer4.1", "layer4.0", "layer3.1", "layer3.0", "layer2.1", "layer2.0", "layer1.1", "layer1.0", "stem"];
    let record = |replicate: usize| {
        let mut layers = Vec::new();
        for (kind, fall) in [(Randomisation::Cascading, 0.35), (Randomisation::Independent, 0.07)] {
            for (depth, name) in names.iter().enumerate() {
                let own = 0.05 * noise(kind_name(kind), (replicate * 10 + depth) as u64);
                let similarity =
                    (depth < 9 || replicate != 1).then(|| six((1.0 - fall * (depth + 1) as f64).max(0.0) + own));
                layers.push(SanityLayer {
                    randomisation: kind,
                    layer: (*name).to_owned(),
                    similarity,
                    degenerate: depth,
                });
            }
        }
        SanityRecord {
            format: FORMAT,
            replicate,
            stage: Stage::new("layer3"),
            images: 64,
            layers,
            random_drift: Vec::new(),
            further: BTreeMap::new(),
        }
    };
    let summary = |replicate: usize| SanitySummary {
        replicate,
        ratio: Some(six(2.4 + 0.2 * replicate as f64)),
        interval: Some(Interval { low: if replicate == 2 { 0.9 } else { 1.8 }, high: 3.1 }),
        destroyed: (replicate != 2).then_some(true),
    };
    ((0..replicates).map(record).collect(), (0..replicates).map(summary).collect())
}

fn kind_name(kind: Randomisation) -> &'static str {
    match kind {
        Randomisation::Cascading => "cascading",
        Randomisation::Independent => "independent",
    }
}

fn tcav(arm: &str, replicate: usize, round: usize, density: f64) -> Vec<TcavRecord> {
    let mut records = Vec::new();
    for class in 0..2 {
        for (index, concept) in CONCEPTS.iter().enumerate() {
            let seed = (((round * 7 + replicate) * 2 + class) * 10 + index) as u64;
            let sign = if index % 2 == class { 1.0 } else { -1.0 };
            let strength = 1.2 + 0.9 * noise("strength", index as u64);
            let effect = six(sign * strength * (1.0 - 0.6 * wear(arm, density)) + 0.25 * noise("effect", seed));
            let score: f64 = six(0.5 + 0.45 * effect + 0.2 * noise("score", seed)).clamp(0.0, 1.0);
            records.push(TcavRecord {
                stage: Stage::new("layer3"),
                class,
                concept: (*concept).to_owned(),
                score,
                score_interval: Some(Interval { low: six(score - 0.08).max(0.0), high: six(score + 0.08).min(1.0) }),
                score_p: six(0.4 - 0.35 * effect.abs()).max(0.025),
                legacy_welch_p: Some(six(0.05 - 0.05 * effect.abs()).max(0.0001)),
                effect: six(3.1 * effect),
                effect_standardised: Some(effect),
                effect_standardised_interval: Some(around(effect, 0.35)),
                effect_p: six(0.3 * (-4.0 * effect.abs()).exp()).max(0.0001),
                heldout_accuracy: six(0.93 - 0.2 * wear(arm, density)),
                decodable: !(index == 8 && density < 0.3),
                further: BTreeMap::new(),
            });
        }
    }
    records
}

/// The study.
pub(crate) fn study(shape: &Shape) -> Study {
    let digits = builtin_mnist().unwrap();
    let test: Vec<usize> = (digits.len() - 2000..digits.len()).collect();
    let chosen: Vec<usize> = test.into_iter().take(shape.images).collect();
    let fine = digits.fine();
    let overrides = [
        ("prune.rounds", (shape.rounds - 1).to_string()),
        ("prune.fraction", shape.fraction.to_string()),
        ("replicates", shape.replicates.to_string()),
        ("explain.stages", "[\"layer3\"]".to_owned()),
        ("floor.twins", "1".to_owned()),
        ("verdict.confidence", "0.95".to_owned()),
        ("verdict.drift_margin", "0.25".to_owned()),
        ("verdict.accuracy_margin", "0.01".to_owned()),
        ("arms", format!("{:?}", shape.arms)),
    ]
    .map(|(key, value)| (key.to_owned(), value));
    let plan = Plan::preset("quick", &overrides).unwrap();
    let manifest = Manifest {
        format: FORMAT,
        version: "0.1.0".into(),
        plan: "5f2d9c0e7a".repeat(6),
        data: "c41b77aa02".repeat(6),
        device: "cpu".into(),
        threads: 2,
        warnings: Vec::new(),
        cpu_features: vec!["avx2".into(), "fma".into(), "avx512f".into()],
        vectors: "avx2".into(),
        network: "ResNet-18".into(),
        image_shape: [1, 28, 28],
        classes: CLASSES.map(str::to_owned).to_vec(),
        concepts: CONCEPTS.map(str::to_owned).to_vec(),
        concept_note: None,
        pretrained: None,
        images: [6000, 2000, 2000],
        test_classes: vec![980, 1020],
        cam_images: chosen
            .iter()
            .map(|&index| {
                let digit = fine.values()[index] as usize;
                ShownImage { index, class: digit % 2, fine: digit.to_string(), bounding_box: None, parts: Vec::new() }
            })
            .collect(),
    };
    let pixels: Vec<u8> = chosen.iter().flat_map(|&index| digits.bytes(index).unwrap().to_vec()).collect();
    let mut rounds = Vec::new();
    let mut summaries = Vec::new();
    let mut raw = BTreeMap::new();
    let lines = shape.arms.iter().copied().chain(["twin-1"]);
    for (arm_index, arm) in lines.enumerate() {
        for replicate in 0..shape.replicates {
            let rounds_of_line = match arm {
                "lottery" => 0..shape.rounds,
                "twin-1" => 0..1,
                _ => 1..shape.rounds,
            };
            for round in rounds_of_line {
                let density = six((1.0 - shape.fraction).powi(round as i32));
                let id = RoundId { arm: arm.to_owned(), replicate, round };
                let seed = ((arm_index * 50 + round) * 10 + replicate) as u64;
                let accuracy = six(0.985 - 0.028 * wear(arm, density) + 0.0022 * noise("accuracy", seed));
                let records = tcav(arm, replicate, round, density);
                let adjusted: Vec<Adjusted> = records
                    .iter()
                    .map(|r| Adjusted {
                        effect_p: six(1.3 * r.effect_p).min(1.0),
                        score_p: six(1.6 * r.score_p).min(1.0),
                    })
                    .collect();
                let maps = maps(&pixels, shape, wear(arm, density), replicate as u64, seed);
                let significant =
                    records.iter().zip(&adjusted).filter(|(r, a)| r.decodable && a.effect_p <= 0.05).count();
                let degenerate: Vec<bool> = maps
                    .values
                    .chunks_exact(shape.map[0] * shape.map[1])
                    .map(|map| map.iter().all(|&value| value == 0.0))
                    .collect();
                let predicted = manifest
                    .cam_images
                    .iter()
                    .enumerate()
                    .map(|(index, image)| {
                        let wrong = noise("wrong", seed * 100 + index as u64) > 0.97 - 0.05 * wear(arm, density);
                        if wrong { 1 - image.class } else { image.class }
                    })
                    .collect();
                summaries.push(NetworkSummary {
                    id: id.clone(),
                    density,
                    test_accuracy: accuracy,
                    drift: drift(arm, density, seed, arm == "lottery" && round == 0),
                    adjusted,
                    significant,
                    chance_p: (round == 0).then_some(1e-12),
                });
                let total = 175_000;
                let kept = (density * total as f64) as usize;
                rounds.push(RoundRecord {
                    format: FORMAT,
                    id: id.clone(),
                    weights: format!("{:064x}", seed * 7919 + 12_345),
                    density,
                    kept,
                    total: total as usize,
                    layers: vec![LayerDensity { name: "conv1.weight".into(), kept: 70, total: 72 }],
                    epoch_loss: vec![0.21, 0.06],
                    looks: Vec::new(),
                    validation_accuracy: six(accuracy + 0.001),
                    test_accuracy: accuracy,
                    class_accuracy: vec![six(accuracy + 0.001), six(accuracy - 0.001)],
                    test_correct: "1".repeat(40),
                    grad_cam: vec![CamRecord {
                        stage: Stage::new("layer3"),
                        method: GRAD_CAM,
                        size: shape.map,
                        predicted,
                        degenerate,
                    }],
                    input_maps: Vec::new(),
                    representations: vec![RepresentationRecord { stage: Stage::new("layer3"), images: shape.images }],
                    tcav: records,
                    cavs: vec![cavs(arm, replicate, round, density)],
                    faithfulness: vec![faithfulness(arm, density, seed)],
                    calibration: calibration(seed),
                    localisation: Vec::new(),
                    seconds: Seconds { train: 9.25, explain: 2.5 },
                });
                raw.insert((id, Stage::new("layer3")), maps);
            }
        }
    }
    let (sanity, sanity_summaries) = sanity(shape.replicates);
    let densities = densities(shape, &summaries);
    let lottery: Vec<&DensityRecord> =
        densities.iter().filter(|record| record.arm == "lottery" && record.round > 0).collect();
    let (mildest, last) = (lottery[0].density, lottery[lottery.len() - 1].density);
    let a = Some(DensityRange { from: 1.0, to: mildest });
    let b = Some(DensityRange { from: last, to: last });
    let verdict = |range, reason: &str| Verdict { outcome: Outcome::Supported, range, reason: reason.to_owned() };
    let checks = |view: &str, less: f64| MethodChecks {
        view: view.into(),
        sanity: sanity_summaries.clone(),
        deletion: Some(six(0.45 + less)),
        random_deletion: Some(0.62),
        insertion: Some(six(0.82 - less)),
        random_insertion: Some(0.6),
        energy_in_box: None,
        pointing_game: None,
        chance: None,
    };
    let study = StudyRecord {
        methods: vec![checks("layer3", 0.0), checks("layer3/layer-cam", 0.04)],
        sanity: sanity_summaries,
        format: FORMAT,
        answer: format!("A holds down to {mildest:.3}; B holds at {last:.3}."),
        hypothesis_a: verdict(a, "down to the mildest density; then pixels are undecided (ρ 1.19, 1.08 to 1.30)"),
        hypothesis_b: verdict(b, "at the last density; before it accuracy is undecided"),
        alone: Alone { pixels: Ranges { a, b: None }, concepts: Ranges { a: None, b } },
        views: ["layer3", "layer3/layer-cam"]
            .map(|view| ViewRanges { view: view.into(), kept_to: Some(mildest), ranges: Ranges { a, b } })
            .into(),
        onsets: Some(onsets(shape, mildest)),
        forgetting: forgetting(shape, &lottery),
        floor: floor(shape.replicates),
        networks: summaries,
        densities,
        warnings: vec!["two replicates give a rough interval".into(), "a warning that stands second".into()],
    };
    let maps = Maps { pixels, raw };
    Study { name: "made up".into(), plan_toml: plan.to_toml().unwrap(), manifest, rounds, study, sanity, maps }
}

fn floor(replicates: usize) -> Floor {
    let mut pairs = Vec::new();
    let pair = |first: RoundId, second: RoundId, seed: u64| {
        let mut drift = drift("lottery", 1.0, seed, false);
        drift.flipped = vec!["even/one".into()];
        FloorPair { first, second, drift }
    };
    for first in 0..replicates {
        let twin = RoundId { arm: "twin-1".into(), replicate: first, round: 0 };
        pairs.push(pair(RoundId::parent(first), twin, 50 + first as u64));
        for second in first + 1..replicates {
            pairs.push(pair(RoundId::parent(first), RoundId::parent(second), (first * 7 + second) as u64));
        }
    }
    let levels = |scale: f64| Levels {
        pixels: (Measure::ALL.into_iter().zip([0.21, 0.18, 0.3, 0.42, 0.36, 0.12]))
            .map(|(measure, size)| (measure, six(scale * size)))
            .collect(),
        concepts: Some(six(scale * 0.3)),
        representation: Some(six(scale * 0.07)),
    };
    Floor { comparators: Comparators::Twins, twins: levels(0.8), seeds: levels(1.2), pairs }
}

fn ratio(shape: &Shape, arm: &str, density: f64, name: &str, growth: f64) -> Ratio {
    let of = |replicate: usize| {
        let seed = (1000.0 * density) as u64 * 10 + replicate as u64;
        six(1.0 + growth * wear(arm, density) + 0.08 * noise(name, seed))
    };
    let replicates: Vec<f64> = (0..shape.replicates).map(of).collect();
    let rho = six((replicates.iter().map(|rho| rho.ln()).sum::<f64>() / replicates.len() as f64).exp());
    let interval = around(rho, 0.2);
    let answer = match interval {
        Interval { high, .. } if high <= 1.25 => Explanations::Kept,
        Interval { low, .. } if low > 1.25 => Explanations::Changed,
        _ => Explanations::Undecided,
    };
    Ratio {
        rho: Some(rho),
        interval: Some(interval),
        replicates: replicates.into_iter().map(Some).collect(),
        all_images: Some(six(rho + 0.01)),
        from_parent: Some(six(0.6 * rho)),
        in_seed_floors: Some(six(0.5 * rho)),
        answer,
        changed_p: Some(six((1.25 / rho).powi(4).min(1.0) / 2.0)),
        undefined: None,
    }
}

fn densities(shape: &Shape, summaries: &[NetworkSummary]) -> Vec<DensityRecord> {
    let mut records = Vec::new();
    let mean = |values: Vec<f64>| six(values.iter().sum::<f64>() / values.len() as f64);
    for &arm in shape.arms {
        for round in 0..shape.rounds {
            let of: Vec<&NetworkSummary> =
                summaries.iter().filter(|s| s.id.arm == arm && s.id.round == round).collect();
            if of.is_empty() {
                continue;
            }
            let parents: Vec<f64> = (0..shape.replicates)
                .map(|replicate| summaries.iter().find(|s| s.id == RoundId::parent(replicate)).unwrap().test_accuracy)
                .collect();
            let differences: Vec<f64> =
                of.iter().zip(&parents).map(|(s, parent)| six(s.test_accuracy - parent)).collect();
            let difference = mean(differences.clone());
            let interval = around(difference, 0.006);
            let answer = match interval {
                Interval { low, .. } if low > -0.01 => Accuracy::Matches,
                Interval { high, .. } if high < -0.01 => Accuracy::Lost,
                _ => Accuracy::Undecided,
            };
            let density = of[0].density;
            let concepts = ratio(shape, arm, density, "concept ratio", 2.0);
            let measures: BTreeMap<Measure, Ratio> = Measure::ALL
                .into_iter()
                .map(|measure| (measure, ratio(shape, arm, density, measure.key(), 1.1)))
                .collect();
            let answers = [measures[&Measure::Spearman].answer, concepts.answer];
            let call = match answer {
                _ if round == 0 => Call::Dense,
                Accuracy::Matches if answers == [Explanations::Kept; 2] => Call::A,
                Accuracy::Lost if answers.contains(&Explanations::Changed) => Call::B,
                Accuracy::Matches if answers.contains(&Explanations::Changed) => Call::DriftedWinner,
                Accuracy::Lost if answers == [Explanations::Kept; 2] => Call::FaithfulLoser,
                _ => Call::Inconclusive,
            };
            records.push(DensityRecord {
                arm: arm.to_owned(),
                round,
                density,
                test_accuracy: mean(of.iter().map(|s| s.test_accuracy).collect()),
                accuracy: AccuracyRecord {
                    difference,
                    interval: Some(interval),
                    replicates: differences,
                    by_class: vec![six(difference + 0.001), six(difference - 0.001)],
                    forgotten: six(0.01 + 0.05 * wear(arm, density)),
                    learned: 0.008,
                    answer,
                },
                pixels: match round {
                    0 => Vec::new(),
                    _ => vec![PixelRecord { view: "layer3".into(), counted: 0.94, measures }],
                },
                concepts: vec![ConceptRecord {
                    stage: Stage::new("layer3"),
                    ratio: concepts,
                    significant: 17.5,
                    flipped: 1.5,
                    flipped_twins: Some(1.0),
                }],
                representations: match round {
                    0 => Vec::new(),
                    _ => vec![RepresentationDrift {
                        stage: Stage::new("layer3"),
                        ratio: ratio(shape, arm, density, "representation ratio", 0.7),
                    }],
                },
                call,
                reason: "accuracy against −1 point; ρ of pixels and concepts against 1.25".into(),
            });
        }
    }
    records
}

fn onsets(shape: &Shape, mildest: f64) -> Onsets {
    let onset = |factor: f64| Onset {
        density: Some(six(factor * mildest)),
        earliest: Some(six(1.2 * factor * mildest)),
        latest: None,
        replicates: (0..shape.replicates).map(|replicate| (replicate != 1).then(|| six(factor * mildest))).collect(),
    };
    let order = |first: &str, second: &str| Order {
        first: first.into(),
        second: second.into(),
        before: shape.replicates - 1,
        after: 1,
    };
    Onsets {
        accuracy: onset(0.2),
        pixels: Some(onset(0.7)),
        concepts: Some(onset(0.4)),
        order: vec![order("pixels", "concepts"), order("pixels", "accuracy"), order("concepts", "accuracy")],
    }
}

fn forgetting(shape: &Shape, lottery: &[&DensityRecord]) -> Vec<ForgettingRecord> {
    let record = |round: usize, density: f64, arm: &str| {
        let found = Forgetting { forgotten: 9 + round, kept: 140, auc: six(0.5 + 0.02 * round as f64), p_value: 0.2 };
        ForgettingRecord {
            round,
            density,
            all: (round != 1).then_some(found),
            p_adjusted: (round > 1).then_some(0.4),
            networks: (0..shape.replicates)
                .map(|replicate| (RoundId { arm: arm.into(), replicate, round }, None))
                .collect(),
        }
    };
    std::iter::once(record(0, 1.0, "twin-1"))
        .chain(lottery.iter().map(|of| record(of.round, of.density, "lottery")))
        .collect()
}

/// Digits blurred to map size, jittered by replicate and, as wear grows, by round.
fn maps(pixels: &[u8], shape: &Shape, wear: f64, replicate: u64, seed: u64) -> RawMaps {
    let [h, w] = shape.map;
    let mut values = Vec::new();
    for (index, image) in pixels.chunks_exact(28 * 28).enumerate() {
        let mut own = stream(replicate, "own", index as u64);
        let mut later = stream(seed, "later", index as u64);
        let empty = wear > 0.4 && index % 17 == 3;
        for y in 0..h {
            for x in 0..w {
                let (ys, xs) = (y * 28 / h..(y + 1) * 28 / h, x * 28 / w..(x + 1) * 28 / w);
                let count = (ys.len() * xs.len()) as f64;
                let cell: f64 =
                    ys.flat_map(|y| xs.clone().map(move |x| f64::from(image[y * 28 + x]))).sum::<f64>() / count / 255.0;
                let value =
                    cell - 0.12 + 0.15 * own.random_range(-1.0..1.0) + wear * 0.5 * later.random_range(-1.0..1.0);
                values.push(if empty { 0.0 } else { value.max(0.0) as f32 });
            }
        }
    }
    RawMaps { size: shape.map, values }
}
