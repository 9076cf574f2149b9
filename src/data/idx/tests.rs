use std::io::Write;

use candle_core::Device;
use proptest::prelude::*;

use super::*;

fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|s| file.extend(s.to_be_bytes()));
    file.extend(bytes);
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder of 6 training and 4 test images of 2×3 pixels.
fn tiny_folder(join: &str, gz: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (prefix, count) in [("train", 6u32), ("t10k", 4)] {
        let pixels: Vec<u8> = (0..count * 6).map(|i| i as u8).collect();
        let labels: Vec<u8> = (0..count).map(|i| i as u8).collect();
        for (name, bytes) in [
            (format!("{prefix}-images{join}idx3-ubyte"), idx(&[count, 2, 3], &pixels)),
            (format!("{prefix}-labels{join}idx1-ubyte"), idx(&[count], &labels)),
        ] {
            let (name, bytes) = if gz { (name + ".gz", gzip(&bytes)) } else { (name, bytes) };
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
    }
    folder
}

#[test]
fn folder_reads_alike_raw_gzip_and_in_both_spellings() {
    let reference = read_folder(tiny_folder("-", false).path(), Family::Mnist).unwrap();
    assert_eq!((reference.len(), reference.shape()), (10, (1, 2, 3)));
    assert_eq!(reference.fine().values(), [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]);
    assert_eq!(reference.origins().iter().filter(|&&o| o == Origin::Test).count(), 4);
    for (join, gz) in [("-", true), (".", false), (".", true)] {
        let other = read_folder(tiny_folder(join, gz).path(), Family::Mnist).unwrap();
        assert_eq!(other.fingerprint(), reference.fingerprint());
    }
}

#[test]
fn every_fault_names_its_file() {
    let image = |sizes: &[u32], bytes: &[u8]| ("train-images-idx3-ubyte", idx(sizes, bytes));
    let label = |sizes: &[u32], bytes: &[u8]| ("train-labels-idx1-ubyte", idx(sizes, bytes));
    let cases = [
        (("t10k-labels-idx1-ubyte", idx(&[4, 1], &[0; 4])), "bad magic"),
        (("train-images-idx3-ubyte", vec![0, 0, 8]), "truncated IDX header"),
        (("train-images-idx3-ubyte", vec![]), "truncated IDX header"),
        (image(&[6, 2, 3], &[0; 35]), "need 52 bytes, but has 51"),
        (image(&[6, 2, 3], &[0; 37]), "need 52 bytes, but has 53"),
        (image(&[u32::MAX, u32::MAX, u32::MAX], &[]), "more than"),
        (image(&[1 << 20, 1 << 10, 1], &[0; 8]), "but has 24"),
        (image(&[0, 2, 3], &[]), "holds no images"),
        (image(&[5, 2, 3], &[0; 30]), "holds 6 labels, but"),
        (label(&[6], &[0, 1, 2, 3, 4, 10]), "label 10 of image 5 is out of range"),
        (("t10k-images-idx3-ubyte", idx(&[4, 3, 2], &[0; 24])), "images are 3×2"),
    ];
    for ((name, bytes), expected) in cases {
        for gz in [false, true] {
            let folder = tiny_folder("-", false);
            std::fs::write(folder.path().join(name), if gz { gzip(&bytes) } else { bytes.clone() }).unwrap();
            let message = read_folder(folder.path(), Family::Mnist).unwrap_err().to_string();
            assert!(message.contains(&name[..name.len().min(5)]), "{message}");
            if !gz || !expected.contains("but has") {
                assert!(message.contains(expected), "{message} lacks {expected}");
            }
        }
    }
    let folder = tiny_folder("-", false);
    std::fs::remove_file(folder.path().join("t10k-images-idx3-ubyte")).unwrap();
    let message = read_folder(folder.path(), Family::Mnist).unwrap_err().to_string();
    assert!(message.contains("t10k-images-idx3-ubyte: not found"), "{message}");
}

#[test]
fn broken_gzip_is_a_named_fault() {
    let folder = tiny_folder("-", false);
    let path = folder.path().join("train-images-idx3-ubyte");
    let whole = gzip(&idx(&[6, 2, 3], &[7; 36]));
    for cut in 2..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert!(read_images(&path).unwrap_err().to_string().contains("train-images"), "cut at {cut}");
    }
    // Two members in a row are one stream; a bomb ends at its claim.
    std::fs::write(&path, [gzip(&idx(&[2, 2, 2], &[1; 4])), gzip(&[1; 4])].concat()).unwrap();
    assert_eq!(read_images(&path).unwrap().pixels, [1; 8]);
    std::fs::write(&path, gzip(&idx(&[1, 2, 2], &vec![0; 1 << 24]))).unwrap();
    assert!(read_images(&path).unwrap_err().to_string().contains("more than the 4 bytes it claims"));
}

#[test]
fn builtin_digits_are_normalised_and_counted() {
    let mnist = builtin_mnist().unwrap();
    assert_eq!((mnist.len(), mnist.shape()), (14_000, (1, 28, 28)));
    assert_eq!(mnist.origins().iter().filter(|&&o| o == Origin::Train).count(), 12_000);
    for digit in 0..10 {
        let count = mnist.fine().values().iter().filter(|&&l| l == digit).count();
        assert!((1200..1650).contains(&count), "digit {digit}: {count}");
    }
    let batch = mnist.batch(&[3, 0], &Device::Cpu).unwrap();
    assert_eq!(batch.dims(), [2, 1, 28, 28]);
    let values = batch.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (value, &byte) in values[784..].iter().zip(mnist.bytes(0).unwrap().iter()) {
        assert_eq!(*value, (f32::from(byte) / 255.0 - 0.1307) / 0.3081);
    }
    // The normalisation is that of the digits: mean near 0, standard deviation near 1.
    let all: Vec<usize> = (0..mnist.len()).collect();
    let mut out = vec![0.0; mnist.len() * 784];
    mnist.write_nchw(&all, &mut out).unwrap();
    let mean = out.iter().map(|&v| f64::from(v)).sum::<f64>() / out.len() as f64;
    let variance = out.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / out.len() as f64;
    assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    assert!(mnist.write_nchw(&[14_000], &mut out[..784]).is_err());
    assert!(mnist.write_nchw(&[0], &mut out[..783]).is_err());
}

#[test]
fn full_mnist_contains_the_subset() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/mnist"));
    if !folder.is_dir() {
        eprintln!("skipped: {} is absent", folder.display());
        return;
    }
    let full = read_folder(folder, Family::Mnist).unwrap();
    assert_eq!(full.len(), 70_000);
    let contents = |data: &Dataset, origin| -> std::collections::BTreeSet<([u8; 32], u32)> {
        let of_origin = (0..data.len()).filter(|&i| data.origins()[i] == origin);
        of_origin.map(|i| (data.content(i), data.fine().values()[i])).collect()
    };
    let subset = builtin_mnist().unwrap();
    for origin in [Origin::Train, Origin::Test] {
        assert!(contents(&subset, origin).is_subset(&contents(&full, origin)));
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), sizes in prop::array::uniform3(any::<u32>()), how in 0..4) {
        let file = match how {
            0 => bytes,
            1 => idx(&sizes, &bytes),
            2 => gzip(&idx(&sizes, &bytes)),
            _ => idx(&sizes.map(|s| s % 5), &bytes),
        };
        let length = Some(file.len() as u64);
        if let Ok((dimensions, pixels)) = parse(&file[..], length, 3, Path::new("fuzz")) {
            prop_assert_eq!(dimensions.iter().product::<usize>(), pixels.len());
        }
        let _ = parse(MultiGzDecoder::new(&file[..]), None, 3, Path::new("fuzz"));
    }
}
