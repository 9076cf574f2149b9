use std::collections::BTreeMap;
use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::data::Normalisation;
use crate::data::read_label_argument;

fn plain() -> Normalisation {
    Normalisation::new(&[0.0], &[1.0]).unwrap()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_string()
}

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn message(argument: &str) -> String {
    ImageSource::open(argument, &Preprocess::mnist()).unwrap_err().to_string()
}

#[test]
fn safetensors_are_read_range_by_range_as_candle_reads_them_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let values: Vec<f32> = (0..5 * 2 * 3 * 4).map(|i| (i as f32).sin()).collect();
    let images = Tensor::from_vec(values, (5, 2, 3, 4), &Device::Cpu).unwrap();
    let other = Tensor::ones(3, candle_core::DType::U8, &Device::Cpu).unwrap();
    let tensors = [("images", &images), ("labels", &other)].map(|(n, t)| (n.to_string(), t.clone()));
    safetensors::serialize_to_file(tensors, None, &path).unwrap();
    let source = ImageSource::open(&format!("{}:images", path.display()), &Preprocess::mnist()).unwrap();
    assert_eq!((source.len(), source.shape()), (5, (2, 3, 4)));
    let ranges: Vec<_> = source.ranges(2).collect();
    assert_eq!(ranges, [0..2, 2..4, 4..5]);
    let batches: Vec<Tensor> = ranges.into_iter().map(|r| source.batch(r, &Device::Cpu).unwrap()).collect();
    let joined = Tensor::cat(&batches, 0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(joined, images.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    assert!(source.batch(4..6, &Device::Cpu).is_err());
    let labels = read_label_argument(&format!("{}:labels", path.display()), 2).unwrap();
    assert_eq!(labels, [1, 1, 1]);
    assert!(message(&format!("{}:pictures", path.display())).contains("no tensor `pictures`; it holds images, labels"));
    assert!(message(&format!("{}:labels", path.display())).contains("(N, C, H, W)"));
    assert!(message(path.to_str().unwrap()).contains("say which tensor"));
}

/// So many values that several threads read them.
#[test]
fn large_images_are_read_in_pieces_and_the_first_bad_value_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..3 * 70_001).map(|i| (i as f32 * 0.37).sin()).collect();
    for (element, shape) in [("<f4", "(3, 1, 1, 70001)"), ("<f8", "(3, 1, 1, 70001)")] {
        let open = |values: &[f32]| {
            let data: Vec<u8> = match element {
                "<f4" => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                _ => values.iter().flat_map(|&value| f64::from(value).to_le_bytes()).collect(),
            };
            let path = write(folder.path(), "large.npy", &npy(element, shape, &data));
            ImageSource::open(&path, &Preprocess::mnist()).unwrap()
        };
        let source = open(&values);
        assert_eq!(source.values(0..3).unwrap(), values);
        assert_eq!(source.values(1..3).unwrap(), values[70_001..]);
        let mut bad = values.clone();
        (bad[70_001 + 69_000], bad[2 * 70_001 + 7]) = (f32::NAN, f32::INFINITY);
        let message = open(&bad).values(0..3).unwrap_err().to_string();
        assert!(message.contains("image 1 holds NaN at its value 69000"), "{message}");
        let message = open(&bad).values(2..3).unwrap_err().to_string();
        assert!(message.contains("image 2 holds inf at its value 7"), "{message}");
    }
}

#[test]
fn broken_safetensors_are_refused_before_anything_is_allocated() {
    let folder = tempfile::tempdir().unwrap();
    let entry = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let cases = [
        (vec![], "is empty"),
        (vec![1, 2, 3], "is truncated"),
        (u64::MAX.to_le_bytes().to_vec(), "claims a header of"),
        ([&99_000_000u64.to_le_bytes()[..], b"{}"].concat(), "claims a header of 99000000 bytes, but has 10"),
        (safetensors("not json", &[]), "header is broken"),
        (safetensors(r#"{"x":3}"#, &[]), "tensor `x`"),
        (safetensors(&entry("F32", "[1,1,1,2]", "[0,8]"), &[0; 4]), "need 8 bytes of data, but it has 4"),
        (safetensors(&entry("F32", "[1,1,1,2]", "[0,8]"), &[0; 12]), "need 8 bytes of data, but it has 12"),
        (safetensors(&entry("F32", "[1,1,1,2]", "[4,12]"), &[0; 12]), "expected at 0"),
        (safetensors(&entry("F32", "[1,1,1,3]", "[0,8]"), &[0; 8]), "does not fit its offsets"),
        (safetensors(&entry("F32", "[4294967296,4294967296,1,1]", "[0,8]"), &[0; 8]), "does not fit its offsets"),
        (safetensors(&entry("F32", "[1,1,2]", "[0,8]"), &[0; 8]), "must be (N, C, H, W), its shape is [1, 1, 2]"),
        (safetensors(&entry("F32", "[0,1,2,2]", "[0,0]"), &[]), "holds no images"),
        (safetensors(&entry("F16", "[1,1,2,2]", "[0,8]"), &[0; 8]), "holds F16"),
        (safetensors(&entry("U8", "[1,1,2,2]", "[0,4]"), &[0; 4]), "must be f32"),
    ];
    for (bytes, expected) in cases {
        let path = write(folder.path(), "x.safetensors", &bytes);
        let message = message(&format!("{path}:x"));
        assert!(message.contains(expected) && message.contains("x.safetensors"), "{message} lacks {expected}");
    }
    assert!(message("nowhere.safetensors:x").contains("nowhere.safetensors: No such file"));
}

#[test]
fn values_that_are_not_finite_name_file_key_and_image() {
    let folder = tempfile::tempdir().unwrap();
    for bad in [f32::NAN, f32::INFINITY] {
        let values = [0.0, 1.0, 2.0, 3.0, 4.0, bad];
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let header = r#"{"x":{"dtype":"F32","shape":[3,1,1,2],"data_offsets":[0,24]}}"#;
        let path = write(folder.path(), "x.safetensors", &safetensors(header, &data));
        let source = ImageSource::open(&format!("{path}:x"), &Preprocess::mnist()).unwrap();
        assert_eq!(source.values(0..2).unwrap(), [0.0, 1.0, 2.0, 3.0]);
        let message = source.values(1..3).unwrap_err().to_string();
        assert!(message.contains("x.safetensors:x: image 2 holds") && message.ends_with("value 1"), "{message}");
    }
}

#[test]
fn numpy_files_are_read_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let data: Vec<u8> = (0..6).flat_map(|v| f64::from(v).to_le_bytes()).collect();
    let path = write(folder.path(), "x.npy", &npy("<f8", "(3, 1, 1, 2)", &data));
    let source = ImageSource::open(&path, &Preprocess::mnist()).unwrap();
    assert_eq!((source.len(), source.shape()), (3, (1, 1, 2)));
    assert_eq!(source.values(1..3).unwrap(), [2.0, 3.0, 4.0, 5.0]);
    let floats: Vec<u8> = (0..4).flat_map(|v| (v as f32).to_le_bytes()).collect();
    let path = write(folder.path(), "x.npy", &npy("<f4", "(1,1,2,2)", &floats));
    assert_eq!(ImageSource::open(&path, &Preprocess::mnist()).unwrap().values(0..1).unwrap(), [0.0, 1.0, 2.0, 3.0]);
    let cases = [
        (b"\x93NUMPX\x01\x00\x00\x00".to_vec(), "bad magic"),
        (b"\x93NUMPY\x01\x00\xff\xff".to_vec(), "claims a header of 65535"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "claims a header of 4294967295"),
        (npy("<f4", "(1, 1, 2, 3)", &floats), "does not fit the 16 bytes"),
        (npy(">f4", "(1, 1, 2, 2)", &floats), "element type >f4"),
        (npy("<f4", "(2, 2)", &floats), "must be (N, C, H, W)"),
        (npy("<f4", "(18446744073709551615, 9, 9, 9)", &floats), "does not fit"),
        (npy("<f4", "(a)", &floats), "no readable `shape`"),
        (b"\x93NU".to_vec(), "is truncated"),
    ];
    for (bytes, expected) in cases {
        let message = message(&write(folder.path(), "x.npy", &bytes));
        assert!(message.contains(expected) && message.contains("x.npy"), "{message} lacks {expected}");
    }
    let labels: Vec<u8> = [3i64, 1].iter().flat_map(|v| v.to_le_bytes()).collect();
    let path = write(folder.path(), "l.npy", &npy("<i8", "(2,)", &labels));
    assert_eq!(read_label_argument(&path, 4).unwrap(), [3, 1]);
    assert!(read_label_argument(&path, 3).unwrap_err().to_string().contains("label 3 of image 0"));
    let path = write(folder.path(), "l.txt", b"0\n2\nx\n");
    assert!(read_label_argument(&path, 3).unwrap_err().to_string().contains("line 3: `x` is not a label"));
}

fn gradient(width: u32, height: u32) -> image::RgbImage {
    image::RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 7) as u8, (y * 5) as u8, (x + y) as u8]))
}

/// A PNG of 8×8 pixels whose header claims `width` × `height`.
fn claiming(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    gradient(8, 8).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let mut bytes = bytes.into_inner();
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    bytes
}

#[test]
fn a_claimed_size_takes_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    for (width, height, expected) in [
        (0x1000_0008, 8, "a side may have 20000"),
        (19_000, 8, "a side may have 4096: give --size"),
        (0, 8, "without pixels"),
    ] {
        let message = message(&write(folder.path(), "x.png", &claiming(width, height)));
        assert!(message.contains(expected) && message.contains("x.png"), "{message} lacks {expected}");
    }
    // What the header alone does not refuse is decoded before its values take memory.
    let path = write(folder.path(), "x.png", &claiming(4_096, 4_096));
    let source = ImageSource::open(&path, &Preprocess::mnist()).unwrap();
    let message = source.values(0..1).unwrap_err().to_string();
    assert!(message.contains("x.png"), "{message}");
    let mut idx = [0, 0, 8, 3].to_vec();
    idx.extend([1u32, 1, 5_000].iter().flat_map(|n| n.to_be_bytes()));
    idx.resize(16 + 5_000, 0);
    let message = self::message(&write(folder.path(), "x.idx", &idx));
    assert!(message.contains("give --size"), "{message}");
}

#[test]
fn folders_are_read_by_name_resized_and_cropped() {
    let folder = tempfile::tempdir().unwrap();
    gradient(30, 20).save(folder.path().join("b.png")).unwrap();
    gradient(20, 40).save(folder.path().join("a.jpg")).unwrap();
    write(folder.path(), "notes.txt", b"not a picture");
    write(folder.path(), "._b.png", b"not a picture either");
    let preprocess = Preprocess { resize: Some(10), crop: Some(8), normalisation: Normalisation::imagenet() };
    let source = ImageSource::open(folder.path().to_str().unwrap(), &preprocess).unwrap();
    assert_eq!((source.len(), source.shape()), (2, (3, 8, 8)));
    assert!(source.image_name(0).ends_with("a.jpg"));
    let both = source.values(0..2).unwrap();
    assert_eq!(both[3 * 64..], source.values(1..2).unwrap());
    // b.png: 30×20 to 15×10, cut at left 4 (3.5 to even), top 1; its red channel rises with x.
    let place = preprocess.placement(30, 20);
    assert_eq!((place.resized, place.left, place.top, place.size), ((15, 10), 4, 1, (8, 8)));
    let red = |x: usize| (both[3 * 64 + x] * 0.229 + 0.485) * 255.0;
    for x in 0..8 {
        let expected = 7.0 * ((x + 4) as f32 * 2.0 + 0.5);
        assert!((red(x) - expected).abs() <= 1.0, "column {x}: {} against {expected}", red(x));
    }
    // Without a size, shapes differ; grey takes one channel.
    let message = message(folder.path().to_str().unwrap());
    assert!(message.contains("b.png: makes (30, 20) pixels") && message.contains("--size"), "{message}");
    std::fs::remove_file(folder.path().join("a.jpg")).unwrap();
    let grey = ImageSource::open(folder.path().to_str().unwrap(), &Preprocess::new(None, plain())).unwrap();
    assert_eq!(grey.shape(), (1, 20, 30));
    let value = grey.values(0..1).unwrap()[3 * 30 + 2] * 255.0;
    assert_eq!(value.round(), (0.299 * 14.0 + 0.587 * 15.0 + 0.114 * 5.0f32).round());
}

#[test]
fn broken_pictures_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    gradient(40, 40).save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut png = std::io::Cursor::new(Vec::new());
    gradient(40, 40).write_to(&mut png, image::ImageFormat::Png).unwrap();
    let png = png.into_inner();
    let mut flipped = png.clone();
    flipped[png.len() / 2] ^= 0x55;
    // Header cut short: what follows is taken for a length, and the end marker is part of it.
    let headless = [&whole[..22], &[0xff, 0xd9]].concat();
    let preprocess = Preprocess::new(Some(16), plain());
    for (bytes, expected) in [
        (&[][..], "is empty"),
        (&whole[..whole.len() / 2], "truncated JPEG"),
        (&whole[..whole.len() - 2], "truncated JPEG"),
        (&png[..png.len() / 2], "cannot be decoded"),
        (&flipped[..], "cannot be decoded"),
        (b"GIF89a", "is a GIF"),
        (&headless[..], "truncated JPEG"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let source = ImageSource::open(folder.path().to_str().unwrap(), &preprocess).unwrap();
        let message = source.values(0..1).unwrap_err().to_string();
        assert!(message.contains("a.jpg") && message.contains(expected), "{message} lacks {expected}");
        assert!(!message.contains('\n'), "{message:?} is one line");
    }
    // A GIF whose screen is 0 pixels wide.
    let mut flat = Vec::new();
    image::DynamicImage::new_rgba8(2, 2)
        .write_to(&mut std::io::Cursor::new(&mut flat), image::ImageFormat::Gif)
        .unwrap();
    flat[6..8].fill(0);
    let gif = folder.path().join("a.gif");
    std::fs::write(&gif, flat).unwrap();
    let source = ImageSource::open(gif.to_str().unwrap(), &preprocess).unwrap();
    assert!(source.values(0..1).unwrap_err().to_string().contains("without pixels"));
    let empty = tempfile::tempdir().unwrap();
    assert!(message(empty.path().to_str().unwrap()).contains("holds no pictures"));
    for (resize, crop) in [(Some(0), None), (Some(8), Some(9)), (Some(30_000), None)] {
        let bad = Preprocess { resize, crop, normalisation: plain() };
        assert!(ImageSource::open(folder.path().to_str().unwrap(), &bad).unwrap_err().to_string().contains("--size"));
    }
}

#[test]
fn idx_files_are_images_too() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/mnist/t10k-images-idx3-ubyte.gz");
    let source = ImageSource::open(folder, &Preprocess::mnist()).unwrap();
    assert_eq!((source.len(), source.shape()), (2000, (1, 28, 28)));
    let data = crate::data::builtin_mnist().unwrap();
    let mut expected = vec![0.0; 2 * 784];
    data.write_nchw(&[12_005, 12_006], &mut expected).unwrap();
    assert_eq!(source.values(5..7).unwrap(), expected);
    let large = Preprocess::new(Some(56), Normalisation::imagenet());
    assert_eq!(ImageSource::open(folder, &large).unwrap().batch(0..3, &Device::Cpu).unwrap().dims(), [3, 3, 56, 56]);
    let labels = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/mnist/t10k-labels-idx1-ubyte.gz");
    assert_eq!(read_label_argument(labels, 10).unwrap(), data.fine().values()[12_000..]);
    assert!(message(labels).contains("bad magic"));
}

#[test]
fn thread_count_does_not_change_pictures() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..12 {
        gradient(30 + i, 40).save(folder.path().join(format!("{i:02}.png"))).unwrap();
    }
    let source = ImageSource::open(folder.path().to_str().unwrap(), &Preprocess::new(Some(17), plain())).unwrap();
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| source.values(0..12).unwrap())
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn oracle_inputs_open() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/oracle/resnet18_mnist/inputs.safetensors");
    if !Path::new(file).is_file() {
        eprintln!("skipped: {file} is absent");
        return;
    }
    let source = ImageSource::open(&format!("{file}:images"), &Preprocess::mnist()).unwrap();
    assert_eq!(source.shape(), (1, 28, 28));
    assert_eq!(source.values(0..source.len()).unwrap().len(), source.len() * 784);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), claim in 0u64..200, kind in 0..6) {
        let folder = tempfile::tempdir().unwrap();
        let (name, file) = match kind {
            0 => ("f.safetensors", bytes),
            1 => ("f.safetensors", [&claim.to_le_bytes()[..], &bytes].concat()),
            2 => ("f.npy", [b"\x93NUMPY\x01\x00\x20\x00", &bytes[..]].concat()),
            3 => ("f.png", [b"\x89PNG\r\n\x1a\n", &bytes[..]].concat()),
            4 => ("f.jpg", [b"\xff\xd8\xff\xe0", &bytes[..], b"\xff\xda\xff\xd9"].concat()),
            _ => ("f.idx", bytes),
        };
        let path = write(folder.path(), name, &file);
        let argument = if name.ends_with("safetensors") { format!("{path}:x") } else { path };
        if let Ok(source) = ImageSource::open(&argument, &Preprocess::new(Some(4), plain())) {
            let _ = source.values(0..1);
        }
    }

    #[test]
    fn random_headers_never_panic(shape in prop::collection::vec(any::<u64>(), 0..5), offsets in any::<(u64, u64)>(), small: bool) {
        let folder = tempfile::tempdir().unwrap();
        let offsets = if small { (offsets.0 % 9, offsets.1 % 9) } else { offsets };
        let mut header = BTreeMap::new();
        header.insert("x", serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": offsets}));
        let path = folder.path().join("f.safetensors");
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(&safetensors(&serde_json::to_string(&header).unwrap(), &[0; 8])).unwrap();
        if let Ok(source) = ImageSource::open(&format!("{}:x", path.display()), &Preprocess::mnist()) {
            let _ = source.values(0..1);
        }
    }
}
