//! The readers of outside bytes, each with its corpus and what it may allocate.

use std::path::{Path, PathBuf};

use ticketlens::data::{
    ImageSource, Images, Normalisation, Preprocess, cub, idx, read_class_folders, read_label_argument,
};
use ticketlens::digest::sha256;
use ticketlens::model::{Stage, TensorFile, load_checkpoint, load_into};
use ticketlens::plan::Plan;
use ticketlens::plan::{DataPlan, PRESETS};
use ticketlens::progress::Silent;
use ticketlens::prune::prunable_tensors;
use ticketlens::records::reference::{ImageSet, ReferenceRecord, Setting};
use ticketlens::records::{Store, round_ids};
use ticketlens::report::{Maps, RawMaps, Study, csv, drift, html, json, markdown, terminal};
use ticketlens::study::explain_checkpoints;
use ticketlens::study::gate::{ClassEffect, Dense, Explained, Rules, judge, recorded};

use crate::reseal::reseal;

/// Files of one input: path within its folder, content.
pub(crate) type Tree = Vec<(String, Vec<u8>)>;

/// One reader.
pub(crate) struct Reader {
    pub(crate) name: &'static str,
    /// Inputs that the reader takes, made with a folder to work in.
    pub(crate) corpus: fn(&Path) -> Vec<Tree>,
    /// Reads the folder of one input.
    pub(crate) read: fn(&Path) -> Result<(), String>,
    /// Words of its language.
    pub(crate) words: &'static [&'static str],
    /// Bytes that it may allocate whatever the input, and for each byte of it.
    pub(crate) bytes: usize,
    pub(crate) bytes_per_byte: usize,
}

const MIB: usize = 1 << 20;
/// Deflate makes at most 1,032 bytes of one.
const INFLATED: usize = 2 * 1032;

pub(crate) const READERS: [Reader; 13] = [
    Reader { name: "idx", corpus: idx_files, read: read_idx, words: &[], bytes: 16 * MIB, bytes_per_byte: INFLATED },
    Reader {
        name: "cub",
        corpus: |_| {
            let names = ["001.Ant_bird/0.jpg", "001.Ant_bird/1.jpg", "002.Bee_bird/2.jpg", "002.Bee_bird/3.jpg"];
            vec![with_jpegs(stored("cub"), &names.map(|name| format!("CUB_200_2011/images/{name}")))]
        },
        read: read_cub,
        words: &["0 0", "../../x.jpg", "/x.jpg", "201", "1 2 3"],
        bytes: 64 * MIB,
        bytes_per_byte: 1000,
    },
    Reader {
        name: "safetensors",
        corpus: safetensors_files,
        read: read_safetensors,
        words: &["F32", "F64", "I64", "U8", "BOOL", "BF16", "F8_E5M2", "__metadata__", "\"shape\"", "\"dtype\""],
        bytes: 64 * MIB,
        bytes_per_byte: 64,
    },
    Reader {
        name: "pickle",
        corpus: |_| fixtures("checkpoints", "pth"),
        read: read_pickle,
        words: &["ctorch._utils\n_rebuild_tensor_v2\n", "ctorch\nFloatStorage\n", "R", "t", "}", "("],
        bytes: 64 * MIB,
        bytes_per_byte: INFLATED,
    },
    Reader {
        name: "npy",
        corpus: npy_files,
        read: read_npy,
        words: &["'<f4'", "'<f8'", "'>f4'", "'|u1'", "'<i8'", "True", "False", "(1,)", "()", "(2, 0, 4, 4)"],
        bytes: 16 * MIB,
        bytes_per_byte: 64,
    },
    Reader {
        name: "plan",
        corpus: |_| PRESETS.map(|(name, text)| vec![(format!("{name}.toml"), text.as_bytes().to_vec())]).to_vec(),
        read: read_plan,
        words: &[
            "layerwise",
            "\"adam\"",
            "planted",
            "random_mask",
            "bonferroni",
            "\"18446744073709551615ep\"",
            "[data]",
        ],
        bytes: 64 * MIB,
        bytes_per_byte: 1000,
    },
    Reader {
        name: "records",
        corpus: run_folder,
        read: read_records,
        words: &["\"reinit\"", "\"layer4\"", "\"lottery\"", "1000000", "-5"],
        bytes: 256 * MIB,
        bytes_per_byte: 1000,
    },
    Reader {
        name: "reference",
        corpus: |_| vec![reference()],
        read: read_reference,
        words: &["\"version\"", "\"layer4\"", "null", "maps/0", "I64", "1000000", "-5"],
        bytes: 64 * MIB,
        bytes_per_byte: 1000,
    },
    // The reader's own limit is 512 MiB of decoded picture.
    Reader {
        name: "pictures",
        corpus: |_| vec![with_jpegs(stored("pictures"), &["cat/c.jpg", "dog/a.jpg"].map(str::to_owned))],
        read: read_pictures,
        words: &["IHDR", "IDAT", "PLTE", "tRNS", "IEND", "JFIF"],
        bytes: 1100 * MIB,
        bytes_per_byte: INFLATED,
    },
    // Sources of studies that read more than pictures: a table of attributes, CIFAR-10, the four files of IDX.
    Reader {
        name: "sources",
        corpus: source_folders,
        read: read_sources,
        words: &["image,", ",1", ",?", "\"", "\n", "\r\n", "a/1.png", "\u{feff}", "../", "\\\\"],
        bytes: 64 * MIB,
        bytes_per_byte: INFLATED,
    },
    // The other formats, by content and by name, one folder each.
    Reader {
        name: "formats",
        corpus: format_files,
        read: |folder| {
            let preprocess = Preprocess::new(Some(12), Normalisation::imagenet());
            let source = ImageSource::open(&folder.display().to_string(), &preprocess).map_err(text)?;
            source.values(0..source.len().min(4)).map(drop).map_err(text)
        },
        words: &["GIF89a", "WEBP", "VP8L", "VP8X", "ANIM", "RIFF", "BM", "II*\0", "MM\0*"],
        bytes: 1600 * MIB,
        bytes_per_byte: INFLATED,
    },
    // Labels in texts, and every kind of file that is something else.
    Reader {
        name: "labels",
        corpus: |_| {
            let texts: [(&str, &[u8]); 6] = [
                ("a.txt", b"0\n1\n2\n"),
                ("a.txt", b"\xef\xbb\xbf3\r\n1\r\n\r\n"),
                ("a.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
                ("a.txt", b"<!DOCTYPE html><html></html>"),
                ("a", b"{\"weight_map\": {}}"),
                ("a", b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0x.npy"),
            ];
            texts.map(|(name, bytes)| vec![(name.to_owned(), bytes.to_vec())]).to_vec()
        },
        read: |folder| {
            read_each(folder, |path| {
                let argument = path.display().to_string();
                let _ = TensorFile::open(path);
                let _ = ImageSource::open(&argument, &Preprocess::mnist());
                read_label_argument(&argument, 10).map(drop).map_err(text)
            })
        },
        words: &["\u{feff}", "\r\n", "-1", "9", "\"weight_map\"", "<html", "PK\x03\x04", "git-lfs"],
        bytes: 64 * MIB,
        bytes_per_byte: INFLATED,
    },
    Reader {
        name: "prune",
        corpus: safetensors_files,
        read: |folder| {
            read_each(folder, |path| {
                prunable_tensors(&TensorFile::open(path).map_err(text)?, &[]).map(drop).map_err(text)
            })
        },
        words: &["F32", "F16", "\"shape\""],
        bytes: 64 * MIB,
        bytes_per_byte: 64,
    },
];

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Reads every file of the folder; the first error counts.
fn read_each(folder: &Path, read: impl Fn(&Path) -> Result<(), String>) -> Result<(), String> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).map_err(text)?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().map(|path| read(path)).fold(Ok(()), Result::and)
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The files of a folder, by relative path.
fn tree(root: &Path, keep: &dyn Fn(&Path) -> bool) -> Tree {
    let (mut files, mut folders) = (Tree::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the corpus is there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if keep(&path) {
                let name = path.strip_prefix(root).expect("it lies below").to_string_lossy().into_owned();
                files.push((name, std::fs::read(&path).expect("it can be read")));
            }
        }
    }
    files.sort();
    files
}

fn stored(name: &str) -> Tree {
    tree(&repository("tests/fuzz/corpus").join(name), &|_| true)
}

/// `tree` with drawn JPEGs of those names: no photograph, and no JPEG at all, is in the repository.
fn with_jpegs(mut tree: Tree, names: &[String]) -> Tree {
    for (number, name) in (0u8..).zip(names) {
        let picture =
            image::RgbImage::from_fn(16, 12, |x, y| image::Rgb([8 * x as u8, 10 * y as u8, 60 * (number % 4)]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Jpeg).expect("a picture can be encoded");
        tree.push((name.clone(), bytes.into_inner()));
    }
    tree
}

/// A drawn picture in each of the formats beside PNG and JPEG.
fn format_files(_: &Path) -> Vec<Tree> {
    use image::ImageFormat::{Bmp, Gif, Tiff, WebP};
    let formats = [("a.webp", WebP), ("a.bmp", Bmp), ("a.tif", Tiff), ("a.gif", Gif)];
    let picture = image::RgbImage::from_fn(16, 12, |x, y| image::Rgb([8 * x as u8, 10 * y as u8, 90]));
    let encoded = |format| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::DynamicImage::from(picture.clone()).write_to(&mut bytes, format).expect("a picture can be encoded");
        bytes.into_inner()
    };
    formats.map(|(name, format)| vec![(name.to_owned(), encoded(format))]).to_vec()
}

fn source_folders(_: &Path) -> Vec<Tree> {
    let mut pictures = Tree::new();
    for name in ["a/1.png", "a/2.png", "b/1.png"] {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let grey = image::GrayImage::from_fn(8, 8, |x, y| image::Luma([(name.len() as u32 * 9 + x * y) as u8]));
        grey.write_to(&mut bytes, image::ImageFormat::Png).expect("a picture can be encoded");
        pictures.push((name.to_owned(), bytes.into_inner()));
    }
    pictures.push(("attributes.csv".into(), b"image,\"red, or blue\",winged\na/1.png,1,0\nb/1.png,,yes\n".to_vec()));
    let batches = (1..=5).map(|batch| format!("data_batch_{batch}.bin")).chain(["test_batch.bin".to_owned()]);
    let cifar = batches.map(|name| (name, [vec![3u8], vec![7; 3072]].concat())).collect();
    let array = |dimensions: &[u32]| {
        let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
        dimensions.iter().for_each(|extent| bytes.extend(extent.to_be_bytes()));
        bytes.extend((0..dimensions.iter().product::<u32>()).map(|value| (value % 3) as u8));
        bytes
    };
    let parts = ["train", "t10k"].into_iter();
    let idx = parts.flat_map(|part| {
        let files = [("images-idx3", array(&[4, 3, 3])), ("labels-idx1", array(&[4]))];
        files.map(|(name, bytes)| (format!("{part}-{name}-ubyte"), bytes))
    });
    vec![pictures, cifar, idx.collect()]
}

fn read_sources(folder: &Path) -> Result<(), String> {
    let load = |source: &str| {
        let path = folder.display().to_string();
        let plan = format!("source = {source:?}\ntask = \"classes\"\npath = {path:?}\n[folder]\nside = 8\n");
        let plan: DataPlan = toml::from_str(&plan).map_err(text)?;
        plan.load(0).map(drop).map_err(text)
    };
    load("cifar10").or_else(|_| load("idx")).or_else(|_| load("folder"))
}

/// One input for each fixture with an extension.
fn fixtures(folder: &str, extension: &str) -> Vec<Tree> {
    let files = tree(&repository("fixtures").join(folder), &|path| path.extension().is_some_and(|e| e == extension));
    files.into_iter().map(|file| vec![file]).collect()
}

fn idx_files(_: &Path) -> Vec<Tree> {
    let mut corpus: Vec<Tree> = stored("idx").into_iter().map(|file| vec![file]).collect();
    for (file, dimensions) in [("images", vec![3u32, 4, 5]), ("labels", vec![7])] {
        let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
        dimensions.iter().for_each(|extent| bytes.extend(extent.to_be_bytes()));
        bytes.extend((0..dimensions.iter().product::<u32>()).map(|value| (value % 10) as u8));
        corpus.push(vec![(file.into(), bytes)]);
    }
    corpus
}

fn read_idx(folder: &Path) -> Result<(), String> {
    read_each(folder, |path| {
        let images = idx::read_images(path).map(drop);
        let labels = idx::read_labels(path, 10).map(drop);
        let source = ImageSource::open(&path.display().to_string(), &Preprocess::mnist());
        let values = source.and_then(|source| source.values(0..source.len().min(8))).map(drop);
        images.or(labels).or(values).map_err(text)
    })
}

fn read_cub(folder: &Path) -> Result<(), String> {
    let cub = cub::read_cub(&folder.join("CUB_200_2011")).map_err(first_line)?;
    let preprocess = Preprocess::new(Some(8), Normalisation::imagenet());
    let _ = cub.placements(&preprocess);
    let _ = cub.check_pictures();
    let data = cub.dataset(&preprocess, 0).map_err(text)?;
    let count = data.len().min(3);
    data.tensor(&(0..count).collect::<Vec<_>>()).map_err(text)?;
    for level in [cub::ConceptLevel::Class, cub::ConceptLevel::Image] {
        cub.concepts(level).map(drop).map_err(first_line)?;
    }
    Ok(())
}

/// CUB's reader lists all faults, a line each.
fn first_line(error: impl std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

fn safetensors_files(_: &Path) -> Vec<Tree> {
    fixtures("checkpoints", "safetensors")
}

fn read_safetensors(folder: &Path) -> Result<(), String> {
    read_each(folder, |path| {
        let argument = path.display().to_string();
        for key in ["images", "conv1.weight"] {
            if let Ok(source) = ImageSource::open(&format!("{argument}:{key}"), &Preprocess::mnist()) {
                let _ = source.values(0..source.len().min(4));
            }
            let _ = read_label_argument(&format!("{argument}:{key}"), 10);
        }
        load_checkpoint(path).map(drop).map_err(text)
    })
}

fn read_pickle(folder: &Path) -> Result<(), String> {
    read_each(folder, |path| {
        TensorFile::open(path).map(drop).map_err(text)?;
        load_checkpoint(path).map(drop).map_err(text)
    })
}

fn npy_files(_: &Path) -> Vec<Tree> {
    let file = |descr: &str, shape: &str, bytes: Vec<u8>| {
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        while !(header.len() + 11).is_multiple_of(64) {
            header.push(' ');
        }
        header.push('\n');
        let mut all = b"\x93NUMPY\x01\x00".to_vec();
        all.extend((header.len() as u16).to_le_bytes());
        all.extend(header.bytes());
        all.extend(bytes);
        vec![("array.npy".to_owned(), all)]
    };
    let floats: Vec<u8> = (0..2 * 16).flat_map(|value| (value as f32 / 7.0).to_le_bytes()).collect();
    let doubles: Vec<u8> = (0..2 * 16).flat_map(|value| f64::from(value).to_le_bytes()).collect();
    let labels: Vec<u8> = (0..5_i64).flat_map(i64::to_le_bytes).collect();
    vec![file("<f4", "(2, 1, 4, 4)", floats), file("<f8", "(2, 1, 4, 4)", doubles), file("<i8", "(5,)", labels)]
}

fn read_npy(folder: &Path) -> Result<(), String> {
    read_each(folder, |path| {
        let argument = path.display().to_string();
        let labels = read_label_argument(&argument, 10).map(drop);
        let source = ImageSource::open(&argument, &Preprocess::mnist());
        let values = source.and_then(|source| source.values(0..source.len().min(8))).map(drop);
        labels.or(values).map_err(text)
    })
}

fn read_plan(folder: &Path) -> Result<(), String> {
    read_each(folder, |path| {
        let toml = String::from_utf8_lossy(&std::fs::read(path).map_err(text)?).into_owned();
        let plan = Plan::parse("plan", &toml, &[]).map_err(text)?;
        let written = plan.to_toml().map_err(text)?;
        let again = Plan::parse("again", &written, &[]).map_err(|error| format!("written plan: {error}"))?;
        assert_eq!(plan.digest().map_err(text)?, again.digest().map_err(text)?, "a plan survives a round trip");
        let _ = plan.power_warnings(60);
        plan.explain.design(plan.seed).map(drop).map_err(text)
    })
}

/// A finished run of the present format: the trained fixtures, cut down.
fn run_folder(work: &Path) -> Vec<Tree> {
    let text = std::fs::read_to_string(repository("fixtures/trained/plan.toml")).expect("a fixture");
    let overrides = [
        ("prune.rounds", "1"),
        ("data.test", "120"),
        ("explain.cam_images", "4"),
        ("explain.class_images", "6"),
        ("explain.images_per_set", "4"),
        ("explain.random_sets", "20"),
        ("statistics.permutations", "199"),
        ("statistics.bootstrap", "99"),
    ];
    let overrides: Vec<(String, String)> = overrides.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let plan = Plan::parse("trained", &text, &overrides).expect("a plan");
    let folder = work.join("run");
    explain_checkpoints(
        &plan,
        &|id, model| {
            let name = format!("fixtures/trained/replicate-{}-round-{}.safetensors", id.replicate, id.round);
            load_into(model, &TensorFile::open(&repository(&name))?)
        },
        &folder,
        &Silent,
    )
    .expect("the fixtures can be explained");
    // Weights and masks are the other readers' business, and large.
    vec![tree(&folder, &|path| !path.ends_with("weights.safetensors"))]
}

/// A recorded reference of the drift gate: two networks, six images, two concepts.
fn reference() -> Tree {
    let network = |name: &str, tilt: f32| Explained {
        name: name.into(),
        size: [2, 3],
        maps: (0..6).map(|image| (0..6).map(|at| (at as f32 * tilt + image as f32).sin() + 1.0).collect()).collect(),
        predicted: Some(vec![0, 1, 0, 1, 0, 1]),
        effects: (0..2)
            .map(|class| ClassEffect {
                class,
                concept: "striped".into(),
                standardised: Some(f64::from(tilt) + class as f64),
                significant: true,
            })
            .collect(),
        density: Some(1.0),
        assumed: None,
    };
    let dense = Dense {
        images: (0..6).map(|image| format!("{image}.png")).collect(),
        labels: Some(vec![0, 1, 0, 1, 1, 1]),
        targets: vec![0, 1, 0, 1, 1, 1],
        stage: Some(Stage::new("layer4")),
        reference: network("dense", 1.0),
        floor: vec![network("floor", 1.3)],
    };
    let set = |argument: &str| ImageSet { argument: argument.into(), count: 6, shape: [1, 2, 3], sha256: "0".into() };
    let setting = Setting {
        stage: Stage::new("layer4"),
        tested: "present".into(),
        batch: 32,
        preparation: [("size".to_owned(), "224".to_owned())].into(),
    };
    let sets = recorded::Sets {
        images: set("images"),
        concepts: vec![("striped".into(), set("striped"))],
        random: vec![set("a"), set("b")],
    };
    let (record, tensors) = recorded::record(&dense, &["a".into(), "b".into()], 2, setting, sets).unwrap();
    vec![("r.json".into(), record.to_bytes().unwrap()), ("r.safetensors".into(), tensors)]
}

/// Both files, the tensors as if they were those that the record names.
fn read_reference(folder: &Path) -> Result<(), String> {
    // As with the records of a run: the reader behind the digest is meant.
    reseal(folder);
    let bytes = |name: &str| std::fs::read(folder.join(name)).map_err(|error| error.to_string());
    let (json, tensors) = (bytes("r.json")?, bytes("r.safetensors")?);
    let mut record = ReferenceRecord::from_bytes(&json).map_err(|error| error.to_string())?;
    record.tensors = sha256(&tensors);
    let dense = recorded::dense(&record, &tensors).map_err(|error| error.to_string())?;
    let candidates = [dense.reference.clone()];
    let report = judge(&dense, &candidates, &Rules::default()).map_err(|error| error.to_string())?;
    recorded::changes((&record, &dense), (&record, &dense)).map_err(|error| error.to_string())?;
    drift::text(&report);
    drift::json(&report).map(|_| ()).map_err(|error| error.to_string())
}

fn read_records(folder: &Path) -> Result<(), String> {
    // As damaged as it is, with seals that fit: the readers behind the hashes are meant.
    reseal(folder);
    let store = Store::existing(folder).map_err(text)?;
    let plan = store.plan().map_err(text)?;
    // A run of a million rounds is a long loop, not a fault.
    if plan.prune.rounds > 50 || plan.replicates > 50 {
        return Err("a long plan".into());
    }
    let manifest = store.manifest().map_err(text)?;
    let mut maps = Maps {
        pixels: store.images().map_err(text)?.flatten_all().map_err(text)?.to_vec1().map_err(text)?,
        ..Maps::default()
    };
    let mut rounds = Vec::new();
    for id in round_ids(&plan) {
        let Some(record) = store.round(&id).map_err(text)? else { continue };
        let mut raw = store.maps(&id).map_err(text)?;
        for cam in &record.grad_cam {
            if let Some(tensor) = raw.remove(cam.stage.name()) {
                let values = tensor.flatten_all().map_err(text)?.to_vec1().map_err(text)?;
                maps.raw.insert((id.clone(), cam.stage), RawMaps { size: cam.size, values });
            }
        }
        rounds.push(record);
    }
    let mut sanity = Vec::new();
    for replicate in 0..plan.replicates {
        sanity.extend(store.sanity(replicate).map_err(text)?);
    }
    let study = store.study().map_err(text)?;
    let study = Study {
        name: plan.name.clone(),
        plan_toml: plan.to_toml().map_err(text)?,
        manifest,
        rounds,
        study,
        sanity,
        maps,
    };
    let forms = [
        html::render(&study),
        json::render(&study),
        csv::render(&study),
        markdown::render(&study),
        terminal::render(&study, true),
    ];
    for form in forms {
        form.map_err(text)?;
    }
    // Drift and verdicts from the records alone.
    ticketlens::study::derive(&plan, &store).map(drop).map_err(text)
}

fn read_pictures(root: &Path) -> Result<(), String> {
    let preprocess = Preprocess::new(Some(12), Normalisation::imagenet());
    if let Ok(source) = ImageSource::open(&root.join("one").display().to_string(), &Preprocess::mnist()) {
        let _ = source.values(0..source.len().min(4));
    }
    let data = read_class_folders(root, &preprocess, 0).map_err(text)?;
    data.tensor(&(0..data.len()).collect::<Vec<_>>()).map(drop).map_err(text)
}
