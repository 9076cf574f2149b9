#!/usr/bin/env python3
"""A pruned network beside its own dense time: `predict` of 64 and of 256 images by turns, medians.

    python3 ci/peers/at_rest.py inputs FOLDER              writes checkpoints (resnet18, resnet50) and images; needs PyTorch
    python3 ci/peers/at_rest.py time PROGRAM FOLDER [N]    N rounds (5) by turns, wall clock: a Markdown table

Random weights; `0.05` keeps the largest 5 % of all weights, `0.05-even` 5 % of every layer, drawn."""
import array, math, pathlib, statistics, struct, subprocess, sys, time

KINDS = ["1", "0.15", "0.05", "0.05-even"]
COUNTS = [64, 256]


def convolution(state, name, outputs, inputs, kernel):
    import torch
    state[f"{name}.weight"] = torch.randn(outputs, inputs, kernel, kernel) * math.sqrt(2 / (inputs * kernel * kernel))


def norm(state, name, channels):
    import torch
    for key, value in [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)]:
        state[f"{name}.{key}"] = torch.full((channels,), value)


def resnet(blocks, expansion):
    import torch
    state, channels = {}, 64
    convolution(state, "conv1", 64, 3, 7)
    norm(state, "bn1", 64)
    for layer, (width, count) in enumerate(zip([64, 128, 256, 512], blocks), 1):
        for block in range(count):
            prefix, out = f"layer{layer}.{block}.", width * expansion
            kernels = [3, 3] if expansion == 1 else [1, 3, 1]
            widths = [width] * (len(kernels) - 1) + [out]
            for number, (kernel, source, to) in enumerate(zip(kernels, [channels] + widths, widths), 1):
                convolution(state, f"{prefix}conv{number}", to, source, kernel)
                norm(state, f"{prefix}bn{number}", to)
            if channels != out:
                convolution(state, f"{prefix}downsample.0", out, channels, 1)
                norm(state, f"{prefix}downsample.1", out)
            channels = out
    state["fc.weight"], state["fc.bias"] = torch.randn(1000, channels) * 0.03, torch.zeros(1000)
    return state


def inputs(folder):
    import torch
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, state in [("resnet18", resnet([2, 2, 2, 2], 1)), ("resnet50", resnet([3, 4, 6, 3], 4))]:
        weights = [key for key in state if state[key].dim() > 1]
        magnitudes = torch.cat([state[key].abs().flatten() for key in weights])
        torch.save(state, folder / f"{name}-1.pth")
        for share in [0.15, 0.05]:
            least = magnitudes.kthvalue(int((1 - share) * magnitudes.numel())).values
            torch.save({k: v * (v.abs() > least) if k in weights else v for k, v in state.items()}, folder / f"{name}-{share}.pth")
        torch.save({k: v * (torch.rand_like(v) < 0.05) if k in weights else v for k, v in state.items()}, folder / f"{name}-0.05-even.pth")
    for count in COUNTS:
        shape = (count, 3, 224, 224)
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
        header += " " * (63 - (10 + len(header)) % 64) + "\n"
        values = array.array("f", torch.randn(shape).flatten().tolist()).tobytes()
        (folder / f"images{count}.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + values)


def timed(program, folder, rounds):
    runs = [(network, count, kind) for network in ["resnet18", "resnet50"] for count in COUNTS for kind in KINDS]
    seconds = {run: [] for run in runs}
    for _ in range(rounds):
        for network, count, kind in runs:
            started = time.perf_counter()
            subprocess.run([program, "predict", "--quiet", "--checkpoint", folder / f"{network}-{kind}.pth", "--images",
                            folder / f"images{count}.npy", "--out", folder / "logits.safetensors"], check=True)
            seconds[network, count, kind].append(time.perf_counter() - started)
    print("| | images | dense, s | 15 %, globally | 5 %, globally | 5 %, layer by layer |\n|---|---|---|---|---|---|")
    for network, label in [("resnet18", "ResNet-18"), ("resnet50", "ResNet-50")]:
        for count in COUNTS:
            cells, dense = [], statistics.median(seconds[network, count, "1"])
            for kind in KINDS:
                times = seconds[network, count, kind]
                middle = statistics.median(times)
                times_as_fast = "" if kind == "1" else f", {dense / middle:.2f} times"
                cells.append(f"{middle:.2f} ({min(times):.2f}–{max(times):.2f}){times_as_fast}")
            print(f"| {label} | {count} | {' | '.join(cells)} |")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["inputs", folder]:
            inputs(pathlib.Path(folder))
        case ["time", program, folder, *rounds]:
            timed(program, pathlib.Path(folder), int(rounds[0]) if rounds else 5)
        case _:
            sys.exit(__doc__)
