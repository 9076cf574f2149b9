//! Birds in a plan, on a tiny folder in CUB's layout: own concepts without own photographs,
//! localisation, pretrained trunks.

use std::path::Path;

use ticketlens::data::RandomSet;
use ticketlens::model::Stage;
use ticketlens::nn::ParameterKind;
use ticketlens::plan::Plan;
use ticketlens::progress::Silent;
use ticketlens::records::Store;
use ticketlens::records::{FORMAT, RoundId};
use ticketlens::report::{self, Maps, Study};
use ticketlens::run::Setup;
use ticketlens::study::run;

use crate::tiny_cub;

const CONCEPTS: &str =
    r#"{ Ant_bird = ["has_hue_warm"], "002.Bee_bird" = ["has_hue_warm", "has_x_even"], "5" = ["has_hue_cold"] }"#;

fn plan(root: &Path, overrides: &[(&str, &str)]) -> Plan {
    let path = root.display().to_string();
    let mut all = vec![
        ("data.path", path.as_str()),
        ("data.validation", "4"),
        ("data.cub.classes", r#"["Ant_bird", "Bee_bird", 5]"#),
        ("data.cub.side", "24"),
        ("data.cub.resize", "26"),
        ("data.cub.concepts", CONCEPTS),
        ("model.width", "2"),
        ("model.stem", "3x3"),
        ("prune.rounds", "1"),
        ("train.epochs", "2"),
        ("train.batch_size", "8"),
        ("train.warmup_steps", "0"),
        ("explain.cam_images", "12"),
        ("explain.class_images", "6"),
        ("explain.images_per_set", "4"),
        ("explain.random_sets", "20"),
        ("explain.cav", "mean_difference"),
        ("statistics.permutations", "199"),
        ("statistics.bootstrap", "99"),
    ];
    all.extend_from_slice(overrides);
    let all: Vec<(String, String)> = all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Plan::preset("cub-small", &all).unwrap()
}

/// Species of the photograph at that place of the whole folder.
fn species(setup: &Setup, image: usize) -> &str {
    let labels = setup.concept_images.labels();
    &labels.names()[labels.values()[image] as usize]
}

#[test]
fn each_species_is_tested_for_its_own_concepts_without_its_own_photographs() {
    let (_folder, root) = tiny_cub::folder();
    let setup = Setup::new(&plan(&root, &[])).unwrap();
    assert_eq!(setup.data.labels().names(), ["Ant_bird", "Bee_bird", "Cat_bird"]);
    assert_eq!((setup.splits.train.len(), setup.splits.validation.len(), setup.splits.test.len()), (20, 4, 24));
    let names: Vec<(usize, Vec<&str>)> = (setup.concepts.iter())
        .map(|of| (of.classes[0], of.sets.concepts.iter().map(|concept| concept.name.as_str()).collect()))
        .collect();
    let note = setup.concept_note.as_ref().unwrap();
    assert_eq!((note.labels.as_str(), note.pool.as_str(), note.species, note.own_class), ("class", "test", 4, false));
    for (class, own) in [(0, vec!["has_hue_warm"]), (1, vec!["has_hue_warm", "has_x_even"]), (2, vec!["has_hue_cold"])]
    {
        let (control, listed) = names[class].1.split_last().unwrap();
        assert_eq!((names[class].0, listed), (class, own.as_slice()));
        // The control is what the species lacks.
        let (id, name, _) = tiny_cub::SPECIES[class];
        assert_eq!(note.controls[name], *control);
        let attribute = tiny_cub::ATTRIBUTES.iter().find(|(name, _)| name.replace("::", "_") == *control).unwrap();
        assert!(!attribute.1.contains(&id), "{control} is no control of {name}");
    }
    for of in &setup.concepts {
        let own = &setup.data.labels().names()[of.classes[0]];
        for concept in &of.sets.concepts {
            let (_, with) =
                tiny_cub::ATTRIBUTES.iter().find(|(name, _)| name.replace("::", "_") == concept.name).unwrap();
            for &image in &concept.images {
                let shown = species(&setup, image);
                assert_ne!(shown, own, "{}", concept.name);
                assert!(tiny_cub::SPECIES.iter().any(|(id, name, _)| *name == shown && with.contains(id)));
            }
        }
        for set in &of.sets.random {
            let RandomSet::Images(images) = set else { panic!() };
            assert!(images.iter().all(|&image| species(&setup, image) != own));
        }
    }
    let own = Setup::new(&plan(&root, &[("data.cub.own_class", "true"), ("explain.images_per_set", "6")])).unwrap();
    let shows_own = |of: &ticketlens::data::TestedConcepts| {
        let name = &own.data.labels().names()[of.classes[0]];
        of.sets.concepts.iter().flat_map(|concept| &concept.images).any(|&image| species(&own, image) == name)
    };
    assert!(own.concepts.iter().any(shows_own));
    // What is explained is in no set, though photographs of the species may be.
    let pictures = |images: &[usize]| -> Vec<Vec<u8>> {
        images.iter().map(|&image| own.concept_images.bytes(image).unwrap().into_owned()).collect()
    };
    for of in &own.concepts {
        let explained: Vec<Vec<u8>> =
            own.class_images[of.classes[0]].iter().map(|&image| own.data.bytes(image).unwrap().into_owned()).collect();
        assert_eq!(explained.len(), 6);
        let mut drawn: Vec<Vec<u8>> = of.sets.concepts.iter().flat_map(|concept| pictures(&concept.images)).collect();
        for set in &of.sets.random {
            let RandomSet::Images(images) = set else { panic!() };
            drawn.extend(pictures(images));
        }
        assert!(drawn.iter().all(|picture| !explained.contains(picture)));
    }
    assert!(own.concept_note.as_ref().unwrap().own_class);
    // Nine photographs of a concept that only eight others show.
    let error = |overrides: &[(&str, &str)]| Setup::new(&plan(&root, overrides)).err().unwrap().to_string();
    assert!(error(&[("explain.images_per_set", "9")]).contains("Ant_bird, `has_hue_warm`: 8 photographs of 9 needed"));
    assert!(error(&[("data.cub.classes", "[\"Dodo\", 1]")]).contains("no species `Dodo`"));
    assert!(error(&[("data.cub.concepts", "[\"has_teeth\"]")]).contains("no concept `has_teeth`"));
    assert!(error(&[("data.cub.concepts", "paper")]).contains("none of the species learned has a concept"));
}

#[test]
fn a_run_on_birds_records_where_it_looks_and_the_same_bits_for_any_thread_count() {
    let (_folder, root) = tiny_cub::folder();
    let plan = plan(&root, &[("data.cub.cache_mib", "0")]);
    assert_eq!(plan, Plan::parse("again", &plan.to_toml().unwrap(), &[]).unwrap());
    let runs: Vec<_> = [1, 3]
        .into_iter()
        .map(|threads| {
            let out = tempfile::tempdir().unwrap();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let study = pool.install(|| run(&plan, out.path(), &Silent)).unwrap();
            (out, study)
        })
        .collect();
    let (out, study) = &runs[0];
    let store = Store::existing(out.path()).unwrap();
    let manifest = store.manifest().unwrap();
    let mut rounds = Vec::new();
    for summary in &study.networks {
        let record = store.round(&summary.id).unwrap().unwrap();
        let other = Store::existing(runs[1].0.path()).unwrap().round(&summary.id).unwrap().unwrap();
        let timeless = |record: &ticketlens::records::RoundRecord| {
            let mut record = record.clone();
            record.seconds = ticketlens::records::Seconds { train: 0.0, explain: 0.0 };
            record
        };
        assert_eq!(timeless(&record), timeless(&other));
        // Own concepts and the control: 1 + 1, 2 + 1, 1 + 1.
        let tested: Vec<usize> = record.tcav.iter().map(|tcav| tcav.class).collect();
        assert_eq!(tested, [0, 0, 1, 1, 1, 2, 2]);
        assert_eq!(record.cavs.iter().map(|of| of.class).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
        let found = &record.localisation[0];
        assert_eq!((found.stage, found.images + found.degenerate), (Stage::new("layer3"), 12));
        // 16 × 12 of 36 × 28, and the crop keeps 24 of 26 rows: a quarter to a third of the input.
        assert!((0.2..0.4).contains(&found.chance), "{}", found.chance);
        if let (Some(energy), Some(range)) = (found.energy_in_box, found.energy_interval) {
            assert!(range.low <= energy && energy <= range.high && range.low < range.high);
        }
        let parts = found.parts.as_ref().unwrap();
        assert_eq!(parts.nearest.values().sum::<usize>(), parts.images);
        assert!(parts.nearest.keys().all(|name| name == "back"), "the beak is never visible");
        rounds.push(record);
    }
    assert!(manifest.cam_images.iter().all(|image| image.bounding_box.is_some() && image.parts.len() == 1));
    assert_eq!(manifest.format, FORMAT);
    let report = Study {
        name: "birds".into(),
        plan_toml: plan.to_toml().unwrap(),
        manifest,
        rounds,
        study: study.clone(),
        sanity: Vec::new(),
        maps: Maps::default(),
    };
    let html = report::html::render(&report).unwrap();
    assert!(html.contains("Does it look at the object?") && html.contains("none shows the species under test"));
    let markdown = report::markdown::render(&report).unwrap();
    assert!(markdown.contains("## Does it look at the object?") && markdown.contains("maximum at a part"));
    let json: serde_json::Value = serde_json::from_str(&report::json::render(&report).unwrap()).unwrap();
    assert!(json["networks"][0]["localisation"][0]["parts"]["chance"].as_f64().unwrap() > 0.0);
    assert!(report::csv::render(&report).unwrap().contains("energy_in_box"));
}

#[test]
fn replicates_start_from_a_pretrained_trunk_under_heads_of_their_own() {
    let (_folder, root) = tiny_cub::folder();
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("trunk.safetensors");
    // A trunk with a head of four classes, where three are learned.
    let four = Setup::new(&plan(&root, &[("data.cub.classes", "[1, 2, 5, 9]")])).unwrap();
    let mut trunk = four.model.network.initialise(77);
    trunk.buffers.iter_mut().for_each(|value| *value += 0.25);
    std::fs::write(&file, ticketlens::model::save_weights(&trunk).unwrap()).unwrap();
    let with = |path: &Path, overrides: &[(&str, &str)]| {
        let path = path.display().to_string();
        plan(&root, &[&[("model.pretrained", path.as_str())], overrides].concat())
    };
    let pretrained = with(&file, &[]);
    let setup = Setup::new(&pretrained).unwrap();
    let out = tempfile::tempdir().unwrap();
    run(&pretrained, out.path(), &Silent).unwrap();
    let store = Store::existing(out.path()).unwrap();
    assert!(store.manifest().unwrap().pretrained.is_some());
    let heads: Vec<Vec<f32>> = (0..2)
        .map(|replicate| {
            let start = store.rewind_state(replicate, &setup.model).unwrap();
            let mut head = Vec::new();
            for (old, new) in four.model.network.layout.parameters.iter().zip(&setup.model.network.layout.parameters) {
                let values = &start.parameters[new.range.clone()];
                match new.kind {
                    ParameterKind::LinearWeight | ParameterKind::LinearBias => head.extend_from_slice(values),
                    _ => assert_eq!(values, &trunk.parameters[old.range.clone()], "{}", new.name),
                }
            }
            assert_eq!(start.buffers, trunk.buffers);
            head
        })
        .collect();
    assert_ne!(heads[0], heads[1]);
    let dense = RoundId { arm: "lottery".into(), replicate: 0, round: 0 };
    assert_ne!(store.weights(&dense, &setup.model).unwrap().buffers, trunk.buffers, "it was trained");
    // Other weights under the same path are another run.
    let changed = four.model.network.initialise(78);
    std::fs::write(&file, ticketlens::model::save_weights(&changed).unwrap()).unwrap();
    let error = run(&pretrained, out.path(), &Silent).unwrap_err().to_string();
    assert!(error.contains("the pretrained weights have changed"), "{error}");
    let error = |plan: &Plan| Setup::new(plan).err().unwrap().to_string();
    let missing = error(&with(&files.path().join("none.pth"), &[]));
    assert!(missing.contains("model.pretrained") && missing.contains("none.pth"), "{missing}");
    let narrow = error(&with(&file, &[("model.width", "3")]));
    assert!(narrow.contains("trunk.safetensors:conv1.weight") && narrow.contains("expected [3, 3, 3, 3]"), "{narrow}");
}

#[test]
fn presets_of_birds_name_what_they_need() {
    let error = |name: &str, overrides: &[(&str, &str)]| {
        let all: Vec<(String, String)> = overrides.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Plan::preset(name, &all).unwrap_err().to_string()
    };
    assert!(error("cub", &[]).contains("data.path"));
    assert!(error("cub-small", &[]).contains("data.path"));
    let somewhere = ("data.path", "somewhere");
    assert!(error("cub-small", &[somewhere, ("explain.pool", "validation")]).contains("explain.pool"));
    assert!(error("cub-small", &[somewhere, ("data.task", "even-odd")]).contains("data.task"));
    assert!(error("cub-small", &[somewhere, ("data.cub.min_area", "0.0")]).contains("data.cub.min_area"));
    assert!(error("cub-small", &[somewhere, ("data.cub.resize", "90")]).contains("data.cub.side"));
    assert!(error("quick", &[("data.cub.side", "64")]).contains("data.cub"));
    let paper = Plan::preset("cub", &[("data.path".into(), "somewhere".into())]).unwrap();
    assert_eq!(
        (paper.model.family.as_str(), paper.train.epochs, paper.train.batch_size, paper.prune.rounds),
        ("resnet50", 60, 32, 15)
    );
}
