//! ResNet-20/32/44/56 for CIFAR (He et al. 2016, §4.2, with projections), with open_lth's names, of any width.

use crate::error::Result;
use crate::nn::Initialisation;

use super::super::Model;
use super::super::builder::{Builder, Label, Spec};
use super::{Family, Tensors, Wish};

/// Its line in the table.
pub(super) const FAMILY: Family = Family {
    names: &["resnet20", "resnet32", "resnet44", "resnet56"],
    build,
    claims: |names| names.contains("blocks.0.conv1.weight"),
    infer,
};

struct CifarResNet {
    /// Channels of the first convolution.
    stem: usize,
    /// Channels of each block, and whether it halves the map.
    blocks: Vec<(usize, bool)>,
    channels: usize,
    classes: usize,
}

fn build(name: &str, wish: &Wish) -> Result<Model> {
    wish.without_stem(name)?;
    let width = wish.width(16)?;
    let depth: usize = name.trim_start_matches("resnet").parse().unwrap_or(20);
    let each = (depth - 2) / 6;
    let blocks = (0..3).flat_map(|segment| (0..each).map(move |nth| (width << segment, segment > 0 && nth == 0)));
    let (channels, classes) = (wish.images.channels, wish.classes);
    Ok(CifarResNet { stem: width, blocks: blocks.collect(), channels, classes }.model())
}

fn infer(tensors: &Tensors<'_>) -> Result<Model> {
    let (stem, channels) = tensors.convolution3("conv.weight")?;
    let mut blocks = Vec::new();
    while tensors.any(&format!("blocks.{}.", blocks.len())) {
        let name = format!("blocks.{}", blocks.len());
        let (out, _) = tensors.convolution3(&format!("{name}.conv1.weight"))?;
        blocks.push((out, tensors.any(&format!("{name}.shortcut."))));
    }
    let (classes, _) = tensors.linear("fc.weight")?;
    Ok(CifarResNet { stem, blocks, channels, classes }.model())
}

impl CifarResNet {
    fn model(&self) -> Model {
        let mut builder = Builder::default();
        builder.part("stem");
        let (channels, window) = ((self.channels, self.stem), (3, 1, 1));
        builder.convolution(&Spec { name: "conv", norm: Some("bn"), bias: false, channels, window });
        let mut channels = self.stem;
        // The last block before the map is halved for the last time, as layer3 of a ResNet.
        let mut default_stage = format!("blocks.{}", self.blocks.len() - 1);
        for (nth, &(out, halves)) in self.blocks.iter().enumerate() {
            if halves && nth > 0 {
                default_stage = format!("blocks.{}", nth - 1);
            }
            let name = format!("blocks.{nth}");
            builder.part(&name);
            add_block(&mut builder, &name, (channels, out), halves);
            builder.stage(&name);
            channels = out;
        }
        builder.stage("blocks");
        builder.part("fc");
        builder.global_average_pool();
        builder.linear("fc", channels, self.classes, false);
        builder.finish(Label {
            name: format!("CIFAR ResNet-{}", 2 * self.blocks.len() + 2),
            channels: self.channels,
            classes: self.classes,
            head: "fc",
            default_stage,
            initialisation: Initialisation::OpenLth,
        })
    }
}

fn add_block(builder: &mut Builder, name: &str, (from, to): (usize, usize), halves: bool) {
    let (input, stride) = (builder.slot(), if halves { 2 } else { 1 });
    let lay = |builder: &mut Builder, [product, norm]: [&str; 2], channels, window| {
        let (name, norm) = (format!("{name}.{product}"), format!("{name}.{norm}"));
        builder.lay(&Spec { name: &name, norm: Some(&norm), bias: false, channels, window })
    };
    let first = lay(builder, ["conv1", "bn1"], (from, to), (3, stride, 1));
    let inner = builder.convolve(first, input, None, true);
    let last = lay(builder, ["conv2", "bn2"], (to, to), (3, 1, 1));
    let mut residual = input;
    if halves {
        let shortcut = lay(builder, ["shortcut.0", "shortcut.1"], (from, to), (1, stride, 0));
        residual = builder.convolve(shortcut, input, None, false);
    }
    builder.convolve(last, inner, Some(residual), true);
}
