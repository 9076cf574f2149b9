//! Plans in and out of TOML: presets, overrides, the hash.

use crate::digest::sha256;

use super::Plan;
use crate::error::{Error, Result, near_miss};

/// Bytes that the file of a plan may have.
pub const LONGEST_PLAN: u64 = 1 << 20;

/// Presets by name.
pub const PRESETS: [(&str, &str); 12] = [
    ("quick", include_str!("presets/quick.toml")),
    ("mnist", include_str!("presets/mnist.toml")),
    ("fashion", include_str!("presets/fashion.toml")),
    ("mnist-as-published", include_str!("presets/mnist-as-published.toml")),
    ("mnist-corrected", include_str!("presets/mnist-corrected.toml")),
    ("lenet-mnist", include_str!("presets/lenet-mnist.toml")),
    ("resnet20-cifar10", include_str!("presets/resnet20-cifar10.toml")),
    ("folder", include_str!("presets/folder.toml")),
    ("cub", include_str!("presets/cub.toml")),
    ("cub-small", include_str!("presets/cub-small.toml")),
    ("planted", include_str!("presets/planted.toml")),
    ("instability", include_str!("presets/instability.toml")),
];

impl Plan {
    /// Names of the presets, for people.
    pub fn presets() -> String {
        PRESETS.map(|(name, _)| name).join(", ")
    }

    /// A preset by name.
    ///
    /// # Errors
    /// Names the presets that exist.
    pub fn preset(name: &str, overrides: &[(String, String)]) -> Result<Self> {
        Self::parse(name, preset(name)?, overrides)
    }

    /// Parses and checks plan text; `origin` is named in errors. Overrides are dotted keys with
    /// TOML values, or bare strings. A plan that begins with `preset = "quick"` says only what
    /// differs from that preset.
    ///
    /// # Errors
    /// Unknown keys, wrong types, impossible values: each names its field.
    pub fn parse(origin: &str, text: &str, overrides: &[(String, String)]) -> Result<Self> {
        let bad = |error: toml::de::Error| {
            let at = error.span().map_or(String::new(), |span| {
                format!(" (line {})", text[..span.start.min(text.len())].matches('\n').count() + 1)
            });
            Error::input(format!("{origin}{at}: {}", explained(error.message())))
        };
        let mut table: toml::Table = toml::from_str(text).map_err(bad)?;
        let older = name_family(&mut table);
        let base = table.remove("preset");
        if base.is_none() && overrides.is_empty() && !older {
            let plan: Self = toml::from_str(text).map_err(bad)?;
            plan.check()?;
            return Ok(plan);
        }
        if let Some(base) = &base {
            let name = base.as_str().ok_or_else(|| Error::input(format!("{origin}: `preset` is the name of one")))?;
            let mut whole: toml::Table = toml::from_str(preset(name)?).map_err(bad)?;
            overlay(&mut whole, table);
            table = whole;
        }
        for (key, value) in overrides {
            set(&mut table, key, value)?;
        }
        let merged = toml::to_string(&table).map_err(|error| Error::input(format!("{origin}: {error}")))?;
        let whose = if base.is_some() || overrides.is_empty() { origin } else { "--set" };
        let wrong = |error: toml::de::Error| Error::input(format!("{whose}: {}", explained(error.message())));
        let plan: Self = toml::from_str(&merged).map_err(wrong)?;
        plan.check()?;
        Ok(plan)
    }

    /// The plan as TOML: parsing it gives an equal plan.
    ///
    /// # Errors
    /// Only when serialisation fails.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| Error::input(format!("the plan cannot be written: {error}")))
    }

    /// SHA-256 of the plan, in hexadecimal, without its name and without the paths of data and
    /// weights: those are known by their content, so that a folder may be moved. All stand as `x`.
    ///
    /// # Errors
    /// Only when serialisation fails.
    pub fn digest(&self) -> Result<String> {
        let mut nameless = Self { name: String::new(), ..self.clone() };
        for path in [&mut nameless.data.path, &mut nameless.model.pretrained].into_iter().flatten() {
            *path = "x".into();
        }
        Ok(sha256(nameless.to_toml()?.as_bytes()))
    }
}

/// Plans from before there were families say the depth of a ResNet; whether this is one.
fn name_family(plan: &mut toml::Table) -> bool {
    let Some(toml::Value::Table(model)) = plan.get_mut("model") else { return false };
    match model.get("depth").and_then(toml::Value::as_integer) {
        Some(depth) if !model.contains_key("family") => {
            model.remove("depth");
            model.insert("family".into(), format!("resnet{depth}").into());
            true
        }
        _ => false,
    }
}

/// Parts of a field's name, and more.
const DEEPEST: usize = 8;

fn preset(name: &str) -> Result<&'static str> {
    let found = PRESETS.iter().find(|(preset, _)| *preset == name).map(|(_, text)| *text);
    found.ok_or_else(|| {
        let near = near_miss(name, PRESETS.map(|(name, _)| name));
        Error::input(format!("preset or plan `{name}` does not exist; presets: {}{near}", Plan::presets()))
    })
}

/// Writes what `over` holds into `base`. Tables are joined key by key, but one with a `name` of its
/// own (an optimiser, a schedule) takes the place of the other.
fn overlay(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) if !over.contains_key("name") => {
                overlay(base, over);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// What the parser says, with the name that was probably meant: it lists names that it knows in
/// backquotes, the unknown one first.
fn explained(message: &str) -> String {
    let message = message.replace('\n', " ");
    let named: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match named.split_first() {
        Some((unknown, known)) if message.starts_with("unknown ") => {
            let near = near_miss(unknown, known.iter().copied());
            format!("{message}{near}")
        }
        _ => message,
    }
}

/// Writes `value` at the dotted `key`; a value that is not TOML is taken as a string.
pub(super) fn set(table: &mut toml::Table, key: &str, value: &str) -> Result<()> {
    let parsed = toml::from_str::<toml::Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut parts: Vec<&str> = key.split('.').collect();
    // No plan nests deeper; and a table for each part of a long key would overflow the stack.
    if parts.len() > DEEPEST {
        let start: String = key.chars().take(40).collect();
        return Err(Error::input(format!("--set `{start}…`: a key of {} parts is no field of a plan", parts.len())));
    }
    let last = parts.pop().filter(|last| !last.is_empty());
    let last = last.ok_or_else(|| Error::input(format!("--set `{key}={value}`: the key is empty")))?;
    let mut inner = table;
    for part in parts {
        let entry = inner.entry(part.to_owned()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        inner = entry
            .as_table_mut()
            .ok_or_else(|| Error::input(format!("--set `{key}`: `{part}` is not a table of the plan")))?;
    }
    inner.insert(last.to_owned(), parsed);
    Ok(())
}
