#!/usr/bin/env python3
"""Breaks the code on purpose and looks for a test that notices: ci/mutations.py [--list] [NAME PART]...

Each mutation is one replacement in one file with the tests that should fail. It is applied in a copy of the tree
(target/mutations/tree), with dependencies built once. Mutations that only the unit tests of their own file judge ("leaf")
share a build with one other; a test is counted for a mutation only if no other mutation of that build touches what it
tests. Survivors make the script fail. Results: docs/verification.md.
"""
import argparse, os, re, shutil, subprocess, sys, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()

# name, file, old, new, prefixes of the tests that should fail
STEPS = ["training_steps::"]
MUTATIONS = [
    # prune
    ("one weight too many is pruned", "src/prune/cut.rs", "let count = prune_count(fraction, live.len());",
     "let count = (prune_count(fraction, live.len()) + 1).min(live.len());", ["prune::cut::"]),
    ("signed values are ranked, not magnitudes", "src/prune/cut.rs", "value.abs().to_bits()", "value.to_bits()", ["prune::cut::"]),
    ("counts are rounded down", "src/prune/cut.rs", ".round_ties_even()", ".floor()", ["prune::cut::"]),
    ("a global cut goes layer by layer", "src/prune/cut.rs", "Scope::Global => cut_group(values, masks, fraction),\n        Scope::Layerwise => {",
     "Scope::Global | Scope::Layerwise => {", ["prune::cut::"]),
    ("pruned weights count as live", "src/prune/cut.rs", "            if bit != 0 {", "            if bit != 2 {", ["prune::cut::"]),
    ("the largest go", "src/prune/cut.rs", "live.select_nth_unstable(count - 1);", "live.select_nth_unstable_by(count - 1, |a, b| b.cmp(a));", ["prune::cut::"]),
    ("masking halves instead of zeroing", "src/prune/mask.rs", "                *value = 0.0;", "                *value *= 0.5;", ["training::", "training_steps::", "run::"]),
    ("the random mask is the ticket's", "src/prune/mask.rs", "bits[spec.range.clone()].shuffle(", "bits[spec.range.start..spec.range.start + 1].shuffle(", ["properties::", "run::"]),
    ("batch-norm scales are pruned", "src/nn/layout.rs", "matches!(self, Self::ConvolutionWeight | Self::LinearWeight)",
     "matches!(self, Self::ConvolutionWeight | Self::LinearWeight | Self::NormScale)", ["properties::", "run::", "oracle::"]),
    ("exclude is ignored", "src/prune/mask.rs", "self.prunable.takes(spec.kind) && !exclude.iter().any(|name| *name == spec.name || name == layer)",
     "self.prunable.takes(spec.kind) && !exclude.iter().any(|name| *name == spec.name && name == layer)", ["properties::", "run::"]),
    # train: rewind, mask, steps
    ("buffers are not rewound", "src/experiment/rounds.rs", "_ => self.store.rewind_state(id.replicate, &setup.model)?,",
     """_ => {
                let mut w = self.store.rewind_state(id.replicate, &setup.model)?;
                let before = RoundId { arm: Arm::Lottery.name().into(), replicate: id.replicate, round: id.round - 1 };
                w.buffers = self.store.weights(&before, &setup.model)?.buffers;
                w
            }""", ["run::"]),
    ("theta_k is one step late", "src/experiment/rounds.rs", "if id.round == 0 && step == rewind {", "if id.round == 0 && step == rewind + 1 {", ["run::"]),
    ("reinit starts from the ticket's initial weights", "src/experiment/rounds.rs", 'network.initialise(Setup::derived_seed(plan, id.replicate, "reinit"))',
     "network.initialise(replicate_seed)", ["run::"]),
    ("masks come from the round's own mask, not nested", "src/experiment/rounds.rs", "let mask = self.store.mask(&before, layout)?;",
     "let mask = Mask::dense(layout.clone());", ["run::"]),
    ("the mask is lost in the optimiser", "src/train/mod.rs", "optimizer.step(&mut weights.parameters, &gradient, bits, rate as f32);",
     "let _ = bits; optimizer.step(&mut weights.parameters, &gradient, None, rate as f32);", ["training::", "training_steps::"]),
    ("weights below 6e-7 are frozen", "src/train/mod.rs", "            let rate = self.config.learning_rate",
     "            for (g, w) in gradient.iter_mut().zip(&weights.parameters) { if *w < 6e-7 { *g = 0.0; } }\n            let rate = self.config.learning_rate", STEPS),
    ("the running variance is biased", "src/nn/tape.rs", "let unbiased = count / (count - 1.0).max(1.0);", "let unbiased = 1.0_f32; let _ = count;", STEPS),
    ("every epoch has the same order", "src/train/mod.rs", "epoch_order(self.seed, epoch, self.images.len())", "epoch_order(self.seed, 0, self.images.len())", STEPS),
    ("the order after a rewind starts again", "src/train/mod.rs", "epoch_order(self.seed, epoch, self.images.len());",
     "epoch_order(self.seed, epoch - from / steps_per_epoch, self.images.len());", STEPS),
    ("the schedule after a rewind starts again", "src/train/mod.rs", "schedule.factor(step)", "schedule.factor(step - from)", STEPS),
    ("the schedule is ignored", "src/train/mod.rs", "self.config.learning_rate * schedule.factor(step)", "self.config.learning_rate + 0.0 * schedule.factor(step)", STEPS),
    ("momentum is forgotten", "src/kernels/optim.rs", "momentum * *buffer + gradient", "0.0 * momentum * *buffer + gradient", ["training_steps::", "kernels::optim::"]),
    ("weight decay is forgotten", "src/kernels/optim.rs", "let gradient = grad + weight_decay * *weight;", "let gradient = grad + 0.0 * weight_decay * *weight;", ["training_steps::", "kernels::optim::"]),
    ("the loss's gradient is a sum, not a mean", "src/train/mod.rs", "(share / batch as f64) as f32", "share as f32", STEPS),
    # explain
    ("Grad-CAM adds pooled gradients", "src/explain/grad_cam.rs", "activation.broadcast_mul(&weights)", "activation.broadcast_add(&weights)", ["explain::", "oracle::"]),
    ("Grad-CAM has no ReLU", "src/explain/grad_cam.rs", ".sum(1)?.relu()?", ".sum(1)?", ["explain::", "oracle::", "golden::"]),
    ("gradients are summed, not averaged", "src/explain/grad_cam.rs", "gradient.mean_keepdim((2, 3))", "gradient.sum_keepdim((2, 3))", ["explain::", "oracle::"]),
    ("upsampling aligns corners", "src/explain/grad_cam.rs", "(position as f64 + 0.5) * scale - 0.5", "position as f64 * scale", ["oracle::", "golden::"]),
    ("an all-zero map is not flagged", "src/explain/grad_cam.rs", "top <= 0.0", "top < 0.0", ["explain::"]),
    ("zero sensitivities count as positive", "src/explain/tcav.rs", "**s > 0.0).count()", "**s >= 0.0).count()", ["tcav::", "explain::"]),
    ("sensitivities are not normalised", "src/explain/tcav.rs", "*sum / cav.weight_norm", "*sum", ["tcav::"]),
    ("concept images are among the random ones", "src/explain/tcav.rs", ".filter(|image| !concept.contains(image))", ".filter(|_| !concept.is_empty())", ["tcav::"]),
    ("a swapped pair keeps its sign", "src/explain/tcav.rs", "if a < b { score(sensitivities) }", "if a < b || b < a { score(sensitivities) }", ["tcav::"]),
    ("decodability is the median, not twice it", "src/explain/tcav.rs", "(2.0 * median).min(1.0)", "median.min(1.0)", ["tcav::"]),
    ("held-out images are fitted", "src/explain/held_out.rs", "fit_checked(gram, &train_positive, &train_negative, kind)", "fit_checked(gram, positive, negative, kind)", ["cav::"]),
    ("randomised layers are not put back", "src/explain/sanity.rs", "if randomisation == Randomisation::Independent {", "if false {", ["explain::sanity::"]),
    ("stability forgets its own square", "src/explain/geometry.rs", "(count * squares[concept] - 1.0)", "(count * squares[concept])", ["explain::geometry::"]),
    ("insertion and deletion are swapped", "src/explain/faithfulness.rs", "match first == insert", "match first != insert", ["golden::", "calibration::"]),
    # stats
    ("a permutation p-value can be 0", "src/stats/permutation.rs", "(1 + count) as f64 / (1 + permutations) as f64", "count as f64 / (1 + permutations) as f64", ["stats::permutation::"]),
    ("the permutation test is one-sided", "src/stats/permutation.rs", "&mut draws).abs() >= threshold).count()", "&mut draws) >= threshold).count()", ["stats::permutation::"]),
    ("rounding splits ties", "src/stats/permutation.rs", "observed - 4.0 * f64::EPSILON * size * largest", "observed + 0.0 * size * largest", ["stats::permutation::"]),
    ("the concept is not of its family", "src/stats/exchangeability.rs", "(1 + reached) as f64", "reached.max(1) as f64", ["stats::exchangeability::"]),
    ("ties speak for the concept", "src/stats/exchangeability.rs", "**s >= statistics[0] - TIE", "**s > statistics[0] + TIE", ["stats::exchangeability::"]),
    ("zeros count for the other set", "src/stats/exchangeability.rs", "sums[j] += 1.0 - pair.score - pair.ties;", "sums[j] += 1.0 - pair.score;", ["stats::exchangeability::"]),
    ("Benjamini-Hochberg's rank is one off", "src/stats/multiplicity.rs", "/ (rank + 1) as f64", "/ (rank + 2) as f64", ["stats_oracle::"]),
    ("Holm is Bonferroni", "src/stats/multiplicity.rs", "(family - rank) as f64", "family as f64", ["stats_oracle::"]),
    ("the top fifth is the top tenth", "src/stats/similarity.rs", "top_overlap(first, second, 0.2)", "top_overlap(first, second, 0.1)", ["stats::similarity::", "golden::"]),
    ("similarity is taken as drift", "src/stats/similarity.rs", "similarity.map(|s| 1.0 - s)", "similarity", ["stats::similarity::"]),
    ("the jackknife forgets its factor", "src/stats/floor.rs", "sum_of_squares(&v) * (count.max(1) - 1) as f64", "sum_of_squares(&v) * 1.0", ["stats::floor::", "stats_coverage::"]),
    ("half of the replicates are a majority", "src/stats/verdict.rs", "contra == 0 && 2 * pro > all", "contra == 0 && 2 * pro >= all", ["stats::verdict::"]),
    ("drifted winners are faithful losers", "src/stats/verdict.rs", "(Answer::Yes, Answer::No) => Call::DriftedWinner", "(Answer::Yes, Answer::No) => Call::FaithfulLoser", ["stats::verdict::"]),
    ("negative evidence counts", "src/stats/localisation.rs", ".map(|v| v.max(0.0))", ".map(|v| v.abs())", ["stats::localisation::"]),
    ("the pooled variance has a degree too many", "src/stats/effect.rs", "/ (total - 2) as f64", "/ (total - 1) as f64", ["stats::effect::"]),
    ("ranks are centred one half off", "src/stats/correlation.rs", "let middle = x.len() as f64 + 1.0;", "let middle = x.len() as f64;", ["stats_oracle::"]),
    ("Wilson's interval is too wide", "src/stats/intervals.rs", "square / (4.0 * n * n)", "square / (2.0 * n * n)", ["stats_oracle::", "stats::intervals::"]),
]


def leaf(mutation):
    """Judged by unit tests of its own statistics file alone, which no other file of the list changes."""
    return len(mutation[4]) == 1 and mutation[4][0].startswith(("stats::", "explain::sanity::", "explain::geometry::"))


def batches(mutations):
    """Builds: at most one mutation that is no leaf, and leaves of different files whose tests it does not reach."""
    rest, leaves = [m for m in mutations if not leaf(m)], [m for m in mutations if leaf(m)]
    builds = []
    while rest or leaves:
        build = [rest.pop(0)] if rest else []
        # Statistics do not reach training, pruning or CAVs; whole runs and snapshots they do.
        apart = not build or all(p.startswith(("prune::", "training", "cav::", "tcav::", "kernels::")) for p in build[0][4])
        if apart:
            files = set()
            for mutation in list(leaves):
                alone = build and mutation[1].startswith("src/explain") and build[0][1].startswith("src/explain")
                if mutation[1] not in files and not alone:
                    files.add(mutation[1])
                    build.append(mutation)
                    leaves.remove(mutation)
        builds.append(build)
    return builds


def run(build, tree):
    for _, file, old, new, _ in build:
        text = (tree / file).read_text()
        assert text.count(old) >= 1, f"{file} no longer holds `{old}`"
        (tree / file).write_text(text.replace(old, new, 1))
    filters = sorted({prefix for mutation in build for prefix in mutation[4]})
    command = ["cargo", "test", "--locked", "--no-fail-fast", "--lib", "--test", "suite", "--", "--skip", "every_vector_path", *filters]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True,
                          env=os.environ | {"CARGO_TARGET_DIR": str(TARGET / "mutations"), "INSTA_UPDATE": "no", "PROPTEST_CASES": "64"})
    output = done.stdout + done.stderr
    failed = set(re.findall(r"^test (\S+) \.\.\. FAILED", output, re.M)) | set(re.findall(r"^test (\S+) - .* \.\.\. FAILED", output, re.M))
    if re.search(r"^error(\[|: could not compile)", output, re.M) and not failed:
        print(output[-3000:])
        sys.exit(f"does not compile: {[m[0] for m in build]}")
    results = [(m[0], sorted(test for test in failed if test.startswith(tuple(m[4])))) for m in build]
    for _, file, _, _, _ in build:
        shutil.copy2(ROOT / file, tree / file)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("part", nargs="*")
    arguments = parser.parse_args()
    chosen = [m for m in MUTATIONS if not arguments.part or any(part in m[0] for part in arguments.part)]
    for name, file, old, _, _ in MUTATIONS:
        assert (ROOT / file).read_text().count(old) >= 1, f"{name}: {file} no longer holds `{old}`"
    if arguments.list:
        for name, file, *_ in chosen:
            print(f"{file}: {name}")
        return print(f"{len(chosen)} mutations, {len(batches(chosen))} builds")
    tree = TARGET / "mutations/tree"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns("target", ".git", "out", "runs", "shared"), symlinks=True)
    survivors = []
    for build in batches(chosen):
        started = time.time()
        for name, failed in run(build, tree):
            verdict = f"caught by {failed[0]}" + (f" and {len(failed) - 1} more" if len(failed) > 1 else "") if failed else "SURVIVED"
            print(f"{name}: {verdict}", flush=True)
            survivors += [] if failed else [name]
        print(f"  ({time.time() - started:.0f} s)", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} caught")
    if survivors:
        sys.exit("survived: " + "; ".join(survivors))


if __name__ == "__main__":
    main()
