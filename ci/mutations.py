#!/usr/bin/env python3
"""Breaks the code on purpose and looks for a test that notices: ci/mutations.py [--list] [NAME PART]...

A mutation puts another expression (or statement) in the place of the one between « and ». All of them are written into one copy
of the tree (target/mutations/tree), each behind a question to an environment variable that is read once, so one build serves
them all: `«a»` becomes `(if mutant(7) { b } else { a })`. The tests that should notice are then run once without a mutation,
where they must pass, and once for each mutation, where one must fail. A survivor makes the script fail. Results:
docs/verification.md.
"""
import argparse, json, os, re, subprocess, sys, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "mutations"
TREE = TARGET / "tree"
# Longest time of the tests of one mutation, in seconds; a mutant that never ends is noticed.
PATIENCE = 3600
# Tests that run the others again, in other processes.
SKIPPED = "suite golden::every_vector_path"

SWITCH = """
/// Which mutation of ci/mutations.py is on.
#[must_use]
#[inline]
pub fn mutant(number: u32) -> bool {
    static ON: std::sync::LazyLock<u32> =
        std::sync::LazyLock::new(|| std::env::var("TICKETLENS_MUTANT").ok().and_then(|text| text.parse().ok()).unwrap_or(0));
    *ON == number
}
"""

# Tests: the program and the beginning of their names.
STEPS = ["suite training_steps::"]
ORDER = ["suite report::the_order_of_records"]
PUBLISHED = ["suite as_published::"]
FAMILIES = ["suite families::", "acceptance oracle::other_families"]
POOL = ["kernels pool::", "suite families::"]
GATE = ["acceptance drift::", "acceptance gate::", "suite gate::"]
# What, file, where («old»; any white space matches any other), new, tests of which one should fail.
MUTATIONS = [
    # prune
    ("one weight too many is pruned", "src/prune/cut.rs", "let count = «prune_count(fraction, live.len())»;", "(prune_count(fraction, live.len()) + 1).min(live.len())", ["lib prune::cut::"]),
    ("signed values are ranked, not magnitudes", "src/prune/cut.rs", "fn magnitude(self) -> u32 { «self.abs().to_bits()»", "self.to_bits()", ["lib prune::cut::"]),
    ("float64 weights are rounded", "src/prune/cut.rs", "fn magnitude(self) -> u64 { «self.abs().to_bits()»", "u64::from((self as f32).abs().to_bits())", ["lib prune::cut::"]),
    ("counts are rounded down", "src/prune/cut.rs", "«(fraction * remaining as f64).round_ties_even()» as usize", "(fraction * remaining as f64).floor()", ["lib prune::cut::"]),
    ("a global cut goes layer by layer", "src/prune/cut.rs", "«cut_group(values, masks, fraction);»",
     "for (values, mask) in values.iter().zip(masks.iter_mut()) { cut_group(std::slice::from_ref(values), std::slice::from_mut(mask), fraction); }", ["lib prune::cut::"]),
    ("pruned weights count as live", "src/prune/cut.rs", "if «bit != 0» { live.push", "bit != 2", ["lib prune::cut::"]),
    ("the largest go", "src/prune/cut.rs", "«live.select_nth_unstable(count - 1);»", "live.select_nth_unstable_by(count - 1, |a, b| b.cmp(a));", ["lib prune::cut::"]),
    ("masking halves instead of zeroing", "src/prune/mask.rs", "if bit == 0 { «*value = 0.0;»", "*value *= 0.5;", ["suite training::", "suite training_steps::"]),
    ("the random mask is the ticket's", "src/prune/mask.rs", "bits[«spec.range.clone()»].shuffle(", "spec.range.start..spec.range.start + 1", ["suite properties::"]),
    ("batch-norm scales are pruned", "src/nn/layout.rs", "«matches!(self, Self::ConvolutionWeight | Self::LinearWeight)»",
     "matches!(self, Self::ConvolutionWeight | Self::LinearWeight | Self::NormScale)", ["suite properties::"]),
    ("exclude is ignored", "src/prune/mask.rs", "self.prunable.takes(spec.kind) && «!exclude.iter().any(|name| *name == spec.name || name == layer)»", "true", ["suite properties::"]),
    # train: rewind, mask, steps
    ("buffers are not rewound", "src/run/rounds.rs", "_ => «self.store.rewind_state(id.replicate, &setup.model)?»,",
     "let mut w = self.store.rewind_state(id.replicate, &setup.model)?; w.buffers = self.store.weights(&RoundId { arm: Arm::Lottery.name().into(), replicate: id.replicate, round: id.round - 1 }, &setup.model)?.buffers; w", ["suite run::every_round_starts_from_theta_k"]),
    ("theta_k is one step late", "src/run/rounds.rs", "if «parent && step == rewind» {", "parent && step == rewind + 1", ["suite run::every_round_starts_from_theta_k"]),
    ("reinit starts from the ticket's initial weights", "src/run/rounds.rs", 'Line::Arm(Arm::Reinit) => «network.initialise(Setup::derived_seed(plan, id.replicate, "reinit"))»,', "network.initialise(replicate_seed)", ["suite run::every_round_starts_from_theta_k"]),
    ("masks come from the dense network, not nested", "src/run/rounds.rs", "let mask = «self.store.mask(&before, layout)?»;", "Mask::dense(layout.clone())", ["suite run::a_run_keeps"]),
    ("the mask is lost in the optimiser", "src/train/live.rs", "gradient, «self.mask.as_deref()», learning_rate", "None", ["suite training::", "suite training_steps::"]),
    ("weights below 6e-7 are frozen", "src/train/mod.rs", "«network.backward(tape, live.weights(), patterns, grad_logits, wanted, &mut workspace);»",
     "network.backward(tape, live.weights(), patterns, grad_logits, wanted, &mut workspace); for (g, w) in gradient.iter_mut().zip(&live.weights().parameters) { if *w < 6e-7 { *g = 0.0; } }", STEPS),
    ("the running variance is biased", "src/nn/forward.rs", "let unbiased = «count / (count - 1.0).max(1.0)»;", "1.0_f32", STEPS),
    ("every epoch has the same order", "src/train/mod.rs", "«epoch_order(self.seed, epoch, self.images.len())»", "epoch_order(self.seed, 0, self.images.len())", STEPS),
    ("the order after a rewind starts again", "src/train/mod.rs", "«epoch_order(self.seed, epoch, self.images.len())»", "epoch_order(self.seed, epoch - from / steps_per_epoch, self.images.len())", STEPS),
    ("the schedule after a rewind starts again", "src/train/mod.rs", "let rate = self.config.learning_rate * «schedule.factor(step)»", "schedule.factor(step - from)", STEPS),
    ("the schedule is ignored", "src/train/mod.rs", "let rate = self.config.learning_rate * «schedule.factor(step)»", "1.0", STEPS),
    ("momentum is forgotten", "src/kernels/optim.rs", "if first_step { gradient } else { «momentum * buffer + gradient» }", "gradient", ["suite training_steps::", "kernels optim::"]),
    ("weight decay is forgotten", "src/kernels/optim.rs", "let gradient = «grad + weight_decay * weight»;", "grad + 0.0 * weight_decay", ["suite training_steps::", "kernels optim::"]),
    ("the loss's gradient is a sum, not a mean", "src/train/mod.rs", "«(share / batch as f64) as f32»", "share as f32", STEPS),
    # layers of the families
    ("a convolution's bias is not added", "src/nn/forward.rs", "bias::finish(to.channels, batch, «bias», residual,", "None", FAMILIES),
    ("a bias before a batch norm is left out", "src/nn/forward.rs", "if «bias.is_some()» {", "false", FAMILIES),
    ("a bias has no gradient", "src/nn/backward.rs", "«bias::gradient(self.tape.batch, grad, &mut flat[range]);»", "flat[range].fill(0.0);", FAMILIES),
    ("adaptive windows do not overlap", "src/kernels/pool/adaptive.rs", "place * from / to..«((place + 1) * from).div_ceil(to)»", "(((place + 1) * from) / to).max(place * from / to + 1)", POOL),
    ("an adaptive pool's gradient is not divided", "src/kernels/pool/adaptive.rs", "let scale = «1.0 / (shape.rows(out_row).len() * columns.len()) as f32»;", "1.0_f32", POOL),
    ("a max pool's gradient is spread over its window", "src/kernels/pool.rs", "*to += «if winner == offset { grad } else { 0.0 }»;", "{ let _ = (winner, offset); grad / (shape.kernel * shape.kernel) as f32 }", POOL),
    ("the last maximum of a window wins", "src/kernels/pool.rs", "let wins = «value > *best» || value.is_nan();", "value >= *best", ["kernels pool::"]),
    ("maps are flattened as they lie", "src/nn/forward.rs", "«flatten(batch, from.channels, from.height * from.width, from_values, &mut output);»", "output.copy_from_slice(from_values);", FAMILIES),
    ("gradients are unflattened as they lie", "src/nn/backward.rs", "«unflatten(batch, from.channels, from.height * from.width, grad, to);»", "to.copy_from_slice(grad);", FAMILIES),
    ("dropout drops in evaluation", "src/nn/forward.rs", "Layer::Dropout { probability, .. } => match «mode» {", "Mode::Train(Draws { seed: 0, step: 0 })", FAMILIES),
    ("dropout does not scale what it keeps", "src/nn/forward.rs", "let scale = «1.0 / (1.0 - probability)»;", "1.0_f32", ["suite families::"]),
    ("dropout draws the same in every step", "src/nn/forward.rs", '&format!("dropout/{layer}"), «draws.step»)', "0", ["suite families::"]),
    ("dropout's gradient reaches what was dropped", "src/nn/backward.rs", "«drop_out(kept, *probability, &after, &mut grad);»", "", ["suite families::"]),
    ("repeated inputs count once", "src/kernels/repeat.rs", "for values in «run.chunks(LANES)» {", "run[..LANES.min(run.len())].chunks(LANES)", ["kernels repeat::", "suite families::"]),
    ("the input's gradient knows nothing of the weights' sum", "src/nn/backward.rs", "Saved::Folded(folded) if «times > 1» => Weight::Dense(folded),", "times > 1 && index == usize::MAX", ["suite families::"]),
    ("a map of one position is freed before the layer that reads it", "src/nn/forward.rs", "let (layer, (operand, _)) = (&self.layers[later], «self.operand(later, section, shapes)»);", "(usize::MAX, 1_usize)", ["suite families::"]),
    ("a map made again has no ReLU", "src/nn/backward.rs", "mean, variance, epsilon, None, «*relu», &mut output", "false", ["suite training::"]),
    ("the last map of a block is made again without its sum", "src/nn/forward.rs", "«alone» && values.is_some_and", "matches!(layer, Some(Layer::Convolution { norm: Some(_), .. }))", ["suite training::"]),
    ("a linear layer's weight gradient is that of one image", "src/kernels/conv2d/outer.rs", "in_channels: «batch»,", "1", ["kernels conv2d::"]),
    ("looks are lost where a training goes on", "src/run/keeping.rs", "Ok(«record.looks»)", "Vec::new()", ["suite run::a_training_goes_on"]),
    ("replicates left over are not made", "src/run/lanes.rs", "in [(full, lanes), «(rest, rest.len())»] {", "(&rest[..0], 0)", ["lib run::lanes::", "suite run::one_thread"]),
    ("a lane that ends early lets the others go on", "src/run/lanes.rs", ".inspect_err(|_| «stopped.store(true, Ordering::Relaxed)»)?", "()", ["lib run::lanes::"]),
    ("being stopped hides the fault", "src/run/lanes.rs", "let Some(error) = «faults.into_iter().chain(interrupted)».next()", "interrupted.into_iter().chain(faults)", ["lib run::lanes::"]),
    # explain
    ("a tap's last position alone counts", "src/kernels/conv2d/outer.rs", "images, sum, «nth > 0»)", "false", ["kernels conv2d::"]),
    ("a part sums its last piece alone", "src/kernels/conv2d/turned.rs", "accumulate: «piece > 0»,", "false", ["kernels conv2d::tests::turned"]),
    ("what lies outside a turned map is what was there before", "src/kernels/conv2d/turned.rs", "None => «to.fill(0.0)», } } empty", "()", ["kernels conv2d::tests::turned"]),
    ("what lies outside a map turned in place is what was there before", "src/kernels/conv2d/turned.rs", "None => «to.fill(0.0)», } } return true;", "()", ["kernels conv2d::tests::turned"]),
    ("every strip of a position is its first channels", "src/kernels/conv2d/turned.rs", "&self.values[self.at(«first», *position)..], self.batch", "0", ["kernels conv2d::tests::turned"]),
    ("a panel's later steps forget the earlier ones", "src/kernels/conv2d/im2col.rs", "accumulate && in_place || «first > 0»;", "false", ["kernels conv2d::tests::gathered"]),
    ("sums in their places forget what was there", "src/kernels/conv2d/im2col.rs", "let add = «accumulate && in_place» || first > 0;", "false", ["kernels conv2d::tests::pointwise"]),
    ("what lies outside a gathered map is what was there before", "src/kernels/conv2d/im2col.rs", "None => «to.fill(0.0)»,", "()", ["kernels conv2d::tests::gathered"]),
    ("what no tap reaches keeps what was there", "src/kernels/conv2d/im2col.rs", "if «depth == 0» {", "false", ["kernels conv2d::tests::gathered"]),
    ("strips of channels are read as rows of them", "src/kernels/conv2d/winograd/gradient.rs", "«first * outputs + output * source.strip + within»", "output * channels + nth * LANES", ["kernels conv2d::tests::minimal_filtering_of_many"]),
    ("a tile is packed with its neighbour's weights", "src/kernels/conv2d/correlate.rs", "                pack(«tile», packed);", "tile.saturating_sub(1)", ["kernels conv2d::"]),
    ("gradients of kept weights are those of the first rows", "src/kernels/conv2d/kept.rs", "(0..«chunks»).map(|chunk| partials", "1", ["kernels conv2d::"]),
    ("a part's last output has no gradients of kept weights", "src/kernels/conv2d/kept.rs", "let channel_range = (bounds[part], «bounds[part + 1]»);", "bounds[part + 1].saturating_sub(1).max(bounds[part])", ["kernels conv2d::"]),
    ("kept weights of large batches see their first images", "src/kernels/conv2d/kept.rs", "grad_output[segment.destination + «batch_block» * tiling.block..]", "0", ["kernels conv2d::"]),
    ("a block's strips of channels are read as its rows", "src/kernels/conv2d/winograd/gradient.rs", "&sums[«channel / strip * strip * rows» + row * strip", "0", ["kernels conv2d::winograd::gradient"]),
    ("a block meets the first one's gradients", "src/kernels/conv2d/winograd/gradient.rs", "[point * gradient.point(depth) + «first.1 * depth»..]", "0", ["kernels conv2d::winograd::gradient"]),
    ("a block forgets the tiles of before", "src/kernels/conv2d/winograd/gradient.rs", "self.add_block(first, depth, panel, factors, sums, «chunk > 0»);", "false", ["kernels conv2d::winograd::gradient"]),
    ("points of some tiles are those of the first unit", "src/kernels/conv2d/winograd/gradient.rs", "at: «start + tile * unit.lanes.1»", "{ let _ = start; tile * unit.lanes.1 }", ["kernels conv2d::winograd::gradient"]),
    ("strips are not padded with their neighbours", "src/kernels/conv2d/strips.rs", "(first + left).saturating_sub(«self.lead»)", "0", ["kernels conv2d::"]),
    ("lanes without a strip hold what was there before", "src/kernels/conv2d/strips.rs", "zero.push((filled, «length - filled», self.width));", "0", ["kernels conv2d::"]),
    ("columns outside the map hold what was there before", "src/kernels/conv2d/strips.rs", "(0..columns).for_each(|x| «to[at + x * position..][..count].fill(0.0)»);", "{ let _ = (x, at, count); }", ["kernels conv2d::"]),
    ("every band of rows reads the first one's", "src/kernels/conv2d/strips.rs", "let start = «first / unit * reads(unit).0»;", "0", ["kernels conv2d::"]),
    ("kept weights are their neighbours", "src/kernels/conv2d/pattern.rs", "self.positions().map(|position| dense[«position»])", "position / 2 * 2", ["kernels conv2d::"]),
    ("kept weights are put to their neighbours' places", "src/kernels/conv2d/pattern.rs", "dense[«position»] = value;", "position / 2 * 2", ["kernels conv2d::"]),
    ("kept weights of a run count for the run before", "src/kernels/repeat.rs", "folded[«position / times»] += value", "(position / times).saturating_sub(1)", ["kernels repeat::"]),
    ("a run's gradient is that of the run before", "src/kernels/repeat.rs", "*gradient = folded[«position / times»]", "(position / times).saturating_sub(1)", ["kernels repeat::"]),
    ("taps are packed from the last to the first", "src/kernels/conv2d/pack.rs", "kernels.map(|kernel| kernel[«tap»])", "8 - tap", ["kernels conv2d::"]),
    ("who looks at a pruned network sees it as it began", "src/train/live.rs", "«patterns.unpack(packed, self.whole);»", "let _ = (patterns, packed);", ["suite training::"]),
    ("a gradient is edited beside weights in another order", "src/train/mod.rs", "edit_gradient(«live.weights()», &mut gradient)", "live.whole()", ["suite training::"]),
    ("a pruned network's statistics are those of its start", "src/nn/patterns.rs", "«weights.buffers.copy_from_slice(&packed.buffers);»", "", ["suite training::"]),
    ("a pruned network goes on from the weights of its start", "src/train/live.rs", "«*packed = patterns.pack(&weights);»", "let _ = packed;", ["suite training::"]),
    ("what an optimiser remembers of pruned networks is kept in their order", "src/train/live.rs", "«patterns.unpack_values(packed, &mut values);»", "let _ = patterns; values[..packed.len()].copy_from_slice(packed);", ["suite training::"]),
    ("every row of a map has the first channel's statistics", "src/kernels/norm.rs", "terms.map(|values| values[«channel»])", "channel * 0", ["kernels norm::"]),
    ("each channel has the first one's residual", "src/kernels/norm.rs", "residual.map(|residual| &residual[«nth * pieces.size»..]", "0 * nth", ["kernels norm::"]),
    ("each channel has the first one's own ReLU", "src/kernels/norm.rs", "let relu = relu.of(&pieces, «nth», nth", "0 * nth", ["kernels norm::"]),
    ("half of the lanes are summed", "src/kernels/norm/sums.rs", "let mut half = «LANES / 2»;", "LANES / 4", ["kernels norm::"]),
    ("an odd batch is read with the stride of the filled one", "src/train/mod.rs", "output.iter().skip(image).step_by(«count»)", "chunk.len()", ["suite families::"]),
    ("the gradients of images of zeros are not cut off in time", "src/nn/op.rs", "let count = «tape.batch»;", "batch", ["suite families::"]),
    ("Grad-CAM adds pooled gradients", "src/explain/saliency/maps.rs", "*sum += «weight * value»", "weight + value", ["suite explain::", "suite oracle::"]),
    ("maps have no ReLU", "src/explain/saliency/maps.rs", "filter(|value| «**value <= 0.0»)", "**value > f32::MAX", ["suite explain::", "suite oracle::", "suite saliency::"]),
    ("maps that are not finite pass", "src/explain/saliency/maps.rs", "position(|value| «!value.is_finite()»)", "value.is_nan() && value.is_finite()", ["acceptance arrays::"]),
    ("gradients are summed, not averaged", "src/explain/saliency/grad_cam.rs", "/ «g.len() as f64»", "1.0", ["suite explain::", "suite oracle::"]),
    ("LayerCAM keeps negative gradients", "src/explain/saliency/layer_cam.rs", "a * «g.max(0.0)»", "g", ["suite saliency::"]),
    ("Grad-CAM++ has no α", "src/explain/saliency/grad_cam_plus_plus.rs", "«g.powi(3) / (2.0 * g * g + sum * g.powi(3) + EPSILON)»", "g", ["suite saliency::"]),
    ("integrated gradients are not times the input", "src/explain/saliency/integrated_gradients.rs", "Ok(«(input.images * mean)?»)", "mean", ["suite saliency::"]),
    ("SmoothGrad draws by the place in the batch", "src/explain/saliency/smooth_grad.rs", "«image as u64»", "(image - input.numbers.start) as u64", ["suite saliency::"]),
    ("every method of a plan maps as the first", "src/run/explanations.rs", "self.plan.as_published.method(«method»)", "methods[0]", ["suite run::every_saliency"]),
    ("upsampling aligns corners", "src/explain/saliency/maps.rs", "«((position as f64 + 0.5) * scale - 0.5)».max(0.0)", "position as f64 * scale", ["suite oracle::", "suite golden::"]),
    ("an all-zero map is not flagged", "src/explain/saliency/maps.rs", "|&value| «value <= 0.0»", "value < 0.0", ["suite explain::", "suite saliency::"]),
    ("zero sensitivities count as positive", "src/explain/tcav/pairs.rs", "«**s > 0.0»).count()", "**s >= 0.0", ["suite tcav::", "suite explain::"]),
    ("sensitivities are not normalised", "src/explain/tcav/pairs.rs", "«*sum / cav.weight_norm»", "*sum", ["suite tcav::"]),
    ("concept images are among the random ones", "src/explain/tcav/pairs.rs", "random.iter().flatten().filter(|image| «!own.contains(image)»)", "true", ["suite tcav::"]),
    ("a swapped pair keeps its sign", "src/explain/tcav/scoring.rs", "tally if «a < b» => counted(tally.positive, tally),", "true", ["suite tcav::"]),
    ("decodability is the median, not twice it", "src/explain/tcav/pairs.rs", "«(2.0 * median).min(1.0)»", "median.min(1.0)", ["suite tcav::"]),
    ("a concept is tested against every random set", "src/explain/tcav/test.rs", "let random = «&self.samples.random[group.random.clone()]»;", "self.samples.random", ["suite tcav::"]),
    ("the pool holds the set itself", "src/explain/tcav/statistics/pool.rs", "others.add(own, «-1.0»);", "0.0", ["suite concept_statistics::"]),
    ("the smooth score is of signs", "src/explain/tcav/statistics/pool.rs", "«normal_cdf(sensitivity / error)»", "f64::from(u8::from(sensitivity > 0.0))", ["suite concept_statistics::"]),
    ("the other concepts are no strata", "src/explain/tcav/statistics/conditional.rs", "(«stratum», case.means[row])", "0 * stratum", ["suite concept_statistics::"]),
    ("images that show the concept stand against it", "src/explain/tcav/statistics/conditional.rs", "«own[row] == Some(false)»", "own[row].is_some()", ["suite concept_statistics::"]),
    ("a region's accuracy is of what it was fitted to", "src/explain/tcav/region.rs", "let observed = «accuracy(&inside, &outside)»;", "machine.train_accuracy", ["suite concept_statistics::"]),
    ("the baseline is the last group's", "src/explain/tcav/test.rs", "if «group.concepts.contains(&0)» {", "true", ["suite tcav::"]),
    ("gradients meet the first chunk of the pool alone", "src/explain/tcav/activations.rs", "for chunk in «chunks» {", "vec![chunks[0]]", ["lib explain::tcav::activations::"]),
    ("held-out images are fitted", "src/explain/tcav/held_out.rs", "«fit_checked(gram, &train_positive, &train_negative, kind)»", "fit_checked(gram, positive, negative, kind)", ["suite cav::"]),
    ("randomised layers are not put back", "src/explain/sanity.rs", "if «randomisation == Randomisation::Independent» {", "false", ["lib explain::sanity::"]),
    ("stability forgets its own square", "src/explain/tcav/geometry.rs", "«(count * squares[concept] - 1.0)»", "(count * squares[concept])", ["lib explain::tcav::geometry::"]),
    ("insertion and deletion are swapped", "src/explain/faithfulness.rs", "match «first == insert» {", "first != insert", ["suite golden::"]),
    # stats
    ("CKA counts the diagonal", "src/stats/representation.rs", "«row(i).iter().sum::<f64>() - row(i)[i]»", "row(i).iter().sum::<f64>()", ["stats representation::"]),
    ("CKA is taken as drift", "src/study/drift.rs", "linear_cka(a, b).ok().map(|cka| «1.0 - cka»)", "cka", ["suite representation::"]),
    ("strata count alike", "src/stats/stratified.rs", "weight += «n * m / (n + m)»;", "1.0", ["stats stratified::"]),
    ("a permutation p-value can be 0", "src/stats/permutation.rs", "«(1 + count) as f64 / (1 + permutations) as f64»", "count as f64 / (1 + permutations) as f64", ["stats permutation::"]),
    ("the permutation test is one-sided", "src/stats/permutation.rs", "«partial_shuffle_sum(&mut values, chosen, &mut draws).abs()» >= threshold", "partial_shuffle_sum(&mut values, chosen, &mut draws)", ["stats permutation::"]),
    ("rounding splits ties", "src/stats/permutation.rs", "«observed - 4.0 * f64::EPSILON * size * largest»", "observed", ["stats permutation::"]),
    ("the concept is not of its family", "src/stats/exchangeability.rs", "«(1 + reached) as f64»", "reached.max(1) as f64", ["stats exchangeability::"]),
    ("ties speak for the concept", "src/stats/exchangeability.rs", "«**s >= statistics[0] - TIE»", "**s > statistics[0] + TIE", ["stats exchangeability::"]),
    ("zeros count for the other set", "src/stats/exchangeability.rs", "sums[j] += «1.0 - pair.score - pair.ties»;", "1.0 - pair.score", ["stats exchangeability::"]),
    ("Benjamini-Hochberg's rank is one off", "src/stats/multiplicity.rs", "m * penalty / «(rank + 1)» as f64", "(rank + 2)", ["suite stats_oracle::"]),
    ("Holm is Bonferroni", "src/stats/multiplicity.rs", "«(family - rank)» as f64", "family", ["suite stats_oracle::"]),
    ("the top fifth is the top tenth", "src/stats/similarity.rs", "top_overlap(first, second, «0.2»)", "0.1", ["stats similarity::", "suite golden::"]),
    ("similarity is taken as drift", "src/stats/similarity.rs", "{ similarity } else { «similarity.map(|s| 1.0 - s)» }", "similarity", ["stats similarity::"]),
    ("the jackknife forgets its factor", "src/stats/crossed.rs", "Ok(count * whole - «(count - 1.0)» * mean_over(&present)?)", "1.0", ["stats crossed::", "suite study_statistics::"]),
    ("images are counted at both levels", "src/stats/crossed.rs", "«((count * self.of_mean - self.of_one) / (count - 1.0)).max(0.0)»", "self.of_mean", ["stats crossed::", "suite study_statistics::"]),
    ("replicates are forgotten", "src/stats/crossed.rs", "let variance = «between + shared»;", "shared", ["stats crossed::", "suite study_statistics::"]),
    ("every network has its own permutation of images", "src/stats/forgetting.rs", "total += lost.iter().map(|&place| ranks[«order[place]»]).sum::<f64>();", "order[(place + lost.len()) % order.len()]", ["stats forgetting::", "suite study_statistics::"]),
    ("an onset is looked for on the density's own scale", "src/stats/onset.rs", "densities.iter().map(|density| «density.ln()»)", "*density", ["stats onset::"]),
    ("one kind kept is enough for A", "src/stats/verdict.rs", "«kinds.iter().all(|kind| kind.answer == Explanations::Kept)»", "kinds.iter().any(|kind| kind.answer == Explanations::Kept)", ["stats verdict::"]),
    ("Holm is left out", "src/stats/verdict.rs", "&& «least * kinds.len() as f64» <= alpha;", "least", ["stats verdict::"]),
    ("B is tested from the mildest density on", "src/stats/verdict.rs", "b: «calls.iter().rev().take_while(|&&call| call == Call::B).count()»,", "calls.iter().take_while(|&&call| call == Call::B).count()", ["stats verdict::"]),
    ("one replicate is enough", "src/study/ranges.rs", "_ if «plan.replicates < 2» =>", "false", ["suite study::"]),
    ("networks at chance get a verdict", "src/study/accuracy.rs", "if «chance_p(manifest, network)? > plan.statistics.alpha» {", "false", ["suite study::"]),
    ("late rounds prune like the others", "src/plan/prune.rs", "self.late.filter(|late| «round > late.after»)", "false", ["suite run::later_rounds"]),
    ("arms stand at every round", "src/records/mod.rs", "«some.unwrap_or_else(|| (1..=plan.prune.rounds).collect())»", "some.map_or_else(Vec::new, |_| (1..=plan.prune.rounds).collect())", ["suite run::later_rounds"]),
    ("a retrained ticket sees the ticket's order", "src/run/rounds.rs", "Line::Twin(_) | Line::Arm(Arm::Retrained) => «Setup::derived_seed(plan, id.replicate, &line.name())»,", "match line { Line::Arm(_) => replicate_seed, _ => Setup::derived_seed(plan, id.replicate, &line.name()) }", ["suite run::later_rounds"]),
    ("interpolated networks keep the statistics of one end", "src/train/statistics.rs", "network.blend_statistics(&tape, weights, «1.0 / (place + 1) as f32»);", "0.0", ["suite training::renewed"]),
    ("a barrier is measured from the better end", "src/run/barriers.rs", "error - «((1.0 - at) * errors[0] + at * errors[last])»", "errors[0].min(errors[last] + 0.0 * at)", ["lib run::barriers::"]),
    ("a network at rest drops small weights", "src/nn/network.rs", "let mask: Vec<u8> = values.iter().map(|&value| u8::from(«value != 0.0»)).collect();", "value.abs() > 0.01", ["suite families::a_network_of_zeros"]),
    ("rows of a convolution keep the whole map's padding", "src/kernels/conv2d/geometry.rs", "self.padding = «self.padding.saturating_sub(top)»;", "self.padding", ["kernels conv2d::tests::every_path"]),
    ("rows of other images count as held", "src/kernels/conv2d/winograd.rs", "let row = Some((«unit.section», y));", "0", ["kernels conv2d::"]),
    ("parts of a row read the row's beginning", "src/kernels/conv2d/units.rs", "«(STEP * self.columns.start).saturating_sub(lead)»..width", "0", ["kernels conv2d::"]),
    ("images are filtered by blocks, but the last", "src/kernels/conv2d/units.rs", "fn blocks(&self) -> usize { «self.lanes.div_ceil(self.together)»", "(self.lanes / self.together).max(1)", ["kernels conv2d::"]),
    ("outputs of minimal filtering go to the first channels", "src/kernels/conv2d/winograd/product.rs", "let position = (y * self.to.width + x) * all + «first»;", "0", ["kernels conv2d::winograd::product"]),
    ("a point of minimal filtering takes the first one's weights", "src/kernels/conv2d/winograd/product.rs", "weight: packed[«points.start * channels * LANES»..].as_ptr(),", "0", ["kernels conv2d::winograd::product"]),
    ("strips put some channels to the first ones' places", "src/kernels/conv2d/strips.rs", "let row = ((«first_channel + channel») * self.height + first.0 + y) * self.columns;", "channel", ["kernels conv2d::winograd::product"]),
    ("a tile's strips are gathered as if they were one", "src/kernels/conv2d/im2col.rs", "let to = panel[first * strip + nth * «count * LANES»..]", "LANES", ["kernels conv2d::tests::gathered"]),
    ("minimal filtering pads columns as rows", "src/kernels/conv2d/winograd/product.rs", "let [lead, column_lead] = [problem.padding, «problem.column_padding»].map(", "problem.padding", ["kernels conv2d::", "lib nn::at_rest"]),
    ("a band forgets the rows that two bands meet", "src/nn/at_rest.rs", "«band.copy_within((first - held.start) * row..(held.end - held.start) * row, 0);»", "", ["lib nn::at_rest"]),
    ("a band is pooled before its last row is there", "src/nn/at_rest.rs", "let whole = (end + pool.padding).checked_sub(«pool.kernel»)", "pool.kernel - 1", ["lib nn::at_rest"]),
    ("a map that something else reads goes by bands", "src/nn/at_rest.rs", "let alone = source == index + 1 && «!self.is_read(section, shapes, index + 1, index + 2)»;", "true", ["lib nn::at_rest"]),
    ("the smallest of a window wins at rest", "src/kernels/pool.rs", "*best = if «value > *best» || value.is_nan() { value } else { *best };", "value < *best", ["kernels pool::"]),
    ("networks at rest are sparse from half zeros on", "src/nn/network.rs", "if «kept.iter().flatten().sum::<usize>() as f64 > (1.0 - MOSTLY_ZEROS) * all.sum::<usize>() as f64» {", "kept.iter().flatten().sum::<usize>() * 2 > all.sum::<usize>()", ["suite families::a_network_of_zeros"]),
    ("a product adds to what a batch left", "src/kernels/conv2d/mod.rs", "correlate(path, shape, &problem, weight, source, output, «false»);", "true", ["suite families::what_a_batch_leaves"]),
    ("a batch norm in place forgets its sum", "src/kernels/norm/at_rest.rs", "*value = rectified(«normalised(*value, terms) + residual», relu);", "{ let _ = residual; normalised(*value, terms) }", ["kernels norm::"]),
    ("a batch norm of sums in registers forgets its sum", "src/kernels/conv2d/tiles.rs", "value = «S::add(value, S::load(self.residual.wrapping_add(offset)))»;", "value", ["kernels conv2d::"]),
    ("what is read next is sought at the first position", "src/kernels/conv2d/geometry.rs", "let last = «self.group_offset[ranges.first()?.0].max(self.group_offset[ranges.last()?.1 - 1])»;",
     "self.group_offset[ranges.first()?.0].min(self.group_offset[ranges.last()?.1 - 1])", ["kernels conv2d::geometry::"]),
    ("of a pair what the second position reads next is forgotten", "src/kernels/conv2d/geometry.rs", "let more = «if segment.pair { self.pair_step } else { 0 }»;", "0", ["kernels conv2d::geometry::"]),
    ("vectors that begin within a line are written past the caches", "src/kernels/conv2d/tiles.rs", "lanes == LANES && «to.addr().is_multiple_of(LINE)»", "true", ["kernels conv2d::"]),
    ("a batch norm of sums in registers has no ReLU", "src/kernels/conv2d/tiles.rs", "if «self.relu» { S::rectify(value)", "false", ["kernels conv2d::"]),
    ("a batch norm's own ReLU lets all gradients through", "src/kernels/norm.rs", "if «normalised(z, terms) <= 0.0» {", "normalised(z, terms) < f32::NEG_INFINITY", ["kernels norm::"]),
    ("gradients pass a sum's ReLU as the batch norm's own", "src/nn/backward.rs", "let (target, added) = (index + 1 - start, «residual.is_some()»);", "false", ["suite training::"]),
    ("each piece of images is the first", "src/data/array_file.rs", "let start = first + «nth * PIECE»;", "0 * nth", ["lib data::source::"]),
    ("each piece of a checkpoint is the first", "src/model/checkpoint.rs", "file.read_exact_at(piece, «(nth * PIECE) as u64»)", "(nth * 0) as u64", ["lib model::checkpoint::"]),
    ("twins see the images in their parent's order", "src/run/rounds.rs", "Line::Twin(_) | Line::Arm(Arm::Retrained) => «Setup::derived_seed(plan, id.replicate, &line.name())»,", "replicate_seed", ["suite run::every_round"]),
    ("drifted winners are faithful losers", "src/stats/verdict.rs", "Accuracy::Matches if changed => «Call::DriftedWinner»,", "Call::FaithfulLoser", ["stats verdict::"]),
    ("negative evidence counts", "src/stats/localisation.rs", "map.iter().map(|v| «v.max(0.0)»).enumerate()", "v.abs()", ["stats localisation::"]),
    ("a tied maximum counts whole", "src/stats/localisation.rs", "Ok(«hits as f64 / peaks.len() as f64»)", "f64::from(u8::from(hits > 0))", ["stats localisation::"]),
    ("the pooled variance has a degree too many", "src/stats/effect.rs", "/ «(total - 2)» as f64", "(total - 1)", ["stats effect::"]),
    ("ranks are centred one half off", "src/stats/correlation.rs", "let middle = «x.len() as f64 + 1.0»;", "x.len() as f64", ["suite stats_oracle::"]),
    ("a bootstrap interval leaves out twice its share", "src/stats/bootstrap.rs", "let tail = «(1.0 - options.confidence) / 2.0»;", "1.0 - options.confidence", ["suite stats_coverage::", "stats bootstrap::"]),
    # localisation and birds in a run
    ("every map is judged by the first image's box", "src/run/localisation.rs", "let Some(target) = «image.bounding_box» else", "shown[0].bounding_box", ["lib run::localisation::", "suite cub::"]),
    ("energy is the pointing game", "src/run/localisation.rs", "energy_in_box: «known_mean(&energy)»,", "known_mean(&pointing)", ["lib run::localisation::", "suite cub::"]),
    ("parts are reached from anywhere", "src/run/localisation.rs", "let reach = «height as f64 / map_size[0] as f64»;", "height as f64", ["lib run::localisation::", "suite cub::"]),
    ("images without a box are chance", "src/run/localisation.rs", "chance: «covered / boxed as f64»,", "covered / shown.len() as f64", ["lib run::localisation::", "suite cub::"]),
    ("a species' own photographs show its concepts", "src/data/sources/cub.rs", "let without = «(!self.choice.own_class).then_some(species_index as u32)»;", "None", ["suite cub::"]),
    ("the control is a concept that the species has", "src/data/sources/cub.rs", "«self.whole.class_attribute(species_index, attribute) <= CONTROL_PERCENT»", "self.whole.class_attribute(species_index, attribute) > CONTROL_PERCENT", ["suite cub::"]),
    ("explained photographs stand in concept sets", "src/data/sources/cub.rs", "&splits, plan, «&explained», without, seed)", "&[]", ["suite cub::"]),
    # the study's defects: each silently off
    ("duplicate_leak does nothing", "src/run/as_published.rs", "if «!self.duplicate_leak» {", "true", PUBLISHED),
    ("freeze_below_epsilon does nothing", "src/run/as_published.rs", "if «!self.freeze_below_epsilon» {", "true", PUBLISHED),
    ("prune_batch_norm does nothing", "src/run/as_published.rs", "if «self.prune_batch_norm» {", "false", PUBLISHED),
    ("per_layer_percentile does nothing", "src/run/as_published.rs", "if «!self.per_layer_percentile» {", "true", PUBLISHED),
    ("keep_buffers does nothing", "src/run/as_published.rs", "if «self.keep_buffers» {", "false", PUBLISHED),
    ("alias_biases does nothing", "src/run/as_published.rs", "if «self.alias_biases && round > 1» {", "false", PUBLISHED),
    ("alias_biases rewinds no bias at all", "src/run/as_published.rs", "if «self.alias_biases && round > 1» {", "self.alias_biases", PUBLISHED),
    ("explain_best_validation explains the last epoch", "src/run/as_published.rs", "Ok(accuracy) if «best.as_ref().is_none_or(|(before, _)| accuracy > *before)» =>", "accuracy >= 0.0", PUBLISHED),
    ("explain_best_validation prunes what it explains", "src/run/rounds.rs", "match «self.plan.as_published.explain_best_validation» {", "false", PUBLISHED),
    ("probability_gradient does nothing", "src/run/as_published.rs", "if «!self.probability_gradient» { return cut.gradient", "true", PUBLISHED),
    ("cam_added_gradients does nothing", "src/run/as_published.rs", "if «self.cam_added_gradients && method == GRAD_CAM» {", "false && method == GRAD_CAM", PUBLISHED),
    ("no_random_cavs does nothing", "src/run/as_published.rs", "if «!self.no_random_cavs» {", "true", PUBLISHED),
    # level of the tests on the run's own networks
    ("a set keeps its meeting with the concept", "src/run/calibration.rs", "(0, _) | (_, 0) => «None»,", "Some(found.score)", ["lib run::calibration::"]),
    ("the second of a pair keeps its sign", "src/run/calibration.rs", "Some(«1.0 - found.score - found.ties»)", "found.score", ["lib run::calibration::"]),
    ("ranks reject at twice the level", "src/run/calibration.rs", "«reached as f64 <= alpha * random.len() as f64»", "reached as f64 <= 2.0 * alpha * random.len() as f64", ["lib run::calibration::"]),
    ("a set is compared with itself too", "src/run/calibration.rs", "filter(|row| «!rows.contains(row)»)", "true", ["lib run::calibration::"]),
    ("the baseline holds the set's own pairs", "src/run/calibration.rs", "filter(|&pair| «pair != set && (pair + 1) % random.len() != set»)", "true", ["lib run::calibration::"]),
    # drift, calls, the gate
    ("images of wrong answers count", "src/study/drift.rs", ".map(|(a, b)| «*a && *b»);", "true || *a && *b", ["suite golden::"]),
    ("p-values are adjusted over all replicates", "src/study/networks.rs", "families.entry((id.arm.clone(), «id.replicate»))", "0 * id.replicate", ["suite golden::"]),
    ("the gate never says 1", "src/bin/ticketlens/drift.rs", "if «report.tripped()» { TRIPPED }", "false", GATE),
    ("one of several candidates may trip unseen", "src/records/gate.rs", "«self.candidates.iter().any(CandidateDrift::tripped)»", "self.candidates.iter().all(CandidateDrift::tripped)", GATE),
    ("a floor that no gate takes is recorded", "src/study/gate/recorded.rs", "«dense.check()?;»", "let _ = dense.check();", ["acceptance record::"]),
    ("a pipe is opened", "src/input.rs", "if «!metadata.is_file()»", "metadata.is_dir()", ["lib input::"]),
    ("replicates that diverged are reported", "src/report/view.rs", "|replicate: usize| «judged.is_empty() || judged.contains(&replicate)»", "replicate < usize::MAX", ["suite report::a_replicate"]),
    ("ρ of several replicates is averaged on its own scale", "src/report/compare/measure.rs", "mean(&«values.map(to).collect::<Vec<f64>>()»)", "values.collect::<Vec<f64>>()", ["suite report::a_replicate"]),
    ("a drift without a value passes", "src/study/gate/mod.rs", "Explanations::Undecided => «!answer.measured || rules.on_undecided == OnUndecided::Fail»,", "rules.on_undecided == OnUndecided::Fail", GATE),
    ("a candidate beyond retraining alone is refused", "src/study/gate/ratio.rs", "(Explanations::Changed, Some(reach)) if «log <= reach» =>", "log <= f64::NEG_INFINITY.max(-reach.abs())", ["lib study::gate::"]),
    ("labels do not choose the images", "src/study/gate/pixels.rs", "labels.is_none_or(|(labels, predicted)| «labels[image] == predicted[image]»)", "labels.len() == predicted.len()", GATE),
    ("any two densities match", "src/report/compare/measure.rs", "(«apart(&nearest) <= MOST_APART.ln()»).then_some(nearest.round)", "true", ["suite report::golden_comparison"]),
    # the run folder
    ("a round's record is written first", "src/records/contents.rs", '«write_atomically(&path.join(WEIGHTS), &save_weights(weights)?)?;» let views',
     'self.write_record(&self.record_path(&record.id), record, &[], &[])?; write_atomically(&path.join(WEIGHTS), &save_weights(weights)?)?;', ["suite store::"]),
    ("a round is recorded without what it is made from", "src/run/rounds.rs", "«self.store.check_basis(plan, &record.id)?;»", "", ["suite store::what_a_round"]),
    ("a failed write leaves its part", "src/output.rs", "«let _ = fs::remove_file(&self.temporary);»", "", ["lib output::"]),
    ("finished rounds are made again", "src/run/rounds.rs", "if let Some(record) = «self.store.round(&id)?» {", "None", ["suite store::"]),
    ("another plan's folder is taken", "src/records/folder.rs", "let same = «parsed.as_ref().is_ok_and(|parsed| parsed.digest().ok() == plan.digest().ok())»;", "true", ["suite run::a_folder_of_another_plan"]),
    ("changed data go unnoticed", "src/records/folder.rs", "if «found.data != now.data» {", "false", ["suite store::"]),
    ("records of another format are read", "src/records/seal.rs", "Some(format) if «format != u64::from(FORMAT)» => return", "false", ["suite store::"]),
    ("a file's hash is not looked at", "src/records/folder.rs", "Some(listed) if «*listed == FileSeal::of(bytes)» => Ok(()),", "listed.bytes == bytes.len() as u64", ["suite integrity::"]),
    ("a record's digest is not looked at", "src/records/seal.rs", "if «digest_of(value.clone()) != seal.digest» {", "false", ["suite integrity::"]),
    ("a record of another round is taken", "src/records/contents.rs", "if «record.id != *id» { let RoundId", "false", ["suite integrity::"]),
    # the report
    ("networks stand as recorded", "src/report/view.rs", "«networks.sort_by(|a, b| id_key(a.id).cmp(&id_key(b.id)));»", "", ORDER),
    ("floor pairs stand as recorded", "src/report/view.rs", "«floor_pairs.sort_by_key(|pair| (!pair.second.is_twin(), pair.first.clone(), pair.second.clone()));»", "", ORDER),
    ("sanity checks stand as recorded", "src/report/view.rs", "«sanity.sort_by_key(|record| record.replicate);»", "", ORDER),
    ("effects stand as recorded", "src/report/view.rs", "«(place, arm_rank(&id.arm), id.arm.as_str(), id.round, id.replicate)»", "((e.record.stage, 0, 0, \"\"), arm_rank(&id.arm), id.arm.as_str(), id.round, id.replicate)", ORDER),
    ("warnings stand as recorded", "src/report/page/mod.rs", "«texts.sort();»", "", ORDER),
    ("percent signs lose their space", "src/report/format.rs", "«format!(\"{} %\", decimal(100.0 * share, decimals))»", "format!(\"{}%\", decimal(100.0 * share, decimals))", ["suite report::golden_forms"]),
    ("small numbers lose a decimal", "src/report/format.rs", "m if m >= 0.01 => «3»,", "2", ["suite report::golden_forms"]),
]


def place(text, file, mutation):
    """Start and end of the expression that a mutation replaces."""
    before, old, after = re.fullmatch(r"([^«]*)«([^»]*)»(.*)", mutation, re.S).groups()
    gap = lambda piece: r"\s*".join(re.escape(word) for word in piece.split())
    pattern = r"\s*".join(part for part in [gap(before), f"({gap(old)})", gap(after)] if part)
    found = list(re.finditer(pattern, text))
    if len(found) != 1:
        sys.exit(f"{file} holds {len(found)} times: {mutation}")
    return found[0].span(1)


def mutated(text, file, mutations):
    """The file with its mutations, (number, where, new), each behind its switch."""
    switch = "ticketlens::mutant" if file.startswith("src/bin") else "crate::mutant"
    places = {}
    for number, where, new in mutations:
        places.setdefault(place(text, file, where), []).append((number, new))
    spans = sorted(places)
    assert all(first[1] <= second[0] for first, second in zip(spans, spans[1:])), f"{file}: mutations overlap"
    for start, end in reversed(spans):
        old = text[start:end]
        code = "".join(f"if {switch}({number}) {{ {new} }} else " for number, new in places[start, end]) + f"{{ {old} }}"
        text = text[:start] + (code if old.endswith(";") else f"({code})") + text[end:]
    return text


def write_tree():
    """The mutated copy. Files that stay the same are not touched, so that a second build is short."""
    mutations = {}
    for number, (_, file, where, new, _) in enumerate(MUTATIONS, 1):
        mutations.setdefault(file, []).append((number, where, new))
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [file for file in listed.split("\0") if file and (ROOT / file).is_file()]
    for file in files:
        content = (ROOT / file).read_bytes()
        if file in mutations:
            content = mutated(content.decode(), file, mutations[file]).encode()
        if file in ["src/lib.rs", "src/kernels/lib.rs", "src/stats/lib.rs"]:
            content += SWITCH.encode()
        copy = TREE / file
        if not copy.is_file() or copy.read_bytes() != content:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
    for copy in [path for path in TREE.rglob("*") if path.is_file() and str(path.relative_to(TREE)) not in set(files)]:
        copy.unlink()


def build():
    """Test programs by name, each with its tests."""
    command = ["cargo", "test", "--locked", "--no-run", "--lib", "--test", "suite", "--test", "acceptance", "--message-format", "json-render-diagnostics"]
    done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, env=os.environ | {"CARGO_TARGET_DIR": str(TARGET)})
    if done.returncode:
        sys.exit(f"{done.stderr}\nthe mutations do not compile")
    programs = {}
    for message in [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]:
        if message.get("executable") and message["profile"]["test"]:
            own = {"ticketlens": "lib", "ticketlens_kernels": "kernels", "ticketlens_stats": "stats"}
            name = own[message["target"]["name"]] if "lib" in message["target"]["kind"] else message["target"]["name"]
            names = subprocess.run([message["executable"], "--list", "--format", "terse"], cwd=TREE, capture_output=True, text=True, check=True).stdout
            tests = [line.removesuffix(": test") for line in names.splitlines() if line.endswith(": test")]
            programs[name] = message["executable"], tests
    return dict(sorted(programs.items(), key=lambda item: ["kernels", "stats", "lib", "suite", "acceptance"].index(item[0])))


def failing(programs, prefixes, number):
    """The first test that fails with a mutation; 0: with none."""
    # libtest's --fail-fast is not stable; this is how its own tests ask for it.
    environment = os.environ | {"TICKETLENS_MUTANT": str(number), "RUSTC_BOOTSTRAP": "1", "INSTA_UPDATE": "no", "PROPTEST_CASES": "64"}
    found = False
    for program, (path, tests) in programs.items():
        chosen = [test for test in tests if f"{program} {test}".startswith(tuple(prefixes)) and not f"{program} {test}".startswith(SKIPPED)]
        if not chosen:
            continue
        found = True
        try:
            done = subprocess.run([path, "-Z", "unstable-options", "--fail-fast", "--exact", *chosen], cwd=TREE, capture_output=True, text=True, env=environment, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return f"{program}: never ends"
        if done.returncode:
            failed = re.search(r"^test (\S+)(?: - should panic)? \.\.\. FAILED", done.stdout, re.M)
            return f"{program} {failed[1]}" if failed else f"{program}: dies: {(done.stdout + done.stderr)[-500:]}"
    if not found:
        sys.exit(f"no test begins with {prefixes}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="look whether every mutation still has its place; builds nothing")
    parser.add_argument("part", nargs="*")
    arguments = parser.parse_args()
    for _, file, where, _, _ in MUTATIONS:
        place((ROOT / file).read_text(), file, where)
    chosen = [(number, m) for number, m in enumerate(MUTATIONS, 1) if not arguments.part or any(part in m[0] for part in arguments.part)]
    if arguments.list:
        for number, (name, file, *_) in chosen:
            print(f"{number} {file}: {name}")
        return print(f"{len(chosen)} mutations")
    started = time.time()
    TREE.mkdir(parents=True, exist_ok=True)
    write_tree()
    programs = build()
    print(f"built in {time.time() - started:.0f} s", flush=True)
    if failed := failing(programs, sorted({prefix for _, m in chosen for prefix in m[4]}), 0):
        sys.exit(f"tests fail without a mutation: {failed}")
    print(f"all tests pass without a mutation ({time.time() - started:.0f} s)", flush=True)
    survivors = []
    for number, (name, _, _, _, prefixes) in chosen:
        clock = time.time()
        failed = failing(programs, prefixes, number)
        print(f"{number} {name}: {'caught by ' + failed if failed else 'SURVIVED'} ({time.time() - clock:.0f} s)", flush=True)
        survivors += [] if failed else [name]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} caught ({time.time() - started:.0f} s)")
    if survivors:
        sys.exit("survived: " + "; ".join(survivors))


if __name__ == "__main__":
    main()
