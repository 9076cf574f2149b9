"""Times training steps, inference and Grad-CAM beside PyTorch, alternately, on two threads; prints a Markdown table.
usage: PYTHON=python-with-torch kernels.py PEERS_BENCH [ROUNDS] [FILTER]   (on an idle machine)
PEERS_BENCH is the program that `cargo bench --bench peers --no-run` names. Figures are medians over all repetitions of all rounds."""
import json, os, pathlib, statistics, subprocess, sys, time

bench, rounds, only = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5, sys.argv[3] if len(sys.argv) > 3 else ""
peer = [os.environ.get("PYTHON", sys.executable), str(pathlib.Path(__file__).parent / "kernels_torch.py")]
W16, W64 = dict(width=16, stem="3x3"), dict(width=64, stem="7x7")
VGG = dict(family="vgg16_bn", width=64, channels=3, side=32, repeats=5)
R50 = dict(depth=50, width=64, stem="7x7", channels=3, side=224, batch=8, repeats=3)
cases = [(f"{name}, density {density:g}", "step", dict(size, density=density, repeats=12))
         for name, size in [("step, width 16, 3×3 stem", W16), ("step, width 64, 7×7 stem", W64)] for density in [1.0, 0.1, 0.03, 0.01]]
cases += [(f"step, batch 32, {name}", "step", dict(size, batch=32, repeats=24)) for name, size in [("width 16", W16), ("width 64", W64)]]
cases += [(f"step, VGG-16-BN, 32 px, density {density:g}", "step", dict(VGG, density=density)) for density in [1.0, 0.1]]
cases += [(f"step, ResNet-50, 224 px, batch 8, density {density:g}", "step", dict(R50, density=density)) for density in [1.0, 0.1]]
cases += [(f"{label} of 1,000 images, {name}", what, dict(size, repeats=4)) for what, label in [("inference", "inference"), ("grad-cam", "Grad-CAM")]
          for name, size in [("width 16", W16), ("width 64", W64)]]


def run(command, what, size):
    time.sleep(0.5)
    flags = [text for key, value in size.items() for text in (f"--{key}", str(value))]
    done = subprocess.run([*command, what, *flags], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


print("| | ours, ms | PyTorch, ms | ratio (least–most of the rounds) | Candle, ms | peak, MB: ours | PyTorch |\n|---|---|---|---|---|---|---|")
for label, what, size in cases:
    if only not in label:
        continue
    pairs = [(run([bench], what, size), run(peer, what, size)) for _ in range(rounds)]
    middle = lambda side: statistics.median(t for pair in pairs for t in pair[side]["seconds"]) * 1e3
    ratios = [statistics.median(a["seconds"]) / statistics.median(b["seconds"]) for a, b in pairs]
    candle = ""
    if what == "step" and size.get("density", 1) == 1 and "family" not in size:
        candle = f"{statistics.median(run([bench], 'candle-step', dict(size, repeats=3))['seconds']) * 1e3:.0f}"
    print(f"| {label} | {middle(0):.1f} | {middle(1):.1f} | {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) | {candle} "
          f"| {max(a['peak_mb'] for a, _ in pairs):.0f} | {max(b['peak_mb'] for _, b in pairs):.0f} |", flush=True)
