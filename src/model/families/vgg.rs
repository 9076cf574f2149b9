//! VGG-11/13/16/19 with and without batch norm (Simonyan & Zisserman 2015; torchvision's variant
//! and names), of any width.

use crate::error::Result;
use crate::nn::Initialisation;

use super::super::Model;
use super::super::builder::{Builder, Label, Spec};
use super::{Family, Tensors, Wish};

/// Its line in the table.
pub(super) const FAMILY: Family = Family {
    names: &["vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"],
    build,
    // AlexNet and SqueezeNet have `features.0` too, but no weight in `classifier.0`.
    claims: |names| names.contains("features.0.weight") && names.contains("classifier.0.weight"),
    infer,
};

/// Rows and columns of the map that the classifier reads, whatever the images' size.
const GRID: usize = 7;
/// Probability with which training leaves a hidden value of the classifier out.
const DROPOUT: f32 = 0.5;

struct Vgg {
    /// Channels of the convolutions between one max pool and the next.
    groups: Vec<Vec<usize>>,
    batch_norm: bool,
    /// Hidden layers of the classifier.
    hidden: [usize; 2],
    channels: usize,
    classes: usize,
}

fn build(name: &str, wish: &Wish) -> Result<Model> {
    wish.without_stem(name)?;
    let width = wish.width(64)?;
    let (depth, batch_norm) = name.strip_suffix("_bn").map_or((name, false), |depth| (depth, true));
    let counts = match depth {
        "vgg11" => [1, 1, 2, 2, 2],
        "vgg13" => [2, 2, 2, 2, 2],
        "vgg16" => [2, 2, 3, 3, 3],
        _ => [2, 2, 4, 4, 4],
    };
    let channels = [width, 2 * width, 4 * width, 8 * width, 8 * width];
    let groups = counts.iter().zip(channels).map(|(&count, channels)| vec![channels; count]).collect();
    let (channels, classes) = (wish.images.channels, wish.classes);
    Ok(Vgg { groups, batch_norm, hidden: [64 * width; 2], channels, classes }.model())
}

fn infer(tensors: &Tensors<'_>) -> Result<Model> {
    let batch_norm = tensors.has("features.1.running_mean");
    // A convolution, its batch norm and its ReLU follow each other; a number more is a max pool.
    let step = if batch_norm { 3 } else { 2 };
    let numbers: Vec<usize> = tensors
        .numbers("features", "weight")
        .into_iter()
        .filter(|number| tensors.shapes[format!("features.{number}.weight").as_str()].len() == 4)
        .collect();
    let (_, channels) = tensors.convolution3("features.0.weight")?;
    let mut groups: Vec<Vec<usize>> = vec![Vec::new()];
    let mut expected = 0;
    for number in numbers {
        let name = format!("features.{number}.weight");
        match number.checked_sub(expected) {
            Some(0) => {}
            Some(1) if number > 1 => groups.push(Vec::new()),
            _ => return Err(tensors.fault(&name, "does not stand where a VGG has a convolution")),
        }
        let (out, _) = tensors.convolution3(&name)?;
        if let Some(last) = groups.last_mut() {
            last.push(out);
        }
        expected = number + step;
    }
    let (first, _) = tensors.linear("classifier.0.weight")?;
    let (second, _) = tensors.linear("classifier.3.weight")?;
    let (classes, _) = tensors.linear("classifier.6.weight")?;
    Ok(Vgg { groups, batch_norm, hidden: [first, second], channels, classes }.model())
}

impl Vgg {
    fn name(&self) -> String {
        let counts: Vec<usize> = self.groups.iter().map(Vec::len).collect();
        let norm = if self.batch_norm { " with batch norm" } else { "" };
        match counts[..] {
            [1, 1, 2, 2, 2] | [2, 2, 2, 2, 2] | [2, 2, 3, 3, 3] | [2, 2, 4, 4, 4] => {
                format!("VGG-{}{norm}", counts.iter().sum::<usize>() + 3)
            }
            _ => format!("VGG {counts:?}{norm}"),
        }
    }

    fn model(&self) -> Model {
        let mut builder = Builder::default();
        let (mut channels, mut number, mut default_stage) = (self.channels, 0, String::new());
        for (nth, group) in self.groups.iter().enumerate() {
            for &out in group {
                let (name, norm) = (format!("features.{number}"), format!("features.{}", number + 1));
                builder.part(&name);
                let norm = self.batch_norm.then_some(norm.as_str());
                builder.convolution(&Spec {
                    name: &name,
                    norm,
                    bias: true,
                    channels: (channels, out),
                    window: (3, 1, 1),
                });
                number += if self.batch_norm { 2 } else { 1 };
                builder.stage(&format!("features.{number}"));
                (channels, number) = (out, number + 1);
            }
            builder.max_pool(2, 2, 0);
            builder.stage(&format!("features.{number}"));
            // A sixteenth of the images' size, as layer3 of a ResNet.
            if nth + 2 == self.groups.len() || default_stage.is_empty() {
                default_stage = format!("features.{number}");
            }
            number += 1;
        }
        builder.stage("features");
        builder.adaptive_average_pool(GRID, GRID);
        builder.stage("avgpool");
        builder.flatten();
        let mut features = channels * GRID * GRID;
        for (nth, hidden) in self.hidden.into_iter().enumerate() {
            let name = |module: usize| format!("classifier.{}", 3 * nth + module);
            builder.part(&name(0));
            builder.linear(&name(0), features, hidden, true);
            builder.stage(&name(1));
            builder.dropout(DROPOUT);
            builder.stage(&name(2));
            features = hidden;
        }
        builder.part("classifier.6");
        builder.linear("classifier.6", features, self.classes, false);
        builder.finish(Label {
            name: self.name(),
            channels: self.channels,
            classes: self.classes,
            head: "classifier.6",
            default_stage,
            initialisation: Initialisation::Vgg,
        })
    }
}
