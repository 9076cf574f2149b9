//! Dense networks from a record in place of checkpoints, and what differs between two records.

use sha2::{Digest, Sha256};

use crate::data::ImageSource;
use crate::digest::{hex, sha256};
use crate::error::{Error, Result};
use crate::explain::map_drift;
use crate::records::reference::{
    EffectRecord, ImageSet, NetworkRecord, REFERENCE_KIND, REFERENCE_VERSION, ReferenceRecord, ReferenceTensors,
    Setting,
};
use crate::stats::descriptive::known_mean;
use crate::stats::similarity::Measure;

use super::accuracy::share_right;
use super::concepts;
use super::explained::{ClassEffect, Dense, Explained};

/// What a set of images holds, as the networks see it.
///
/// # Errors
/// When an image cannot be read.
pub fn image_set(source: &ImageSource, argument: &str, batch: usize) -> Result<ImageSet> {
    let (channels, height, width) = source.shape();
    let mut hash = Sha256::new();
    for images in source.ranges(batch) {
        source.values(images)?.iter().for_each(|value| hash.update(value.to_le_bytes()));
    }
    Ok(ImageSet { argument: argument.into(), count: source.len(), shape: [channels, height, width], sha256: hex(hash) })
}

/// # Errors
/// When `source` does not hold the images that were recorded.
pub fn check_images(what: &str, recorded: &ImageSet, source: &ImageSource, batch: usize) -> Result<()> {
    let found = image_set(source, source.name(), batch)?;
    if (found.count, found.shape, &found.sha256) == (recorded.count, recorded.shape, &recorded.sha256) {
        return Ok(());
    }
    let how = match (found.count, found.shape) {
        (count, _) if count != recorded.count => format!("{count} in place of {}", recorded.count),
        (_, shape) if shape != recorded.shape => format!("of shape {shape:?} in place of {:?}", recorded.shape),
        _ => "with other pixels, or prepared otherwise".to_owned(),
    };
    Err(Error::input(format!("{what}: {} holds other images than were recorded: {how}", source.name())))
}

/// The sets that networks were explained on.
pub struct Sets {
    /// The images.
    pub images: ImageSet,
    /// Concepts by name.
    pub concepts: Vec<(String, ImageSet)>,
    /// Random sets.
    pub random: Vec<ImageSet>,
}

/// Both files of a record: JSON and tensors. `weights` are the digests of reference and floor.
///
/// # Errors
/// When reference and floor do not speak of the same, a floor network is given twice, or something
/// cannot be stored.
pub fn record(
    dense: &Dense,
    weights: &[String],
    classes: usize,
    setting: Setting,
    sets: Sets,
) -> Result<(ReferenceRecord, Vec<u8>)> {
    dense.check()?;
    let tensors = ReferenceTensors {
        maps: dense.networks().map(|network| (network.size, network.maps.clone())).collect(),
        predicted: dense.networks().map(|network| network.predicted.clone()).collect(),
        targets: dense.targets.clone(),
        labels: dense.labels.clone(),
    }
    .to_bytes()?;
    let networks = dense.networks().zip(weights).map(|(network, weights)| NetworkRecord {
        name: network.name.clone(),
        weights: weights.clone(),
        density: network.density,
        assumed: network.assumed,
        effects: network
            .effects
            .iter()
            .map(|effect| EffectRecord {
                class: effect.class,
                concept: effect.concept.clone(),
                standardised: effect.standardised,
                significant: effect.significant,
            })
            .collect(),
    });
    let record = ReferenceRecord {
        kind: REFERENCE_KIND.into(),
        version: REFERENCE_VERSION,
        made_by: env!("CARGO_PKG_VERSION").into(),
        tensors: sha256(&tensors),
        setting,
        classes,
        images: sets.images,
        names: dense.images.clone(),
        concepts: sets.concepts,
        random: sets.random,
        networks: networks.collect(),
    };
    Ok((record, tensors))
}

/// The dense networks of a record.
///
/// # Errors
/// When the tensors are not the record's.
pub fn dense(record: &ReferenceRecord, tensors: &[u8]) -> Result<Dense> {
    let ReferenceTensors { maps, predicted, targets, labels } = record.tensors(tensors)?;
    let parts = record.networks.iter().zip(maps).zip(predicted);
    let mut networks = parts.map(|((network, (size, maps)), predicted)| Explained {
        name: network.name.clone(),
        size,
        maps,
        predicted,
        effects: network
            .effects
            .iter()
            .map(|effect| ClassEffect {
                class: effect.class,
                concept: effect.concept.clone(),
                standardised: effect.standardised,
                significant: effect.significant,
            })
            .collect(),
        density: network.density,
        assumed: network.assumed,
    });
    let reference = networks.next().ok_or_else(|| Error::input("the record holds no network"))?;
    Ok(Dense {
        images: record.names.clone(),
        labels,
        targets,
        stage: Some(record.setting.stage),
        reference,
        floor: networks.collect(),
    })
}

/// What a new record says otherwise than an old one, a line for each; empty where they say the
/// same. The names by which files were given do not count.
///
/// # Errors
/// When a map is not finite.
pub fn changes(old: (&ReferenceRecord, &Dense), new: (&ReferenceRecord, &Dense)) -> Result<Vec<String>> {
    let ((old, was), (new, is)) = (old, new);
    let mut lines = Vec::new();
    let mut differs = |what: &str, old: String, new: String| {
        if old != new {
            lines.push(format!("{what}: {old} → {new}"));
        }
    };
    let short = |hash: &str| hash.chars().take(12).collect::<String>();
    let set = |set: &ImageSet| format!("{} images {}", set.count, short(&set.sha256));
    let named = |sets: &[(String, ImageSet)]| -> String {
        sets.iter().map(|(name, of)| format!("{name} ({})", set(of))).collect::<Vec<_>>().join(", ")
    };
    let all = |sets: &[ImageSet]| sets.iter().map(set).collect::<Vec<_>>().join(", ");
    differs("stage", old.setting.stage.to_string(), new.setting.stage.to_string());
    differs("classes tested", old.setting.tested.clone(), new.setting.tested.clone());
    differs("batch", old.setting.batch.to_string(), new.setting.batch.to_string());
    differs("preparation", format!("{:?}", old.setting.preparation), format!("{:?}", new.setting.preparation));
    differs("classes", old.classes.to_string(), new.classes.to_string());
    differs("images", set(&old.images), set(&new.images));
    differs("concepts", named(&old.concepts), named(&new.concepts));
    differs("random sets", all(&old.random), all(&new.random));
    differs("floor networks", (old.networks.len() - 1).to_string(), (new.networks.len() - 1).to_string());
    if was.labels != is.labels {
        lines.push("labels: others".into());
    }
    for (place, (before, after)) in old.networks.iter().zip(&new.networks).enumerate() {
        if before.weights != after.weights {
            let role = if place == 0 { "reference".to_owned() } else { format!("floor network {place}") };
            lines.push(format!("{role}: weights {} → {}", short(&before.weights), short(&after.weights)));
        }
    }
    let (before, after) = (&was.reference, &is.reference);
    if before.size == after.size && before.maps.len() == after.maps.len() && before.maps != after.maps {
        let drift = map_drift(Measure::default(), before.size, &before.maps, &after.maps)?;
        let moved = known_mean(&drift).map_or("no map says anything".to_owned(), |mean| format!("mean {mean:.4}"));
        lines.push(format!("maps of the reference: {} {moved}", Measure::default().definition()));
    }
    if let (Some(before), Some(after)) = (share_right(was, before), share_right(is, after))
        && before != after
    {
        lines.push(format!("accuracy of the reference: {:.2} % → {:.2} %", 100.0 * before, 100.0 * after));
    }
    if after.effects != before.effects {
        let flipped = concepts::moved(was, after).into_iter().filter(|concept| concept.flipped);
        let flipped: Vec<String> = flipped.map(|of| format!("{} for class {}", of.concept, of.class)).collect();
        lines.push(match flipped.is_empty() {
            true => "concept effects of the reference: others, none changed its sign or significance".into(),
            false => format!("concept effects of the reference: changed sign or significance: {}", flipped.join(", ")),
        });
    }
    Ok(lines)
}
