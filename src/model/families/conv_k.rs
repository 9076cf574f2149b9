//! Conv-2/4/6 (Frankle & Carbin 2019): pairs of 3×3 convolutions with a max pool, then two hidden
//! linear layers. Names as open_lth builds its networks: `layers.N.conv` (a max pool is one of the
//! `layers`), `fc_layers.N`, `fc`.

use crate::error::Result;
use crate::nn::Initialisation;

use super::super::Model;
use super::super::builder::{Builder, Label, Spec};
use super::{Family, Tensors, Wish};

/// Its line in the table.
pub(super) const FAMILY: Family = Family {
    names: &["conv2", "conv4", "conv6"],
    build,
    claims: |names| names.contains("layers.0.conv.weight") && names.contains("fc_layers.0.weight"),
    infer,
};

/// Hidden linear layers.
const HIDDEN: [usize; 2] = [256, 256];

struct ConvK {
    /// Channels of the convolutions before each max pool.
    groups: Vec<Vec<usize>>,
    /// Values of the last map.
    features: usize,
    hidden: Vec<usize>,
    channels: usize,
    classes: usize,
}

fn build(name: &str, wish: &Wish) -> Result<Model> {
    wish.without_stem(name)?;
    let width = wish.width(64)?;
    let pairs: usize = name.trim_start_matches("conv").parse().unwrap_or(2) / 2;
    let groups: Vec<Vec<usize>> = (0..pairs).map(|pair| vec![width << pair; 2]).collect();
    let features = (width << (pairs - 1)) * (wish.images.height >> pairs) * (wish.images.width >> pairs);
    let (channels, classes) = (wish.images.channels, wish.classes);
    Ok(ConvK { groups, features, hidden: HIDDEN.to_vec(), channels, classes }.model())
}

fn infer(tensors: &Tensors<'_>) -> Result<Model> {
    let (_, channels) = tensors.convolution3("layers.0.conv.weight")?;
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut last = None;
    for number in tensors.numbers("layers", "conv.weight") {
        let name = format!("layers.{number}.conv.weight");
        let (out, _) = tensors.convolution3(&name)?;
        match (last.map_or(number + 1, |last| number - last), groups.last_mut()) {
            (1, Some(group)) => group.push(out),
            (1, None) | (2, Some(_)) => groups.push(vec![out]),
            _ => return Err(tensors.fault(&name, "does not stand where a Conv-k has a convolution")),
        }
        last = Some(number);
    }
    let (features, hidden, classes) = tensors.fully_connected()?;
    Ok(ConvK { groups, features, hidden, channels, classes }.model())
}

impl ConvK {
    fn model(&self) -> Model {
        let mut builder = Builder::default();
        let (mut channels, mut number) = (self.channels, 0);
        for group in &self.groups {
            for &out in group {
                let (module, name) = (format!("layers.{number}"), format!("layers.{number}.conv"));
                builder.part(&module);
                let channels_of = (channels, out);
                builder.convolution(&Spec {
                    name: &name,
                    norm: None,
                    bias: true,
                    channels: channels_of,
                    window: (3, 1, 1),
                });
                builder.stage(&module);
                (channels, number) = (out, number + 1);
            }
            builder.max_pool(2, 2, 0);
            builder.stage(&format!("layers.{number}"));
            number += 1;
        }
        let default_stage = format!("layers.{}", number - 2);
        builder.stage("layers");
        builder.flatten();
        builder.fully_connected(self.features, &self.hidden, self.classes);
        builder.finish(Label {
            name: format!("Conv-{}", self.groups.iter().map(Vec::len).sum::<usize>()),
            channels: self.channels,
            classes: self.classes,
            head: "fc",
            default_stage,
            initialisation: Initialisation::Glorot,
        })
    }
}
