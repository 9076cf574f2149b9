//! Running the program, and reading what it wrote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use candle_core::{Device, Tensor};

/// The three reference cases of `fixtures/oracle`.
pub(crate) const CASES: [&str; 3] = ["resnet18_mnist", "resnet50_birds", "resnet18_imagenet_stem"];

/// A path under `fixtures/`.
pub(crate) fn fixture(path: &str) -> String {
    format!("{}/fixtures/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// A folder of its own for a test.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A path in it, as an argument.
    pub(crate) fn arg(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes a file into it; its path.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        self.arg(name)
    }

    /// Names of all it holds, hidden ones too.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// The program, with two threads.
pub(crate) fn program(arguments: &[String]) -> Command {
    let mut command = Command::cargo_bin("ticketlens").unwrap();
    command.args(arguments).args(["--threads", "2"]);
    command
}

/// Splits a command line at spaces.
pub(crate) fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Runs it and expects success; stdout.
pub(crate) fn succeeds(arguments: &[String]) -> String {
    let output = program(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs it and expects exit code 2, nothing on stdout, and one line of error; that line.
pub(crate) fn fails(arguments: &[String]) -> String {
    let output = program(arguments).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}\n{error}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    assert_eq!(error.lines().count(), 1, "{arguments:?}\n{error}");
    assert!(error.starts_with("error: ") && error.ends_with('\n'), "{arguments:?}\n{error}");
    error
}

/// Tensors of a safetensors file.
pub(crate) fn tensors(path: impl AsRef<Path>) -> BTreeMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap().into_iter().collect()
}

/// Writes tensors to a safetensors file.
pub(crate) fn save(path: &Path, tensors: &[(&str, Tensor)]) {
    let views: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// Flat values.
pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// A JSON file.
pub(crate) fn json(path: impl AsRef<Path>) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Largest difference relative to the largest magnitude of `expected`.
pub(crate) fn relative_error(got: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(f64::MIN_POSITIVE, |top, v| top.max(v.abs()));
    got.iter().zip(expected).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f64::max)
}

/// As [`relative_error`], of tensors, shapes included.
pub(crate) fn tensor_error(got: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(got.dims(), expected.dims());
    let wide = |tensor: &Tensor| values(tensor).into_iter().map(f64::from).collect::<Vec<_>>();
    relative_error(&wide(got), &wide(expected))
}
