//! Folders as people have them: formats, litter, pictures that are not, labels of text, MNIST's and CUB's folders.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

use crate::support::{Place, fails, fixture, program, save, succeeds, tensor_error, tensors, words};
use crate::tiny_cub;

/// A network of three channels, made of the one-channel fixture.
fn colour_net(place: &Place) -> String {
    let mut weights = tensors(fixture("checkpoints/plain.safetensors"));
    let conv1 = weights["conv1.weight"].repeat((1, 3, 1, 1)).unwrap();
    weights.insert("conv1.weight".into(), conv1);
    let list: Vec<(&str, candle_core::Tensor)> =
        weights.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    save(&place.path("net.safetensors"), &list);
    place.arg("net.safetensors")
}

fn picture(seed: u32) -> DynamicImage {
    DynamicImage::ImageRgb8(RgbImage::from_fn(24, 24, |x, y| Rgb([(x * 10) as u8, (y * 9) as u8, (seed * 40) as u8])))
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn predict(place: &Place, images: &str) -> Vec<String> {
    let (net, out) = (place.arg("net.safetensors"), place.arg("out.safetensors"));
    words(&format!("predict --checkpoint {net} --size 16 --images {} --out {out}", place.arg(images)))
}

/// Each format gives the PNG's logits, by whatever name, and none is left out of a folder.
#[test]
fn webp_bmp_tiff_and_gif_are_read_beside_png_and_jpeg() {
    let place = Place::new();
    colour_net(&place);
    std::fs::create_dir(place.path("all")).unwrap();
    let formats = [
        ("a.png", ImageFormat::Png),
        ("b.webp", ImageFormat::WebP),
        ("c.bmp", ImageFormat::Bmp),
        ("d.tif", ImageFormat::Tiff),
        ("e", ImageFormat::Png),
    ];
    for (name, format) in formats {
        std::fs::write(place.path("all").join(name), encoded(&picture(3), format)).unwrap();
    }
    let said = succeeds(&predict(&place, "all"));
    assert!(said.starts_with("5 images"), "{said}");
    let logits = tensors(place.path("out.safetensors"))["logits"].clone();
    for image in 1..5 {
        let (first, other) = (logits.narrow(0, 0, 1).unwrap(), logits.narrow(0, image, 1).unwrap());
        assert!(tensor_error(&other, &first) < 1e-6, "{}", formats[image].0);
    }
    // GIF and JPEG change colours; of a GIF of two frames the first is read.
    let mut film = Vec::new();
    {
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut film);
        encoder.encode_frames([3, 0].map(|seed| image::Frame::new(picture(seed).to_rgba8()))).unwrap();
    }
    for (name, bytes) in [("film.gif", &film), ("photo.jfif", &encoded(&picture(3), ImageFormat::Jpeg))] {
        place.write(name, bytes);
        succeeds(&predict(&place, name));
        let got = tensors(place.path("out.safetensors"))["logits"].clone();
        assert!(tensor_error(&got, &logits.narrow(0, 0, 1).unwrap()) < 0.05, "{name}");
    }
    place.write("film.jpg", &film);
    std::fs::remove_file(place.path("out.safetensors")).unwrap();
    assert!(fails(&predict(&place, "film.jpg")).contains("is a GIF under another name"));
}

#[test]
fn nothing_in_a_folder_is_left_out_without_a_word() {
    let place = Place::new();
    colour_net(&place);
    std::fs::create_dir_all(place.path("photos/.cache")).unwrap();
    std::fs::create_dir(place.path("photos/__MACOSX")).unwrap();
    let photo = |name: &str, bytes: &[u8]| std::fs::write(place.path("photos").join(name), bytes).unwrap();
    photo("a.png", &encoded(&picture(1), ImageFormat::Png));
    photo("Thumbs.db", b"\xd0\xcf\x11\xe0");
    photo(".DS_Store", b"x");
    let output = program(&predict(&place, "photos")).output().unwrap();
    let warning = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && warning.lines().count() == 1, "{warning}");
    for name in ["4 entries", "Thumbs.db", ".DS_Store", "__MACOSX", ".cache"] {
        assert!(warning.contains(name), "{name}: {warning}");
    }
    std::fs::remove_file(place.path("out.safetensors")).unwrap();
    std::fs::remove_dir_all(place.path("photos")).unwrap();
    std::fs::create_dir(place.path("photos")).unwrap();
    photo("a.png", &encoded(&picture(1), ImageFormat::Png));
    // What is a picture, but cannot be read, would shift the labels of all that follow.
    for (name, bytes) in [
        ("b.heic", b"\0\0\0\x18ftypheic".as_slice()),
        ("b.bin", b"\0\0\0\x18ftypheic\0\0\0\0"),
        ("b.svg", b"<svg/>"),
        ("b.jpg", b"\xff\xd8\xff\xe0 no more"),
    ] {
        photo(name, bytes);
        let error = fails(&predict(&place, "photos"));
        assert!(error.contains(name), "{name}: {error}");
        std::fs::remove_file(place.path("photos").join(name)).unwrap();
    }
    // Pictures one level down, and none at all.
    std::fs::create_dir_all(place.path("nested/cat")).unwrap();
    let error = fails(&predict(&place, "nested"));
    assert!(error.contains("nested") && error.contains("folders (cat)"), "{error}");
    std::fs::create_dir(place.path("none")).unwrap();
    assert!(fails(&predict(&place, "none")).contains("holds no pictures"));
}

/// A film behind the picture, as phones store it, may hold anything; a picture that is cut is still found out.
#[test]
fn a_jpeg_ends_where_its_own_end_marker_is() {
    let place = Place::new();
    colour_net(&place);
    let whole = encoded(&picture(2), ImageFormat::Jpeg);
    succeeds(&predict(&place, &{
        place.write("plain.jpg", &whole);
        "plain.jpg".to_owned()
    }));
    let expected = tensors(place.path("out.safetensors"))["logits"].clone();
    let film = [whole.as_slice(), b"ftypmp42\xff\xda\x00\x01moov"].concat();
    let padded = [&whole[..whole.len() - 2], b"\xff\xff\xff\xd9".as_slice()].concat();
    for bytes in [film, padded] {
        place.write("trailer.jpg", &bytes);
        succeeds(&predict(&place, "trailer.jpg"));
        assert_eq!(tensor_error(&tensors(place.path("out.safetensors"))["logits"], &expected), 0.0);
    }
    std::fs::remove_file(place.path("out.safetensors")).unwrap();
    for cut in [whole.len() - 2, whole.len() / 2] {
        place.write("cut.jpg", &whole[..cut]);
        assert!(fails(&predict(&place, "cut.jpg")).contains("truncated"));
    }
}

#[test]
fn labels_as_editors_write_them() {
    let place = Place::new();
    let (net, images) = (fixture("checkpoints/plain.safetensors"), fixture("checkpoints/expected.safetensors:images"));
    let cam = |labels: &[u8]| {
        let labels = place.write("labels.txt", labels);
        words(&format!(
            "cam --checkpoint {net} --images {images} --class true --labels {labels} --out {}",
            place.arg("cam")
        ))
    };
    for good in [b"0\n2\n1\n0".as_slice(), b"\xef\xbb\xbf0\r\n2\r\n1\r\n0\r\n", b"0\n2\n1\n0\n\n \n"] {
        succeeds(&cam(good));
        assert_eq!(tensors(place.path("cam"))["class"].to_vec1::<i64>().unwrap(), [0, 2, 1, 0]);
        std::fs::remove_file(place.path("cam")).unwrap();
    }
    for (bad, said) in [
        (b"".as_slice(), "holds no label"),
        (b"0\n\n1\n0\n", "line 2"),
        (b"0\n2\n", "holds 2 labels for the 4 images"),
        (b"0\n3\n1\n0\n", "label 3 of image 1 is out of range: classes are 0 to 2"),
        (b"\xff\xfe0\0\n\0", "UTF-16"),
    ] {
        let error = fails(&cam(bad));
        assert!(error.contains(said) && error.contains("labels.txt"), "{error}");
    }
}

/// The folder that torchvision makes, and EMNIST's names.
#[test]
fn mnist_one_level_up_and_emnists_digits() {
    let place = Place::new();
    let names = [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    ];
    let copy = |folder: &str, rename: &dyn Fn(&str) -> String| {
        std::fs::create_dir_all(place.path(folder)).unwrap();
        for name in names {
            std::fs::copy(fixture(&format!("mnist/{name}")), place.path(folder).join(rename(name))).unwrap();
        }
    };
    copy("data/MNIST/raw", &str::to_owned);
    copy("emnist", &|name| format!("emnist-digits-{}", name.replace("t10k", "test")));
    copy("letters", &|name| format!("emnist-letters-{}", name.replace("t10k", "test")));
    for folder in ["data", "data/MNIST", "data/MNIST/raw", "emnist"] {
        let said = succeeds(&["data".into(), "mnist".into(), place.arg(folder)]);
        assert!(said.starts_with("14,000 images"), "{folder}: {said}");
    }
    let error = fails(&["data".into(), "mnist".into(), place.arg("letters")]);
    assert!(error.contains("letters"), "{error}");
}

#[test]
fn near_misses_of_species_and_the_folder_above_are_named() {
    let place = Place::new();
    let (_birds, root) = tiny_cub::folder();
    let above = root.parent().unwrap().display().to_string();
    let error = fails(&["data".into(), "cub".into(), above]);
    assert!(error.contains("classes.txt: not found") && error.contains("CUB_200_2011"), "{error}");
    for wrong in ["ant_bird", "Ant-bird", "Antbirds"] {
        let line = format!(
            "run cub-small --set data.path={} --set data.cub.classes=[\"{wrong}\",\"Bee_bird\"] --out {}",
            root.display(),
            place.arg("run")
        );
        let error = fails(&words(&line));
        assert!(error.contains("did you mean `Ant_bird`?"), "{error}");
        assert!(!place.path("run").exists());
    }
}
