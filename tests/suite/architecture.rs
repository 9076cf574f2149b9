//! The edges of ARCHITECTURE.md, read off the source: who may use whom, and what stays out of where.

use std::path::{Path, PathBuf};

/// Layers from left to right; a module may use modules to its right, and those beside it that are listed.
const MAY_USE: [(&str, &[&str]); 18] = [
    ("report", &["study", "run", "records", "plan", "stats", "model", "error", "seed", "progress"]),
    (
        "study",
        &["run", "records", "plan", "explain", "prune", "model", "nn", "data", "stats", "error", "seed", "progress"],
    ),
    (
        "run",
        &[
            "records", "plan", "train", "explain", "prune", "model", "nn", "data", "stats", "kernels", "error", "seed",
            "progress",
        ],
    ),
    ("records", &["plan", "explain", "prune", "model", "nn", "data", "stats", "output", "error", "seed", "progress"]),
    ("plan", &["train", "explain", "prune", "model", "nn", "data", "stats", "kernels", "error", "seed", "progress"]),
    ("train", &["prune", "model", "nn", "data", "kernels", "error", "seed", "progress"]),
    ("explain", &["prune", "model", "nn", "data", "kernels", "stats", "error", "seed", "progress"]),
    ("prune", &["model", "nn", "data", "kernels", "error", "seed", "progress"]),
    ("model", &["nn", "data", "kernels", "error", "seed", "progress"]),
    ("nn", &["kernels", "error", "seed", "progress"]),
    ("data", &["kernels", "error", "seed", "progress"]),
    ("kernels", &["error", "seed", "progress"]),
    ("stats", &["seed"]),
    ("output", &["error"]),
    ("error", &[]),
    ("seed", &[]),
    ("progress", &[]),
    ("lib", &[]),
];

fn source_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// `src/explain/cut.rs` → `explain/cut.rs`.
fn relative(path: &Path) -> String {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    path.strip_prefix(root).unwrap().to_string_lossy().into_owned()
}

/// The code of a file: without comments and without what follows `#[cfg(test)]`.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap().to_owned();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Test modules in files of their own.
fn is_test(name: &str) -> bool {
    name.ends_with("tests.rs") || name.contains("/tests/")
}

#[test]
fn modules_use_only_what_stands_to_their_right() {
    let mut faults = Vec::new();
    for path in source_files() {
        let name = relative(&path);
        let module = name.split(['/', '.']).next().unwrap();
        if module == "bin" || is_test(&name) {
            continue;
        }
        let (_, allowed) =
            MAY_USE.iter().find(|(known, _)| *known == module).unwrap_or_else(|| panic!("{name}: unknown layer"));
        for part in code(&path).split("crate::").skip(1) {
            let used: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if used != module && !allowed.contains(&used.as_str()) && !used.is_empty() && module != "lib" {
                faults.push(format!("{name} uses {used}"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn each_kind_of_code_stays_where_it_belongs() {
    let mut faults = Vec::new();
    let mut forbid = |name: &str, code: &str, what: &str, allowed: &dyn Fn(&str) -> bool| {
        if code.contains(what) && !allowed(name) && !is_test(name) {
            faults.push(format!("{name} holds `{what}`"));
        }
    };
    for path in source_files() {
        let (name, code) = (relative(&path), code(&path));
        let within = |folder: &'static str| move |name: &str| name.starts_with(folder);
        forbid(&name, &code, "unsafe ", &within("kernels/"));
        forbid(&name, &code, "feature = \"cuda\"", &within("kernels/"));
        for what in ["println!", "eprintln!", "print!(", "anyhow"] {
            forbid(&name, &code, what, &within("bin/"));
        }
        forbid(&name, &code, "candle", &|name| !name.starts_with("stats/") && !name.starts_with("report/"));
        for what in ["std::fs", "fs::read", "fs::write", "File::"] {
            forbid(&name, &code, what, &|name| {
                name.starts_with("data/")
                    || name.starts_with("bin/")
                    || name == "output.rs"
                    || name == "records/folder.rs"
                    || name == "model/checkpoint.rs"
            });
        }
        forbid(&name, &code, "HashMap", &|_| false);
        forbid(&name, &code, "SystemTime", &within("bin/"));
        forbid(&name, &code, "allow(", &|_| false);
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
