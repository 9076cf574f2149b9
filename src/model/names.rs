//! Names of tensors as wrappers and other libraries give them, turned into torchvision's: a table of each.

use std::collections::{BTreeMap, BTreeSet};

/// Prefixes that wrappers put before every name: DataParallel, Lightning and the like, `torch.compile`.
const WRAPPERS: [&str; 3] = ["model.", "module.", "_orig_mod."];

/// What profilers, averaging and batch norm leave beside weights; none of it enters the network's function.
const BESIDE: [&str; 4] = ["total_ops", "total_params", "n_averaged", "num_batches_tracked"];

/// Parts of a shared prefix that are looked behind.
const DEEPEST: usize = 8;

/// How one library names what another calls otherwise.
struct Naming {
    /// Whose names these are, for the curious.
    #[expect(dead_code, reason = "the table is read by people too")]
    of: &'static str,
    /// Their name and torchvision's, part by part: `<x>` stands for any one part and `<x+1>` for the number after it.
    rules: &'static [(&'static str, &'static str)],
}

/// torchvision's and timm's names of plain residual networks are one and need no rule, nor do the
/// names of other families.
const NAMINGS: [Naming; 3] = [
    Naming { of: "torchvision, timm", rules: &[] },
    Naming {
        of: "kuangliu/pytorch-cifar",
        // Not just any `shortcut`: open_lth's CIFAR ResNets have their own.
        rules: &[
            ("linear.<t>", "fc.<t>"),
            ("layer1.<block>.shortcut.<n>.<t>", "layer1.<block>.downsample.<n>.<t>"),
            ("layer2.<block>.shortcut.<n>.<t>", "layer2.<block>.downsample.<n>.<t>"),
            ("layer3.<block>.shortcut.<n>.<t>", "layer3.<block>.downsample.<n>.<t>"),
            ("layer4.<block>.shortcut.<n>.<t>", "layer4.<block>.downsample.<n>.<t>"),
        ],
    },
    Naming {
        of: "Hugging Face transformers, ResNetForImageClassification",
        rules: &[
            ("resnet.embedder.embedder.convolution.<t>", "conv1.<t>"),
            ("resnet.embedder.embedder.normalization.<t>", "bn1.<t>"),
            ("resnet.encoder.stages.<s>.layers.<b>.shortcut.convolution.<t>", "layer<s+1>.<b>.downsample.0.<t>"),
            ("resnet.encoder.stages.<s>.layers.<b>.shortcut.normalization.<t>", "layer<s+1>.<b>.downsample.1.<t>"),
            ("resnet.encoder.stages.<s>.layers.<b>.layer.<k>.convolution.<t>", "layer<s+1>.<b>.conv<k+1>.<t>"),
            ("resnet.encoder.stages.<s>.layers.<b>.layer.<k>.normalization.<t>", "layer<s+1>.<b>.bn<k+1>.<t>"),
            ("classifier.1.<t>", "fc.<t>"),
        ],
    },
];

/// What to call a file whose names are not known, by a name in it (its start).
const LOOKS_LIKE: [(&str, &str); 19] = [
    ("layer1.0.conv1.weight", "a residual network, some of whose names have a prefix that others lack"),
    ("embedder.embedder.", "a residual network of Hugging Face without its classifier"),
    ("conv1.0.weight", "a ResNet with a deep stem"),
    ("features.denseblock", "DenseNet"),
    ("features.0.0.", "MobileNet, EfficientNet or ConvNeXt"),
    ("features.0.weight", "AlexNet or SqueezeNet"),
    ("features.conv0.", "DenseNet"),
    ("Conv2d_1a_3x3", "Inception"),
    ("patch_embed.", "a vision transformer"),
    ("conv_proj.", "a vision transformer"),
    ("vit.", "a vision transformer"),
    ("visual.", "CLIP"),
    ("transformer.h.", "a language model"),
    ("layers.0.self_attn.", "a language model"),
    ("embeddings.word_embeddings", "a language model"),
    ("stages.0.", "ConvNeXt or RegNet"),
    ("blocks.0.", "EfficientNet or a vision transformer"),
    ("stem.", "RegNet or another network with a stem of its own"),
    ("conv1.weight", "a small convolutional network"),
];

/// Whether a tensor of this name stands beside the weights and is left out.
pub(super) fn beside(name: &str) -> bool {
    BESIDE.contains(&name.rsplit('.').next().unwrap_or_default())
}

/// A name without the prefixes of wrappers.
fn unwrapped(name: &str) -> &str {
    let mut rest = name;
    while let Some(shorter) = WRAPPERS.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = shorter;
    }
    rest
}

/// torchvision's names for those of a file, in its order: wrappers' prefixes are dropped; and,
/// where that makes names that `known` takes, any prefix that all share, and another library's
/// naming. Where nothing makes known names, only wrappers are dropped.
pub(super) fn canonical(names: &[String], known: impl Fn(&BTreeSet<&str>) -> bool) -> Vec<String> {
    let plain: Vec<&str> = names.iter().map(|name| unwrapped(name)).collect();
    let mut stripped = plain.clone();
    for _ in 0..DEEPEST {
        let renamed = NAMINGS.iter().map(|naming| stripped.iter().map(|name| naming.rename(name)).collect());
        let read = renamed.filter(|renamed: &Vec<String>| known(&renamed.iter().map(String::as_str).collect()));
        // The naming that has a word for most of them; of none, the first.
        let changed = |renamed: &Vec<String>| renamed.iter().zip(&stripped).filter(|(new, old)| new != *old).count();
        if let Some(best) = read.rev().max_by_key(changed) {
            return best;
        }
        // One more part, if all names begin with it and go on after it.
        let first = stripped.first().and_then(|name| name.split_once('.')).map(|(first, _)| first);
        let shorter: Option<Vec<&str>> =
            first.and_then(|first| stripped.iter().map(|name| name.strip_prefix(first)?.strip_prefix('.')).collect());
        match shorter {
            Some(shorter) => stripped = shorter.into_iter().map(unwrapped).collect(),
            None => break,
        }
    }
    plain.into_iter().map(str::to_owned).collect()
}

impl Naming {
    fn rename(&self, name: &str) -> String {
        let parts: Vec<&str> = name.split('.').collect();
        let renamed = self.rules.iter().find_map(|(theirs, ours)| {
            let bound = bind(theirs, &parts)?;
            fill(ours, &bound)
        });
        renamed.unwrap_or_else(|| name.to_owned())
    }
}

/// What the placeholders of a pattern stand for in a name.
fn bind<'a>(pattern: &'static str, parts: &[&'a str]) -> Option<BTreeMap<&'static str, &'a str>> {
    let wanted: Vec<&str> = pattern.split('.').collect();
    if wanted.len() != parts.len() {
        return None;
    }
    let mut bound = BTreeMap::new();
    for (wanted, part) in wanted.iter().zip(parts) {
        match wanted.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
            Some(name) => drop(bound.insert(name, *part)),
            None if wanted == part => {}
            None => return None,
        }
    }
    Some(bound)
}

/// A pattern with its placeholders filled in; nothing where a number is called for and there is none.
fn fill(pattern: &str, bound: &BTreeMap<&'static str, &str>) -> Option<String> {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('<') {
        let (name, after) = after.split_once('>')?;
        out += before;
        match name.strip_suffix("+1") {
            Some(name) => out += &bound.get(name)?.parse::<u32>().ok()?.checked_add(1)?.to_string(),
            None => out += bound.get(name)?,
        }
        rest = after;
    }
    Some(out + rest)
}

/// What is there, for the message about a file of names that are not known.
pub(super) fn describe(names: &[String]) -> String {
    let mut examples: Vec<&str> = names.iter().map(String::as_str).take(3).collect();
    if names.len() > 3 {
        examples.extend(names.last().map(String::as_str));
    }
    let examples: Vec<String> = examples.iter().map(|name| format!("`{name}`")).collect();
    // The start of a name may be a wrapper's that only some names bear.
    let bears = |start: &str| names.iter().any(|name| name.starts_with(start) || name.contains(&format!(".{start}")));
    let kind = LOOKS_LIKE.iter().find(|(start, _)| bears(start)).map(|(_, kind)| format!(": looks like {kind}"));
    format!("holds {} tensors, names like {}{}", names.len(), examples.join(", "), kind.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(names: &BTreeSet<&str>) -> bool {
        names.contains("conv1.weight") && names.iter().any(|name| name.starts_with("layer1.0."))
    }

    fn renamed(names: &[&str]) -> Vec<String> {
        canonical(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>(), known)
    }

    #[test]
    fn wrappers_shared_prefixes_and_other_libraries_names_become_torchvisions() {
        let plain = ["conv1.weight", "layer1.0.conv1.weight", "fc.bias"];
        for prefix in ["", "module.", "_orig_mod.module.", "backbone.", "net.encoder.", "model.backbone._orig_mod."] {
            assert_eq!(renamed(&plain.map(|name| format!("{prefix}{name}")).each_ref().map(String::as_str)), plain);
        }
        assert_eq!(
            renamed(&[
                "module.conv1.weight",
                "module.layer2.0.shortcut.1.running_var",
                "module.layer1.0.bn1.bias",
                "module.linear.weight"
            ]),
            ["conv1.weight", "layer2.0.downsample.1.running_var", "layer1.0.bn1.bias", "fc.weight"]
        );
        assert_eq!(
            renamed(&[
                "resnet.embedder.embedder.convolution.weight",
                "resnet.encoder.stages.0.layers.0.layer.1.normalization.bias",
                "resnet.encoder.stages.3.layers.1.shortcut.convolution.weight",
                "classifier.1.weight"
            ]),
            ["conv1.weight", "layer1.0.bn2.bias", "layer4.1.downsample.0.weight", "fc.weight"]
        );
    }

    #[test]
    fn names_that_stay_unknown_lose_their_wrappers_alone() {
        assert_eq!(renamed(&["a.weight", "a.bias"]), ["a.weight", "a.bias"]);
        assert_eq!(renamed(&["module.a.weight", "module.a.bias"]), ["a.weight", "a.bias"]);
        // A head beside the backbone is not what all share.
        let mixed = ["backbone.conv1.weight", "backbone.layer1.0.conv1.weight", "head.weight"];
        assert_eq!(renamed(&mixed), mixed);
        assert_eq!(renamed(&["", "."]), ["", "."]);
        assert!(describe(&["features.0.weight".into()]).ends_with("looks like AlexNet or SqueezeNet"));
        assert!(beside("layer1.0.total_ops") && beside("n_averaged") && !beside("fc.weight"));
    }
}
