//! What the commands write: never over an input, never in place of a device, never lost in silence.
//! `report` and `compare` read a run, which `run.rs` makes.

use std::process::{Command, Stdio};

use crate::support::{Place, fails, fixture, program, succeeds, words};

const CHECKPOINT: &str = "oracle/resnet18_mnist/checkpoint.safetensors";
const INPUTS: &str = "oracle/resnet18_mnist/inputs.safetensors";

/// Copies of all that the commands read, in a folder of their own.
fn inputs() -> Place {
    let place = Place::new();
    let copy = |name: &str, of: &str| {
        place.write(name, &std::fs::read(fixture(of)).unwrap());
    };
    copy("net.safetensors", CHECKPOINT);
    // Another network: a floor that is the reference is refused.
    let mut other = candle_core::safetensors::load(fixture(CHECKPOINT), &candle_core::Device::Cpu).unwrap();
    let layer = (&other["layer2.0.conv1.weight"] * 1.5).unwrap();
    other.insert("layer2.0.conv1.weight".into(), layer);
    candle_core::safetensors::save(&other, place.path("other.safetensors")).unwrap();
    copy("images.safetensors", INPUTS);
    place.write("labels.txt", "0\n1\n".repeat(12).as_bytes());
    std::fs::create_dir(place.path("pictures")).unwrap();
    for index in 0..2u8 {
        let picture = image::GrayImage::from_fn(28, 28, |x, y| image::Luma([(x * 9 + y * u32::from(index)) as u8]));
        picture.save(place.path(&format!("pictures/{index}.png"))).unwrap();
    }
    let masks = format!(
        "prune --weights {} --fraction 0.5 --out {}",
        place.arg("net.safetensors"),
        place.arg("mask.safetensors")
    );
    succeeds(&words(&masks));
    place
}

/// Every command that writes: its line with OUT, and the names of what it reads.
fn commands(place: &Place) -> Vec<(String, Vec<&'static str>)> {
    let at = |name: &str| place.arg(name);
    let (net, other, images) =
        (at("net.safetensors"), at("other.safetensors"), format!("{}:images", at("images.safetensors")));
    let set = |key: &str| format!("{}:{key}", at("images.safetensors"));
    let (labels, pictures) = (at("labels.txt"), at("pictures"));
    let sets = format!("--concept a={} --random {} {pictures}", set("concept_striped"), set("random_00"));
    vec![
        (
            format!("predict --checkpoint {net} --images {images} --out OUT"),
            vec!["net.safetensors", "images.safetensors"],
        ),
        (format!("predict --checkpoint {net} --images {pictures} --out OUT"), vec!["pictures/0.png"]),
        (
            format!("cam --checkpoint {net} --images {images} --class true --labels {labels} --out OUT"),
            vec!["net.safetensors", "images.safetensors", "labels.txt"],
        ),
        (
            format!("tcav --checkpoint {net} --images {images} --class 0 {sets} --json OUT"),
            vec!["net.safetensors", "images.safetensors", "pictures/1.png"],
        ),
        (format!("prune --weights {net} --fraction 0.5 --out OUT"), vec!["net.safetensors"]),
        (
            format!(
                "drift --reference {net} --candidate {other} --floor {other} --mask {} --images {images} --labels {labels} {sets} --out OUT",
                at("mask.safetensors")
            ),
            vec![
                "net.safetensors",
                "other.safetensors",
                "mask.safetensors",
                "images.safetensors",
                "labels.txt",
                "pictures/0.png",
            ],
        ),
    ]
}

#[test]
fn no_command_writes_over_what_it_reads() {
    let place = inputs();
    let link = place.path("link");
    for (line, reads) in commands(&place) {
        for name in reads {
            let kept = std::fs::read(place.path(name)).unwrap();
            let mut names = vec![place.arg(name)];
            #[cfg(unix)]
            {
                let _ = std::fs::remove_file(&link);
                std::os::unix::fs::symlink(place.path(name), &link).unwrap();
                names.push(place.arg("link"));
            }
            for out in names {
                let error = fails(&words(&line.replace("OUT", &out)));
                assert!(error.contains("an input of this command"), "{line}\n{error}");
                assert!(std::fs::read(place.path(name)).unwrap() == kept, "{line} changed {name}");
            }
        }
    }
    // An overlay of the name of a picture that is read.
    std::fs::rename(place.path("pictures/0.png"), place.path("pictures/0000-x.png")).unwrap();
    std::fs::rename(place.path("pictures/1.png"), place.path("pictures/x.png")).unwrap();
    std::fs::rename(place.path("pictures/0000-x.png"), place.path("pictures/0001-x.png")).unwrap();
    let kept = std::fs::read(place.path("pictures/0001-x.png")).unwrap();
    let pictures = place.arg("pictures");
    let line = format!(
        "cam --checkpoint {} --images {pictures} --class 0 --out {} --png {pictures}",
        place.arg("net.safetensors"),
        place.arg("maps")
    );
    let error = fails(&words(&line));
    assert!(error.contains("0001-x.png") && error.contains("input"), "{error}");
    assert!(std::fs::read(place.path("pictures/0001-x.png")).unwrap() == kept && !place.path("maps").exists());
}

#[cfg(unix)]
#[test]
fn a_link_stays_and_the_file_behind_it_is_replaced() {
    let place = inputs();
    for (line, _) in commands(&place) {
        let (real, link) = (place.path("real"), place.path("link"));
        std::fs::write(&real, "old").unwrap();
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink("real", &link).unwrap();
        let line = line.replace("OUT", &place.arg("link")) + " --quiet";
        let code = program(&words(&line)).output().unwrap().status.code();
        assert!(code == Some(0) || line.starts_with("drift") && code == Some(1), "{line}: {code:?}");
        assert!(link.is_symlink() && std::fs::read(&real).unwrap() != b"old", "{line}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_device_and_a_closed_stdout_are_errors_and_a_reader_that_left_is_none() {
    let place = inputs();
    let (net, images) = (place.arg("net.safetensors"), format!("{}:images", place.arg("images.safetensors")));
    let drift = format!("drift --reference {net} --candidate {net} --images {images} --max-drift 1");
    let binary = assert_cmd::cargo::cargo_bin("ticketlens");
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for line in [
        format!("{drift} --format json"),
        format!("{drift} --format table"),
        "completions bash".to_owned(),
        "data".to_owned(),
        "--help".to_owned(),
        format!("tcav --checkpoint {net} --images {images} --class 0 --concept a={images} --random {images} {images}"),
    ] {
        let output = Command::new(&binary).args(words(&line)).stdout(full()).stderr(Stdio::piped()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{line}: {error}");
        assert!(error.contains("stdout cannot be written"), "{line}: {error}");
    }
    // A closed stdout, which the runtime would hide behind /dev/null; and /dev/null itself, where all is well.
    let shell = |redirection: &str| {
        let line = format!("'{}' {drift} --format json {redirection}", binary.display());
        Command::new("sh").args(["-c", &line]).output().unwrap().status.code()
    };
    assert_eq!([shell(">&-"), shell(">/dev/null"), shell("<>/dev/null >&0")], [Some(2), Some(0), Some(0)]);
    assert_eq!(Command::new(&binary).args(words(&drift)).stdout(Stdio::null()).status().unwrap().code(), Some(0));
    // The file is there; only its summary is lost.
    let out = place.arg("out.safetensors");
    let line = format!("predict --checkpoint {net} --images {images} --out {out}");
    let output = Command::new(&binary).args(words(&line)).stdout(full()).stderr(Stdio::piped()).output().unwrap();
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stderr).contains("warning: the summary is lost")
    );
    // A pipe whose reader is gone.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output =
        Command::new(&binary).args(["completions", "bash"]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    // A device is written to and stays one; the file that a command sends to stdout is not mixed with its summary.
    for (line, _) in commands(&place) {
        let output = program(&words(&line.replace("OUT", "/dev/full"))).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(!std::fs::metadata("/dev/full").unwrap().is_file(), "/dev/full was replaced");
    }
    let sent = Command::new(&binary).args(words(&line.replace(&out, "/dev/stdout"))).output().unwrap();
    succeeds(&words(&line));
    assert!(sent.stdout == std::fs::read(&out).unwrap());
    assert!(String::from_utf8_lossy(&sent.stderr).contains("24 images"));
    // Where a device's bytes are collected.
    let broken =
        Command::new(&binary).args(words(&line.replace(&out, "/dev/null"))).env("TMPDIR", "/nowhere/at/all").output();
    assert!(String::from_utf8_lossy(&broken.unwrap().stderr).contains("/nowhere/at/all: the temporary folder"));
}
