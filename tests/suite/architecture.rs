//! The edges of ARCHITECTURE.md, read off the source: who may use whom, and what stays out of where.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Layers from left to right; a module may use modules to its right, and those beside it that are listed.
const MAY_USE: [(&str, &[&str]); 19] = [
    ("report", &["study", "run", "records", "plan", "stats", "model", "digest", "error", "seed", "progress"]),
    (
        "study",
        &[
            "run", "records", "plan", "explain", "prune", "model", "nn", "data", "stats", "digest", "error", "seed",
            "progress",
        ],
    ),
    (
        "run",
        &[
            "records", "plan", "train", "explain", "prune", "model", "nn", "data", "stats", "kernels", "digest",
            "error", "seed", "progress",
        ],
    ),
    (
        "records",
        &[
            "plan", "explain", "prune", "model", "nn", "data", "stats", "output", "input", "digest", "error", "seed",
            "progress",
        ],
    ),
    (
        "plan",
        &[
            "train", "explain", "prune", "model", "nn", "data", "stats", "kernels", "digest", "error", "seed",
            "progress",
        ],
    ),
    ("train", &["prune", "model", "nn", "data", "kernels", "digest", "error", "seed", "progress"]),
    ("explain", &["prune", "model", "nn", "data", "kernels", "stats", "digest", "error", "seed", "progress"]),
    ("prune", &["model", "nn", "data", "kernels", "digest", "error", "seed", "progress"]),
    ("model", &["nn", "data", "kernels", "digest", "error", "seed", "progress"]),
    ("nn", &["kernels", "digest", "error", "seed", "progress"]),
    ("data", &["kernels", "input", "digest", "error", "seed", "progress"]),
    ("kernels", &[]),
    ("stats", &[]),
    ("output", &["error"]),
    ("input", &["error"]),
    ("digest", &[]),
    ("error", &[]),
    ("progress", &["error"]),
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

/// The code of a file: without comments and without what follows `#[cfg(test)]`. The packages in
/// `src/kernels` and `src/stats` read as the modules that the rest knows them by.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let mut text = text.split("#[cfg(test)]\nmod ").next().unwrap().to_owned();
    for package in ["kernels", "stats"] {
        if relative(path).starts_with(&format!("{package}/")) {
            text = text.replace("crate::", &format!("crate::{package}::"));
        }
    }
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
                    || name == "input.rs"
                    || name.starts_with("records/")
                    || name == "model/checkpoint.rs"
            });
        }
        forbid(&name, &code, "HashMap", &|_| false);
        forbid(&name, &code, "SystemTime", &within("bin/"));
        forbid(&name, &code, "allow(", &|_| false);
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

type Module = Vec<String>;

/// The paths that begin with `crate`, `super` or `self`, use trees written out, and whether they are re-exports.
fn paths(code: &str) -> Vec<(Module, bool)> {
    fn tree(rest: &mut &str, path: &[String], found: &mut Vec<Module>) {
        *rest = rest.trim_start();
        if let Some(inside) = rest.strip_prefix('{') {
            *rest = inside;
            loop {
                *rest = rest.trim_start_matches([' ', '\n', ',']);
                if rest.is_empty() || rest.starts_with('}') {
                    *rest = rest.get(1..).unwrap_or("");
                    return;
                }
                tree(rest, path, found);
            }
        }
        let length = rest.find(|c: char| c != '*' && c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
        let (name, after) = rest.split_at(length);
        // What this parser does not know is passed over, a character at a time.
        *rest = if length == 0 { after.get(1..).unwrap_or("") } else { after };
        let mut path = path.to_vec();
        path.push(name.to_owned());
        match rest.strip_prefix("::") {
            Some(deeper) => {
                *rest = deeper;
                tree(rest, &path, found);
            }
            None => {
                *rest = rest.trim_start().strip_prefix("as ").map_or(*rest, |named| named.trim_start_matches('_'));
                found.push(path);
            }
        }
    }
    let mut all = Vec::new();
    let mut from = 0;
    while let Some(at) =
        ["crate::", "super::", "self::"].iter().filter_map(|start| code[from..].find(start)).min().map(|at| from + at)
    {
        let before = code[..at].trim_end();
        let whole = code[..at].ends_with(|c: char| c == '_' || c == ':' || c.is_alphanumeric());
        let statement = before.rsplit([';', '}']).next().unwrap_or("").trim_start();
        let public = before.ends_with("use") && statement.starts_with("pub");
        let (mut rest, mut found) = (&code[at..], Vec::new());
        tree(&mut rest, &[], &mut found);
        if !whole {
            all.extend(found.into_iter().map(|path| (path, public)));
        }
        from = code.len() - rest.len();
    }
    all
}

/// `crate`, `super` and `self` resolved, seen from `module`; names that stand behind the last module stay.
fn absolute(path: &[String], module: &Module) -> Module {
    let mut base = if path[0] == "crate" { Vec::new() } else { module.clone() };
    let mut rest = if path[0] == "super" { path } else { &path[1..] };
    while rest.first().is_some_and(|name| name == "super") {
        base.pop();
        rest = &rest[1..];
    }
    base.extend(rest.iter().filter(|name| *name != "self").cloned());
    base
}

/// Which modules a module uses; a name that a folder's `mod.rs` only hands on counts for the module that has it.
fn uses() -> BTreeMap<Module, BTreeSet<Module>> {
    let mut codes = BTreeMap::new();
    for path in source_files() {
        let name = relative(&path);
        if name.starts_with("bin/") || is_test(&name) || name == "lib.rs" {
            continue;
        }
        let mut module: Module = name.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|last| last == "mod" || last == "lib") {
            module.pop();
        }
        codes.insert(module, code(&path));
    }
    let owner = |path: &Module| {
        let length = (1..=path.len()).rev().find(|&length| codes.contains_key(&path[..length]));
        length.map(|length| (path[..length].to_vec(), path.get(length).cloned()))
    };
    let mut handed_on: BTreeMap<(Module, String), Module> = BTreeMap::new();
    let mut used = Vec::new();
    for (module, code) in &codes {
        for (path, public) in paths(code) {
            let path = absolute(&path, module);
            let Some((from, name)) = owner(&path) else { continue };
            match (public, path.last()) {
                (true, Some(last)) => {
                    handed_on.insert((module.clone(), last.clone()), from);
                }
                _ => used.push((module.clone(), from, name)),
            }
        }
        // `pub use child::Name`, without a leading `self`.
        for statement in code.split("pub use ").skip(1).filter_map(|rest| rest.split(';').next()) {
            if let Some((child, names)) = statement.split_once("::") {
                let child: Module = module.iter().cloned().chain([child.trim().to_owned()]).collect();
                for name in names.split(|c: char| c != '_' && !c.is_alphanumeric()).filter(|name| !name.is_empty()) {
                    handed_on.entry((module.clone(), name.to_owned())).or_insert_with(|| child.clone());
                }
            }
        }
    }
    let mut edges: BTreeMap<Module, BTreeSet<Module>> =
        codes.keys().map(|module| (module.clone(), BTreeSet::new())).collect();
    for (module, from, name) in used {
        let target = name.and_then(|name| handed_on.get(&(from.clone(), name)).cloned()).unwrap_or(from);
        if target != module && codes.contains_key(&target) {
            edges.get_mut(&module).expect("every module has a line").insert(target);
        }
    }
    edges
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let edges = uses();
    assert!(edges.values().map(BTreeSet::len).sum::<usize>() > 300, "the imports were not read");
    // What uses nothing that is left, or is used by nothing, is taken away; the rest stands in circles or between them.
    let mut left = edges.clone();
    loop {
        let free =
            left.iter().find(|(module, used)| used.is_empty() || !left.values().any(|used| used.contains(*module)));
        let Some(free) = free.map(|(module, _)| module.clone()) else { break };
        left.remove(&free);
        left.values_mut().for_each(|used| {
            used.remove(&free);
        });
    }
    let name = |module: &Module| module.join("/");
    let circles: Vec<String> = left
        .iter()
        .map(|(module, used)| format!("{} -> {}", name(module), used.iter().map(name).collect::<Vec<_>>().join(", ")))
        .collect();
    assert!(circles.is_empty(), "{circles:#?}");
}

/// A long file has a reason to be one: it says so in its head, in a line that begins with `Long:`.
#[test]
fn files_over_400_lines_say_why() {
    let mut faults = Vec::new();
    for path in source_files().into_iter().filter(|path| !is_test(&relative(path))) {
        let text = std::fs::read_to_string(&path).unwrap();
        let head = text.lines().take_while(|line| line.starts_with("//!"));
        if text.lines().count() > 400 && !head.into_iter().any(|line| line.starts_with("//! Long: ")) {
            faults.push(format!("{}: {} lines", relative(&path), text.lines().count()));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Comments are read beside code, so their lines are about as long. A table's row may be longer.
#[test]
fn comments_end_by_column_120() {
    let mut faults = Vec::new();
    for path in source_files() {
        for (nth, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let comment = line.trim_start().strip_prefix("//").map(|rest| rest.trim_start_matches(['/', '!', ' ']));
            if comment.is_some_and(|comment| !comment.starts_with('|')) && line.chars().count() > 120 {
                faults.push(format!("{}:{}", relative(&path), nth + 1));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
