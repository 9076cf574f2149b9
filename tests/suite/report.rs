//! Reports from a made-up study: stable bytes, escaping, size, the forms for other tools, and the page in a browser.

mod browser;
mod fake;

use std::path::Path;
use std::time::Instant;

use proptest::prelude::*;
use ticketlens::model::Stage;
use ticketlens::records::gate::{
    Answer, CandidateDrift, ConceptDrift, DRIFT_SCHEMA_VERSION, DriftReport, Gate, Kind, MeasuredDrift, NamedDrift,
    OnUndecided, Over, Unit,
};
use ticketlens::records::{Adjusted, Explanations};
use ticketlens::report::{Study, compare, csv, drift, html, json, markdown, terminal};
use ticketlens::stats::Interval;
use ticketlens::stats::similarity::Measure;

/// Four rounds of two replicates and a control: enough for every form, few enough to read.
const SMALL: fake::Shape =
    fake::Shape { rounds: 4, fraction: 0.4, replicates: 2, arms: &["lottery", "reinit"], images: 12, map: [7, 7] };

/// Every form of a study's report.
fn forms(study: &Study) -> [String; 5] {
    [
        html::render(study).unwrap(),
        json::render(study).unwrap(),
        csv::render(study).unwrap(),
        markdown::render(study).unwrap(),
        terminal::render(study, true).unwrap(),
    ]
}

pub(crate) fn golden(check: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("golden"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(check);
}

#[test]
fn golden_forms() {
    let study = fake::study(&SMALL);
    golden(|| {
        insta::assert_snapshot!("report_terminal", terminal::render(&study, false).unwrap());
        insta::assert_snapshot!("report_markdown", markdown::render(&study).unwrap());
        let json: serde_json::Value = serde_json::from_str(&json::render(&study).unwrap()).unwrap();
        let summary = serde_json::json!({
            "keys": json.as_object().unwrap().keys().collect::<Vec<_>>(),
            "round": json["rounds"][1],
            "network": json["networks"][1],
            "tcav": json["tcav"][1],
            "floor": json["floor"],
            "sanity": json["sanity"][0],
            "geometry": json["geometry"],
            "calibration": json["calibration"],
        });
        insta::assert_json_snapshot!("report_json", summary);
        let csv = csv::render(&study).unwrap();
        insta::assert_snapshot!("report_csv", csv.lines().take(30).collect::<Vec<_>>().join("\n"));
    });
}

#[test]
fn golden_comparison() {
    let first = fake::study(&SMALL);
    let mut second = fake::study(&fake::Shape { rounds: 6, fraction: 0.3, arms: &["lottery"], ..SMALL });
    second.name = "gentle".into();
    second.manifest.data = "0badc0ffee".repeat(6);
    let studies = [first, second];
    golden(|| insta::assert_snapshot!("compare_markdown", compare::markdown(&studies).unwrap()));
    let json: serde_json::Value = serde_json::from_str(&compare::json(&studies).unwrap()).unwrap();
    assert_eq!(json["studies"].as_array().unwrap().len(), 2);
    assert!(json["cautions"].as_array().unwrap().iter().any(|one| one.as_str().unwrap().contains("other images")));
    assert!(compare::html(&studies).unwrap().contains("other images"));
}

#[test]
fn several_studies_stand_beside_the_first_with_the_papers_curve() {
    let first = fake::study(&SMALL);
    let mut second = first.clone();
    second.plan_toml += "\n[as_published]\nkeep_buffers = true\n";
    for (index, record) in second.rounds.iter_mut().enumerate() {
        record.test_accuracy -= 0.02 + 0.001 * index as f64;
    }
    let mut other_images = first.clone();
    other_images.manifest.cam_images[0].index += 1;
    let studies = [first, second, other_images];
    let json: serde_json::Value = serde_json::from_str(&compare::json(&studies).unwrap()).unwrap();
    let name = studies[0].name.clone();
    assert_eq!(json["studies"][1]["name"], format!("{name} (2)"));
    assert_eq!(json["studies"][1]["as_published"], serde_json::json!(["keep_buffers"]));
    for round in json["studies"][1]["rounds"].as_array().unwrap() {
        let mean = round["accuracy_difference"]["mean"].as_f64().unwrap();
        let low = round["accuracy_difference"]["interval"]["low"].as_f64().unwrap();
        assert!(mean < -0.019 && low < mean, "{round}");
        assert_eq!(
            round["map_difference_in_seeds"]["mean"].as_f64().map(|value| value.abs() < 1e-9),
            Some(true),
            "{round}"
        );
        assert_eq!(round["score_difference"]["mean"], 0.0);
    }
    for round in json["studies"][2]["rounds"].as_array().unwrap() {
        assert_eq!(round["accuracy_difference"]["mean"], 0.0);
        assert!(round["accuracy_difference"]["interval"].is_null(), "nothing varies: {round}");
        assert!(round["map_difference_in_seeds"].is_null(), "maps of other images are not compared");
    }
    let text = compare::markdown(&studies).unwrap();
    for expected in ["keep\\_buffers", "the paper (best validation", "98.48 %", "hypothesis B", "TCAV scores for"] {
        assert!(text.contains(expected), "{expected} is missing in\n{text}");
    }
    let page = compare::html(&studies).unwrap();
    assert!(page.contains("the paper, figure 2") && !page.contains("NaN"));
    let csv = compare::csv(&studies).unwrap();
    assert!(csv.starts_with("study,measure,density,round,value,low,high\n") && csv.lines().count() > 40);
    assert!(compare::html(&[]).is_err());
}

#[test]
fn a_study_compared_with_itself_differs_in_nothing() {
    let study = fake::study(&SMALL);
    let json: serde_json::Value = serde_json::from_str(&compare::json(&[study.clone(), study]).unwrap()).unwrap();
    assert_eq!(json["cautions"].as_array().unwrap().len(), 0);
    let rounds = json["studies"][1]["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 4);
    for round in rounds {
        assert_eq!(round["accuracy_difference"]["mean"], 0.0);
        assert_eq!(round["effect_difference"]["mean"], 0.0);
    }
}

fn compared(studies: &[Study]) -> serde_json::Value {
    serde_json::from_str(&compare::json(studies).unwrap()).unwrap()
}

/// The study with only the networks of replicates from `first` on judged, as where training diverged
/// in the replicates before, of which dense networks stay.
fn survivors(mut study: Study, first: usize) -> Study {
    study.rounds.retain(|record| record.id.replicate >= first || record.id.round == 0);
    study.study.networks.retain(|network| network.id.replicate >= first);
    for density in &mut study.study.densities {
        let ratios = density.pixels.iter_mut().flat_map(|view| view.measures.values_mut());
        for ratio in ratios.chain(density.concepts.iter_mut().map(|stage| &mut stage.ratio)) {
            ratio.replicates.drain(..first);
        }
    }
    study
}

#[test]
fn a_replicate_that_diverged_counts_in_no_number() {
    let shape = fake::Shape { replicates: 3, ..SMALL };
    let study = survivors(fake::study(&shape), 1);
    let report: serde_json::Value = serde_json::from_str(&json::render(&study).unwrap()).unwrap();
    for round in report["rounds"].as_array().unwrap() {
        let replicates = round["test_accuracies"]["replicates"].as_array().unwrap();
        let numbers: Vec<u64> = replicates.iter().map(|of| of["replicate"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [1, 2], "{round}");
    }
    let json = compared(&[study.clone(), study.clone()]);
    let cautions = json["cautions"].to_string();
    assert_eq!(cautions.matches("2 of 3 replicates count").count(), 2, "{cautions}");
    let lottery = study.study.densities.iter().filter(|density| density.arm == "lottery" && density.round > 0);
    for (round, density) in json["studies"][0]["rounds"].as_array().unwrap()[1..].iter().zip(lottery) {
        let [one, two] = density.pixels[0].measures[&Measure::Spearman].replicates[..] else { panic!("two survive") };
        let expected = (one.unwrap() * two.unwrap()).sqrt();
        let found = &round["pixels_rho"];
        assert!((found["mean"].as_f64().unwrap() - expected).abs() < 1e-12, "{found} {expected}");
        assert!(found["interval"]["low"].as_f64().unwrap() > 0.0, "{found}");
    }
}

#[test]
fn what_stands_beside_a_study_changes_none_of_its_own_numbers() {
    let studies = [3, 2].map(|replicates| fake::study(&fake::Shape { replicates, ..SMALL }));
    let beside = compared(&studies);
    let alone = compared(&studies[..1]);
    let cautions = beside["cautions"].to_string();
    assert!(cautions.contains("replicates: 3 against 2"), "{cautions}");
    assert_eq!(beside["studies"][0]["rounds"], alone["studies"][0]["rounds"]);
}

/// Reorders `items` by `keys`, as a seeded shuffle would.
fn shuffle<T>(items: &mut Vec<T>, keys: &mut impl Iterator<Item = u64>) {
    let mut keyed: Vec<(u64, T)> = items.drain(..).map(|item| (keys.next().unwrap(), item)).collect();
    keyed.sort_by_key(|(key, _)| *key);
    items.extend(keyed.into_iter().map(|(_, item)| item));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn the_order_of_records_is_irrelevant(seed in any::<u64>()) {
        // Three replicates, so that there are pairs of the floor to reorder.
        let study = fake::study(&fake::Shape { replicates: 3, rounds: 2, ..SMALL });
        let expected = forms(&study);
        let mut keys = std::iter::successors(Some(seed | 1), |key| Some(key.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1)))
            .skip(1)
            .map(|key| key.rotate_left(29));
        let mut mixed = study.clone();
        for record in &mut mixed.rounds {
            // Adjusted p-values stand in the order of the round's TCAV records: both move together.
            let summary = mixed.study.networks.iter_mut().find(|summary| summary.id == record.id).unwrap();
            let mut both: Vec<_> = record.tcav.drain(..).zip(summary.adjusted.drain(..)).collect();
            shuffle(&mut both, &mut keys);
            let (tcav, adjusted): (Vec<_>, Vec<Adjusted>) = both.into_iter().unzip();
            (record.tcav, summary.adjusted) = (tcav, adjusted);
            shuffle(&mut summary.drift.flipped, &mut keys);
            // Concepts of the geometry in another order, rows and columns alike.
            for cavs in &mut record.cavs {
                let mut order: Vec<usize> = (0..cavs.concepts.len()).collect();
                shuffle(&mut order, &mut keys);
                let of = cavs.clone();
                cavs.concepts = order.iter().map(|&at| of.concepts[at].clone()).collect();
                cavs.stability = order.iter().map(|&at| of.stability[at]).collect();
                cavs.cosines = order.iter().map(|&a| order.iter().map(|&b| of.cosines[a][b]).collect()).collect();
            }
            shuffle(&mut record.calibration, &mut keys);
            shuffle(&mut record.faithfulness, &mut keys);
        }
        shuffle(&mut mixed.sanity, &mut keys);
        shuffle(&mut mixed.study.sanity, &mut keys);
        shuffle(&mut mixed.rounds, &mut keys);
        shuffle(&mut mixed.study.networks, &mut keys);
        shuffle(&mut mixed.study.densities, &mut keys);
        shuffle(&mut mixed.study.floor.pairs, &mut keys);
        shuffle(&mut mixed.study.warnings, &mut keys);
        prop_assert!(mixed != study || seed == 0);
        for (form, (got, want)) in forms(&mixed).iter().zip(&expected).enumerate() {
            prop_assert!(got == want, "form {form} differs");
        }
    }
}

#[test]
fn names_from_outside_are_only_ever_text() {
    let evil = "<script>alert(1)</script>\u{1b}[2J\"'&";
    let mut study = fake::study(&SMALL);
    study.name = evil.into();
    study.manifest.classes[1] = evil.into();
    study.manifest.network = evil.into();
    study.manifest.device = evil.into();
    study.manifest.cpu_features = vec![evil.into()];
    study.manifest.cam_images[3].fine = evil.into();
    let concept = study.manifest.concepts[2].clone();
    study.manifest.concepts[2] = evil.into();
    for record in study.rounds.iter_mut().flat_map(|record| &mut record.tcav).filter(|tcav| tcav.concept == concept) {
        record.concept = evil.into();
    }
    for record in &mut study.rounds {
        for name in record.cavs.iter_mut().flat_map(|cavs| &mut cavs.concepts).filter(|name| **name == concept) {
            *name = evil.into();
        }
    }
    for layer in study.sanity.iter_mut().flat_map(|record| &mut record.layers).filter(|layer| layer.layer == "stem") {
        layer.layer = evil.into();
    }
    study.study.hypothesis_a.reason = evil.into();
    study.study.warnings.push(evil.into());
    study.study.answer = evil.into();
    for record in &mut study.study.densities {
        record.reason = evil.into();
    }
    for record in &mut study.rounds {
        if record.id.arm == "reinit" {
            record.id.arm = evil.into();
        }
    }
    let [page, json, csv, markdown, terminal] = forms(&study);
    let comparison = compare::html(&[study.clone(), study.clone()]).unwrap();
    assert!(page.contains("&lt;script&gt;alert(1)"));
    for (name, text) in [("html", &page), ("compare", &comparison), ("markdown", &markdown)] {
        assert!(!text.contains("<script>alert"), "{name}");
    }
    assert_eq!(page.matches("</script>").count(), 2, "one script, one data block");
    assert!(!terminal.contains("\u{1b}[2J") && !terminal.contains("[2J\u{1b}"));
    assert!(csv.contains("\"<script>alert(1)</script>"), "quoted as one field");
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(read["manifest"]["classes"][1], evil);
}

#[test]
fn maps_of_another_size_than_promised_are_an_error() {
    let mut study = fake::study(&SMALL);
    let id = study.rounds[0].id.clone();
    study.maps.raw.get_mut(&(id, Stage::new("layer3"))).unwrap().values.pop();
    let error = html::render(&study).unwrap_err().to_string();
    assert!(error.contains("layer3 maps of lottery replicate 0 round 0"), "{error}");
    let mut study = fake::study(&SMALL);
    study.maps.pixels.pop();
    assert!(html::render(&study).unwrap_err().to_string().contains("pixels"));
}

#[test]
fn a_study_without_maps_or_floor_still_reports() {
    let mut study = fake::study(&SMALL);
    study.maps = ticketlens::report::Maps::default();
    study.study.floor.pairs.clear();
    (study.study.floor.twins, study.study.floor.seeds) = Default::default();
    study.study.onsets = None;
    study.study.forgetting.clear();
    study.study.sanity.clear();
    study.sanity.clear();
    for record in &mut study.rounds {
        record.cavs.clear();
        record.faithfulness.clear();
        record.calibration.clear();
    }
    study.study.densities.clear();
    study.study.networks.truncate(1);
    for form in forms(&study) {
        assert!(!form.contains("NaN") && !form.contains("inf "), "{form}");
    }
}

/// What follows from the records stands in every form, and a check that failed is said to have failed.
#[test]
fn checks_geometry_measures_and_calibration_are_in_every_form() {
    let mut study = fake::study(&SMALL);
    study.study.sanity[1].destroyed = Some(false);
    let [page, json, csv, markdown, _] = forms(&study);
    for id in [
        "sanity",
        "sanity-flags",
        "deletion-layer3",
        "insertion-layer3",
        "entanglement-layer3",
        "stability-layer3",
        "calibration",
        "drift-spearman",
        "drift-concepts",
        "drift-pearson",
        "drift-ssim",
        "drift-iou10",
        "drift-iou20",
        "drift-jensen_shannon",
        "onsets",
        "forgetting",
    ] {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
    assert!(page.contains("NOT destroyed") && markdown.contains("NOT destroyed"));
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(read["sanity"][1]["destroyed"], false);
    assert_eq!(read["sanity"][0]["layers"].as_array().unwrap().len(), 20);
    // Rejections of the run are the sum over networks and classes.
    let sum: usize = study.rounds.iter().flat_map(|record| &record.calibration).map(|one| one.legacy).sum();
    assert_eq!(read["calibration"]["run"][2]["rejected"], sum);
    let jensen = &read["networks"][1]["drift"]["pixels"]["jensen_shannon"];
    assert!(jensen["both_right"].as_f64().unwrap() > 0.0 && jensen["all"].as_f64().unwrap() > 0.0);
    let pearson = &study.study.densities[1].pixels[0].measures[&ticketlens::stats::similarity::Measure::Pearson];
    assert_eq!(read["rounds"][1]["pixels"][0]["measures"]["pearson"]["rho"].as_f64(), pearson.rho);
    // Dense replicates agree on how concepts lie to each other, mostly.
    let agreement = read["geometry"][0]["between_replicates"].as_f64().unwrap();
    assert!((0.7..1.0).contains(&agreement), "{agreement}");
    for measure in ["ssim_drift", "deletion", "insertion_of_shuffled_maps", "cav_stability", "entanglement"] {
        assert!(csv.contains(&format!(",{measure},")), "{measure}");
    }
    for title in [
        "Randomised layers",
        "Deletion and insertion at layer3",
        "Cosines of concepts",
        "hold their level",
        "Map structure",
    ] {
        assert!(markdown.contains(title), "{title}");
    }
}

#[test]
fn the_largest_report_is_small_and_quick() {
    let study = fake::study(&fake::LARGE);
    let started = Instant::now();
    let page = html::render(&study).unwrap();
    let seconds = started.elapsed().as_secs_f64();
    println!("35 rounds x 3 replicates: {} bytes in {seconds:.2} s", page.len());
    assert!(page.len() < 15_000_000, "{} bytes", page.len());
    assert!(seconds < 5.0, "{seconds} s");
}

#[test]
fn the_page_asks_nothing_of_the_network() {
    let page = html::render(&fake::study(&SMALL)).unwrap();
    for (at, _) in page.match_indices("http") {
        // The names of XML languages are no addresses that a browser opens.
        assert!(page[at..].starts_with("http://www.w3.org/2000/svg"), "{}", &page[at..at + 60]);
    }
    assert!(!page.contains("@import") && !page.contains("url(//"));
}

#[test]
fn the_terminal_table_fits_eighty_columns() {
    for shape in [&fake::QUICK, &fake::CONTROLS, &fake::LARGE] {
        let text = terminal::render(&fake::study(shape), false).unwrap();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        }
        assert!(!text.contains('\u{1b}'));
    }
}

fn drift_report() -> DriftReport {
    let named = |name: &str, drift| NamedDrift { name: name.into(), drift };
    let measured = |measure, raw: f64, floor: f64| MeasuredDrift {
        measure,
        drift: Some(raw),
        floor: Some(floor),
        rho: Some(raw / floor),
    };
    let answer = |kind, answer, value: f64, [low, high]: [f64; 2], reach| Answer {
        kind,
        answer,
        value: Some(value),
        unit: if kind == Kind::Accuracy { Unit::Share } else { Unit::Rho },
        interval: Some(Interval { low, high }),
        over: Some(Over::ImagesAndNetworks),
        limit: Some(if kind == Kind::Accuracy { 0.01 } else { 1.25 }),
        reach: Some(reach),
        measured: true,
        note: (answer == Explanations::Undecided).then(|| "the interval holds the margin".into()),
    };
    let gate = |tripped_by: Vec<Kind>| Gate {
        required: Kind::ALL.to_vec(),
        on_undecided: OnUndecided::Pass,
        needed: 32,
        tripped: !tripped_by.is_empty(),
        tripped_by,
    };
    let moved = CandidateDrift {
        name: "pruned-10 %.safetensors".into(),
        answers: vec![
            answer(Kind::Pixels, Explanations::Changed, 3.05, [2.1, 4.4], 1.42),
            answer(Kind::Concepts, Explanations::Kept, 1.02, [0.9, 1.2], 1.6),
            answer(Kind::Accuracy, Explanations::Undecided, -0.0156, [-0.04, 0.01], 0.02),
        ],
        measures: vec![measured(Measure::Spearman, 0.61, 0.2), measured(Measure::Iou20, 0.7, 0.4)],
        counted: 60,
        misclassified: 2,
        degenerate: 2,
        density: Some(0.1),
        accuracy: Some(0.984_375),
        assumed: None,
        images: vec![named("0007.png", 0.93), named("0001.png", 0.2)],
        classes: vec![named("odd, <b>", 0.66)],
        concepts: vec![ConceptDrift {
            class: "odd".into(),
            concept: "nine".into(),
            reference: 1.2,
            candidate: -0.4,
            flipped: true,
        }],
        layers: vec![named("layer3.0.conv1.weight", 1.41)],
        gate: Some(gate(vec![Kind::Pixels])),
    };
    let still = CandidateDrift {
        name: "same\n::error::forged".into(),
        answers: vec![answer(Kind::Pixels, Explanations::Kept, 1.0, [1.0, 1.0], 1.42)],
        measures: vec![measured(Measure::Spearman, 0.0, 0.2)],
        counted: 64,
        misclassified: 0,
        degenerate: 0,
        density: Some(1.0),
        accuracy: Some(1.0),
        assumed: None,
        images: Vec::new(),
        classes: Vec::new(),
        concepts: Vec::new(),
        layers: Vec::new(),
        gate: Some(gate(Vec::new())),
    };
    DriftReport {
        schema_version: DRIFT_SCHEMA_VERSION,
        reference: "dense.safetensors".into(),
        stage: Some(Stage::new("layer3")),
        images: 64,
        floor: vec!["seed1".into(), "seed2".into()],
        floor_counted: Some(61),
        density: Some(1.0),
        accuracy: Some(1.0),
        assumed: None,
        candidates: vec![moved, still],
    }
}

/// The gate's page with pictures of every kind: grey and small, a photograph, a map that is zero.
pub(crate) fn drift_page() -> String {
    let mut report = drift_report();
    report.candidates[0].name = "<script>document.title='broken'</script>".into();
    report.candidates[0].measures = Measure::ALL
        .iter()
        .enumerate()
        .map(|(place, &measure)| MeasuredDrift {
            measure,
            drift: Some(0.3 + 0.1 * ((place * 5) % 7) as f64),
            floor: Some(0.2),
            rho: Some(1.5 + 0.2 * ((place * 3) % 5) as f64),
        })
        .collect();
    let concept = report.candidates[0].concepts[0].clone();
    report.candidates[0].concepts =
        (0..12).map(|place| ConceptDrift { reference: 0.3 * f64::from(place) - 1.0, ..concept.clone() }).collect();
    let shown = |name: &str, shape: [usize; 3], scale: f32| {
        let [channels, height, width] = shape;
        drift::ShownImage {
            name: name.into(),
            drift: 0.9,
            pixels: (0..channels * height * width).map(|at| (at % width * 255 / width) as u8).collect(),
            shape,
            size: [7, 7],
            reference: (0..49).map(|at| at as f32).collect(),
            candidate: (0..49).map(|at| scale * (48 - at) as f32).collect(),
        }
    };
    let first = vec![shown("0007.png", [1, 28, 28], 1.0), shown("photograph.jpg", [3, 200, 300], 1.0)];
    drift::html(&report, &[first, vec![shown("0001.png", [1, 28, 28], 0.0)]]).unwrap()
}

#[test]
fn the_gates_page_shows_what_moved_most_and_runs_no_name() {
    let page = drift_page();
    assert!(!page.contains("<script>document") && page.contains("&lt;script&gt;document"));
    assert_eq!(page.matches("<figcaption>").count(), 3);
    assert!(page.contains("data:image/jpeg") && page.contains("data:image/png"));
    for said in
        ["✗ failed", "pixels changed", "retrained networks reach 1.42", "seed1, seed2", "Standardised concept effects"]
    {
        assert!(page.contains(said), "{said}");
    }
    assert!(page.len() < 400_000, "{} bytes", page.len());
}

#[test]
fn scanners_get_a_result_for_every_question() {
    let sarif: serde_json::Value = serde_json::from_str(&drift::sarif(&drift_report()).unwrap()).unwrap();
    let run = &sarif["runs"][0];
    let found: Vec<[&str; 3]> = run["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| ["ruleId", "kind", "level"].map(|key| result[key].as_str().unwrap()))
        .collect();
    assert_eq!(
        found,
        [
            ["drift/pixels", "fail", "error"],
            ["drift/concepts", "pass", "none"],
            ["drift/accuracy", "review", "none"],
            ["drift/pixels", "pass", "none"],
        ]
    );
    let uri = &run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!(uri, "pruned-10%20%25.safetensors");
    for (place, rule) in run["tool"]["driver"]["rules"].as_array().unwrap().iter().enumerate() {
        let of = run["results"].as_array().unwrap().iter().filter(|result| result["ruleId"] == rule["id"]);
        assert!(of.into_iter().all(|result| result["ruleIndex"] == place));
    }
}

#[test]
fn golden_drift() {
    let report = drift_report();
    assert!(report.tripped());
    golden(|| {
        insta::assert_snapshot!("drift_text", drift::text(&report));
        insta::assert_snapshot!("drift_junit", drift::junit(&report));
        insta::assert_snapshot!("drift_github", drift::github(&report));
        insta::assert_snapshot!("drift_markdown", drift::markdown(&report));
    });
    assert_eq!(drift::github(&report).lines().count(), 2, "a name cannot forge an annotation");
    let read: DriftReport = serde_json::from_str(&drift::json(&report).unwrap()).unwrap();
    assert_eq!(read, report);
    // A measure has one name, whoever writes it.
    assert!(drift::json(&report).unwrap().contains(&format!("\"{}\"", Measure::Iou20.key())));
}

#[test]
fn without_a_gate_nothing_trips_and_what_is_undefined_fails_its_case() {
    let mut report = drift_report();
    let gate = report.candidates[0].gate.take();
    assert!(
        !report.tripped() && drift::text(&report).contains("no gate") && !drift::junit(&report).contains("<failure")
    );
    report.candidates[0].gate = gate;
    let pixels = &mut report.candidates[0].answers[0];
    (pixels.answer, pixels.value, pixels.interval, pixels.measured) = (Explanations::Undecided, None, None, false);
    let xml = drift::junit(&report);
    assert_eq!(xml.matches("<failure").count(), 1);
    assert!(xml.contains("tests=\"4\" failures=\"1\"") && xml.contains("ρ is undefined"), "{xml}");
}

#[test]
fn a_gate_on_what_survived_says_so_in_every_format() {
    let mut report = drift_report();
    report.candidates.truncate(1);
    let candidate = &mut report.candidates[0];
    (candidate.counted, candidate.degenerate) = (1, 61);
    let formats = [drift::text, drift::junit, drift::github, drift::markdown];
    for text in formats.map(|format| format(&report)) {
        assert!(text.contains("only 1 of 64 images count (2 misclassified"), "{text}");
    }
    // Where it passes, how many counted is told all the same.
    report.candidates[0].counted = 60;
    let gate = report.candidates[0].gate.as_mut().unwrap();
    (gate.tripped, gate.tripped_by) = (false, Vec::new());
    for text in formats.map(|format| format(&report)) {
        assert!(text.contains("60 of 64 images count"), "{text}");
    }
    report.floor_counted = Some(3);
    assert!(drift::text(&report).contains("only 3 of 64 images count in the floor"), "{}", drift::text(&report));
}

#[test]
fn github_gets_a_summary_and_nine_annotations_at_most() {
    let mut report = drift_report();
    let (moved, still) = (report.candidates[0].clone(), report.candidates[1].clone());
    report.candidates = vec![still; 11];
    report.candidates.push(moved);
    let lines: Vec<String> = drift::github(&report).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 10);
    assert!(lines[0].starts_with("::notice ") && lines[0].contains("1 of 12 candidates"), "{}", lines[0]);
    assert!(lines[1].starts_with("::error "), "those that tripped come first: {}", lines[1]);
}

#[test]
fn photographs_are_reduced_and_fit() {
    let mut study = fake::study(&SMALL);
    let [channels, height, width] = [3, 200, 300];
    study.manifest.image_shape = [channels, height, width];
    let images = study.manifest.cam_images.len();
    let pixel = |at: usize| ((at % width) * 255 / width) as u8;
    study.maps.pixels = (0..images * channels * height * width).map(pixel).collect();
    let page = html::render(&study).unwrap();
    assert!(page.contains("data:image/jpeg") && page.contains("\"width\":100,\"height\":66"));
    assert!(page.len() < 1_500_000, "{} bytes", page.len());
}

/// The page shows each question's own answer, whatever the call.
#[test]
fn the_picture_answers_each_question_at_each_density() {
    use ticketlens::records::{Accuracy, Call, Explanations, Outcome};
    let mut study = fake::study(&SMALL);
    for record in study.study.densities.iter_mut().filter(|record| record.arm == "lottery" && record.round > 0) {
        record.accuracy.answer = Accuracy::Matches;
        let pixels = &mut record.pixels[0].measures;
        pixels.get_mut(&ticketlens::stats::similarity::Measure::Spearman).unwrap().answer = Explanations::Changed;
        record.concepts[0].ratio.answer = Explanations::Undecided;
        record.call = Call::DriftedWinner;
    }
    study.study.hypothesis_a.outcome = Outcome::NoVerdict;
    (study.study.hypothesis_a.range, study.study.hypothesis_b.range) = (None, None);
    let page = html::render(&study).unwrap();
    assert!(
        page.contains("accuracy: matches, matches, matches. pixels: changed, changed, changed. concepts: undecided")
    );
    assert!(page.contains("not judged") && !page.contains("A holds</text>"));
    let text = terminal::render(&study, false).unwrap();
    assert!(text.contains("A NO VERDICT") && text.contains("✗ changed"), "{text}");
}
