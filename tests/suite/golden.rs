//! What the trained checkpoints of `fixtures/trained` are explained as, round by round, against snapshots in `golden/`.
//!
//! Vector paths add in different orders, so numbers may differ: with a decimal point by [`UNITS`]
//! units of the last digit that is printed (they are rounded first), pixels by [`PIXEL`] of 255.
//! Whole numbers and words are equal. What lies within is then compared as it is stored, so
//! `cargo insta review` shows real changes alone.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use ticketlens::explain::upsample_map;
use ticketlens::kernels::vector_path;
use ticketlens::model::{TensorFile, load_into};
use ticketlens::plan::Plan;
use ticketlens::progress::Silent;
use ticketlens::records::{RoundId, Store, round_ids};
use ticketlens::report::{Maps, RawMaps, Study, html, json, markdown};
use ticketlens::study::{explain_checkpoints, run};

use crate::report::golden;
use crate::support::fixture;

/// Units of the last printed digit by which numbers may differ.
const UNITS: f64 = 2.0;
/// Grey levels by which pixels may differ.
const PIXEL: u8 = 2;
/// Images of the maps that are written out, and of the contact sheet.
const WRITTEN: usize = 3;
const SHOWN: usize = 8;

fn plan() -> Plan {
    let path = fixture("trained/plan.toml");
    Plan::parse("fixtures/trained/plan.toml", &std::fs::read_to_string(path).unwrap(), &[]).unwrap()
}

fn checkpoint(id: &RoundId) -> PathBuf {
    let line = if id.is_twin() { format!("{}-", id.arm) } else { String::new() };
    fixture(&format!("trained/replicate-{}-{line}round-{}.safetensors", id.replicate, id.round))
}

/// The study that the checkpoints give, made once for all tests.
fn study() -> &'static Study {
    static STUDY: OnceLock<Study> = OnceLock::new();
    STUDY.get_or_init(|| {
        let plan = plan();
        let folder = tempfile::tempdir().unwrap();
        let study = explain_checkpoints(
            &plan,
            &|id, model| load_into(model, &TensorFile::open(&checkpoint(id))?),
            folder.path(),
            &Silent,
        )
        .unwrap();
        let store = Store::existing(folder.path()).unwrap();
        let mut maps = Maps { pixels: values(&store.images().unwrap()), ..Maps::default() };
        let mut rounds = Vec::new();
        for id in round_ids(&plan) {
            let mut record = store.round(&id).unwrap().unwrap();
            (record.seconds.train, record.seconds.explain) = (0.0, 0.0);
            for (cam, raw) in record.grad_cam.iter().zip(store.maps(&id).unwrap().values()) {
                maps.raw.insert((id.clone(), cam.stage), RawMaps { size: cam.size, values: values(raw) });
            }
            rounds.push(record);
        }
        let mut manifest = store.manifest().unwrap();
        (manifest.threads, manifest.cpu_features, manifest.vectors) = (0, Vec::new(), String::new());
        manifest.version = String::new();
        let sanity = (0..plan.replicates).filter_map(|replicate| store.sanity(replicate).unwrap()).collect();
        Study { name: plan.name.clone(), plan_toml: plan.to_toml().unwrap(), manifest, rounds, study, sanity, maps }
    })
}

fn values<T: candle_core::WithDType>(tensor: &candle_core::Tensor) -> Vec<T> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// A text cut into words and numbers.
fn tokens(text: &str) -> Vec<&str> {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '+' | '_');
    text.split_inclusive(|c| !part(c)).flat_map(|piece| piece.split(|c| !part(c))).collect()
}

/// Digits after the decimal point of a plain number; none for words.
fn decimals(token: &str) -> Option<usize> {
    token.parse::<f64>().ok()?;
    Some(token.split_once('.').map_or(0, |(_, digits)| digits.len()))
}

fn words_equal_numbers_close(stored: &str, found: &str) -> bool {
    let (stored, found) = (tokens(stored), tokens(found));
    let close = |a: &str, b: &str| {
        if a == b {
            return true;
        }
        // A full stop after a number ends a sentence.
        let (a, b) = (a.trim_end_matches('.'), b.trim_end_matches('.'));
        let (Some(first), Some(second)) = (decimals(a), decimals(b)) else { return false };
        let unit = 0.1_f64.powi(first.max(second) as i32);
        let apart = (a.parse::<f64>().unwrap() - b.parse::<f64>().unwrap()).abs();
        first.max(second) > 0 && apart <= UNITS * unit * 1.000_001
    };
    stored.len() == found.len() && stored.iter().zip(&found).all(|(a, b)| close(a, b))
}

fn stored(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(file)
}

/// `found`, or the stored snapshot where that is the same within tolerance.
fn settled(name: &str, found: String) -> String {
    let text = std::fs::read_to_string(stored(&format!("{name}.snap"))).unwrap_or_default();
    let body = text.splitn(3, "---\n").nth(2).unwrap_or("").trim_end().to_owned();
    if words_equal_numbers_close(&body, found.trim_end()) { body } else { found }
}

/// Written into the folder of `TICKETLENS_ARTEFACTS` (ci/report.sh), if there is one.
fn artefact(name: &str, bytes: &[u8]) {
    if let Some(folder) = std::env::var_os("TICKETLENS_ARTEFACTS") {
        std::fs::write(Path::new(&folder).join(name), bytes).unwrap();
    }
}

#[test]
fn tolerance_is_of_the_last_digit_and_never_of_words_or_whole_numbers() {
    let same = words_equal_numbers_close;
    assert!(same("a 0.1234, \"b\": 3", "a 0.1236, \"b\": 3") && same("p = 0.05.", "p = 0.06."));
    assert!(same("x -0.0001", "x 0.0001") && same("1.0000", "0.9999"));
    for (a, b) in
        [("0.1234", "0.1237"), ("3", "4"), ("a 1.5", "b 1.5"), ("1.5 2.5", "1.5"), ("null", "0.0"), ("0.5", "0.8")]
    {
        assert!(!same(a, b), "{a} {b}");
    }
}

#[test]
fn maps_of_every_round() {
    let study = study();
    let mut text = String::new();
    for ((id, stage), maps) in &study.maps.raw {
        let [height, width] = maps.size;
        for (image, map) in maps.values.chunks_exact(height * width).take(WRITTEN).enumerate() {
            text += &format!("replicate {} round {} {stage} image {image}\n", id.replicate, id.round);
            for row in map.chunks_exact(width) {
                let row: Vec<String> = row.iter().map(|value| format!("{value:.4}")).collect();
                text += &format!("{}\n", row.join(" "));
            }
        }
    }
    golden(|| insta::assert_snapshot!("trained_maps", settled("trained_maps", text)));
}

/// The digits above, then one row of maps for each round, each map over its maximum; replicate 0 left, 1 right.
fn contact_sheet(study: &Study) -> image::GrayImage {
    let [channels, height, width] = study.manifest.image_shape;
    let rounds = study.rounds.iter().map(|record| record.id.round).max().unwrap() + 2;
    let mut sheet = image::GrayImage::new((2 * SHOWN * width) as u32, (rounds * height) as u32);
    let mut put = |column: usize, row: usize, pixels: &dyn Fn(usize) -> u8| {
        for at in 0..height * width {
            let (x, y) = (column * width + at % width, row * height + at / width);
            sheet.put_pixel(x as u32, y as u32, image::Luma([pixels(at)]));
        }
    };
    for ((id, _), maps) in &study.maps.raw {
        for image in 0..SHOWN {
            let column = id.replicate * SHOWN + image;
            put(column, 0, &|at| study.maps.pixels[image * channels * height * width + at]);
            let size = maps.size[0] * maps.size[1];
            let map: Vec<f64> = maps.values[image * size..][..size].iter().map(|&value| f64::from(value)).collect();
            let map = upsample_map(&map, (maps.size[0], maps.size[1]), (height, width));
            let top = map.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
            put(column, id.round + 1, &|at| (255.0 * map[at] / top).round() as u8);
        }
    }
    sheet
}

#[test]
fn contact_sheet_of_every_round() {
    let sheet = contact_sheet(study());
    let before = std::fs::read(stored("trained_contact_sheet.snap.png")).unwrap_or_default();
    let near = image::load_from_memory(&before).is_ok_and(|before| {
        let before = before.to_luma8();
        before.dimensions() == sheet.dimensions()
            && before.as_raw().iter().zip(sheet.as_raw()).all(|(a, b)| a.abs_diff(*b) <= PIXEL)
    });
    let mut png = std::io::Cursor::new(Vec::new());
    sheet.write_to(&mut png, image::ImageFormat::Png).unwrap();
    artefact("contact-sheet.png", png.get_ref());
    let bytes = if near { before } else { png.into_inner() };
    golden(|| insta::assert_binary_snapshot!("trained_contact_sheet.png", bytes));
}

/// Scores, effects and p-values of every round, class and concept.
#[test]
fn concepts_of_every_round() {
    let study = study();
    let mut text = String::from(
        "replicate round class concept score score_p effect standardised effect_p adjusted_effect_p adjusted_score_p held_out\n",
    );
    for record in study.rounds.iter().filter(|record| !record.id.is_twin()) {
        let summary = study.study.networks.iter().find(|summary| summary.id == record.id).unwrap();
        for (tcav, adjusted) in record.tcav.iter().zip(&summary.adjusted) {
            text += &format!(
                "{} {} {} {} {:.4} {:.4} {:.4} {:.4} {:.4} {:.4} {:.4} {:.4}\n",
                record.id.replicate,
                record.id.round,
                tcav.class,
                tcav.concept,
                tcav.score,
                tcav.score_p,
                tcav.effect,
                tcav.effect_standardised.unwrap(),
                tcav.effect_p,
                adjusted.effect_p,
                adjusted.score_p,
                tcav.heldout_accuracy,
            );
        }
    }
    golden(|| insta::assert_snapshot!("trained_concepts", settled("trained_concepts", text)));
}

fn rounded(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Number(number) if number.is_f64() => {
            let near = (number.as_f64().unwrap() * 1e4).round() / 1e4;
            *value = serde_json::json!(near + 0.0);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(rounded),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(rounded),
        _ => {}
    }
}

/// The report as JSON but for its TCAV rows, which `trained_concepts` holds: drift, floor, calls, verdicts.
#[test]
fn report_of_the_study() {
    let mut report: serde_json::Value = serde_json::from_str(&json::render(study()).unwrap()).unwrap();
    report.as_object_mut().unwrap().remove("tcav");
    rounded(&mut report);
    let text = serde_json::to_string_pretty(&report).unwrap();
    artefact("report.html", html::render(study()).unwrap().as_bytes());
    golden(|| insta::assert_snapshot!("trained_report", settled("trained_report", text)));
}

/// The further statistics stand in records, page and Markdown; what the records find is what is shown.
#[test]
fn every_concept_statistic_is_reported() {
    let study = study();
    let mut found = 0;
    for record in study.rounds.iter().filter(|record| record.id.arm == "lottery" && record.id.round == 0) {
        for tcav in &record.tcav {
            let keys: Vec<&str> = tcav.further.keys().map(String::as_str).collect();
            assert_eq!(keys, ["pool_score", "smooth_score"], "digits exclude each other: nothing to condition on");
            found += usize::from(record.id.replicate == 0 && tcav.further["smooth_score"].p_value <= 0.05);
        }
    }
    let text = markdown::render(study).unwrap();
    let table = text.split("## Concepts by every statistic").nth(1).unwrap();
    let row = table.lines().find(|line| line.starts_with("| 0 |")).unwrap();
    assert!(table.contains("smooth score") && row.contains(&found.to_string()), "{row}, {found} in replicate 0");
    assert!(html::render(study).unwrap().contains("id=\"statistics\""));
}

/// The tests above, once more in processes that are held to narrower vectors.
#[test]
fn every_vector_path_explains_alike() {
    if std::env::var_os("TICKETLENS_SIMD").is_some() {
        println!("this process is one of them: {}", vector_path());
        return;
    }
    for path in ["avx512", "avx2", "portable"] {
        if path == vector_path() {
            continue;
        }
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["golden::", "--nocapture"])
            .env("TICKETLENS_SIMD", path)
            .env("INSTA_UPDATE", "no")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{path}: {text}");
        match text.contains(&format!("this process is one of them: {path}")) {
            true => println!("{path}: the same within tolerance"),
            false => println!("skipped: this machine has no {path}"),
        }
    }
}

#[test]
fn no_snapshot_is_orphaned() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    let mut folders = vec![root.join("src"), root.join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    let mut names = 0;
    for entry in std::fs::read_dir(root.join("golden")).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        if file.ends_with(".new") {
            continue;
        }
        let (name, _) = file.split_once(".snap").unwrap_or_else(|| panic!("golden/{file} is no snapshot"));
        let made = [format!("snapshot!(\"{name}\""), format!("snapshot!(\"{name}.")];
        assert!(made.iter().any(|call| sources.contains(call)), "golden/{file}: no test makes it ({made:?})");
        names += 1;
    }
    assert!(names > 9);
}

/// Trains the plan and stores its checkpoints. For a change of the plan alone: the fixtures are inputs, not results.
#[test]
#[ignore = "writes fixtures/trained"]
fn makes_the_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    run(&plan(), folder.path(), &Silent).unwrap();
    for id in round_ids(&plan()) {
        // Those that exist stay: another machine's sums would change every snapshot.
        if checkpoint(&id).exists() {
            continue;
        }
        let store = Store::existing(folder.path()).unwrap();
        let record = store.round(&id).unwrap().unwrap();
        println!("{id:?}: density {:.3}, test accuracy {:.3}", record.density, record.test_accuracy);
        let line = if id.is_twin() { format!("{}/", id.arm) } else { String::new() };
        let from = format!("replicate-{}/{line}round-{:02}/weights.safetensors", id.replicate, id.round);
        std::fs::copy(folder.path().join(from), checkpoint(&id)).unwrap();
    }
}
