//! Batch-norm statistics of weights that were not trained.

use crate::data::Images;
use crate::error::Result;
use crate::kernels::layout::to_kernels;
use crate::kernels::on_worker;
use crate::model::Model;
use crate::nn::{Mode, Shape3, Weights, Workspace};

/// Puts the mean of the statistics of whole batches of `images` in the place of the running ones,
/// as PyTorch does with `momentum=None`; for weights that are not where training left them. Dropout
/// draws as in training. Without a batch norm nothing changes.
///
/// # Errors
/// When images cannot be read or do not fit the network.
pub fn renew_statistics(model: &Model, weights: &mut Weights, images: &dyn Images, batch: usize) -> Result<()> {
    let (shape, network) = (Shape3::from(images.shape()), &model.network);
    let mut workspace = Workspace::default();
    let indices: Vec<usize> = (0..images.len()).collect();
    // A last batch of a few images would count like a whole one.
    let batches = indices.chunks_exact(batch.min(indices.len()).max(1));
    for (place, chunk) in batches.enumerate() {
        let mut pixels = vec![0.0; shape.len() * chunk.len()];
        images.read(chunk, None, &mut pixels)?;
        let mut input = workspace.take(pixels.len());
        to_kernels(chunk.len(), shape.channels, shape.height * shape.width, &pixels, &mut input);
        let whole = network.whole();
        let read = &*weights;
        let tape =
            on_worker(|| network.forward(whole, Mode::TRAIN, read, None, input, shape, chunk.len(), &mut workspace))?;
        network.blend_statistics(&tape, weights, 1.0 / (place + 1) as f32);
        tape.recycle(&mut workspace);
    }
    Ok(())
}
