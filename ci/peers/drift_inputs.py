#!/usr/bin/env python3
"""What the cost of the drift gate is timed on: ResNet-50 checkpoints of 1,000 classes with random weights (a dense one, two floors
near it and a candidate near it, torchvision's names), 64 noise images of 224 px, five concepts and three random sets of 8 images, labels.
usage: drift_inputs.py FOLDER   (0.6 GB). Standard library only."""
import array, json, math, pathlib, random, struct, sys


def write(path, tensors):
    header, offset = {}, 0
    for name, (shape, values) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + 4 * len(values)]}
        offset += 4 * len(values)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, values in tensors.values():
            values.tofile(file)


def network(seed):
    draw, tensors = random.Random(seed), {}

    def normal(name, shape, deviation):
        tensors[name] = shape, array.array("f", [draw.gauss(0, deviation) for _ in range(math.prod(shape))])

    def convolution(name, out, into, kernel):
        normal(f"{name}.weight", [out, into, kernel, kernel], math.sqrt(2 / (into * kernel * kernel)))

    def norm(name, channels, weight=1.0):
        for key, value in [("weight", weight), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)]:
            tensors[f"{name}.{key}"] = [channels], array.array("f", [value] * channels)

    convolution("conv1", 64, 3, 7)
    norm("bn1", 64)
    into = 64
    for layer, (blocks, width) in enumerate(zip([3, 4, 6, 3], [64, 128, 256, 512]), 1):
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            for part, out, source, kernel in [(1, width, into, 1), (2, width, width, 3), (3, 4 * width, width, 1)]:
                convolution(f"{name}.conv{part}", out, source, kernel)
                norm(f"{name}.bn{part}", out, 0.2 if part == 3 else 1.0)
            if block == 0:
                convolution(f"{name}.downsample.0", 4 * width, into, 1)
                norm(f"{name}.downsample.1", 4 * width)
            into = 4 * width
    normal("fc.weight", [1000, 2048], 0.03)
    tensors["fc.bias"] = [1000], array.array("f", [0.0] * 1000)
    return tensors


def near(base, seed):
    """Every weight moved by a twentieth of a fresh draw."""
    fresh = network(seed)
    moved = lambda name: array.array("f", [b + 0.05 * f for b, f in zip(base[name][1], fresh[name][1])])
    return {name: (shape, moved(name) if len(shape) > 1 else values) for name, (shape, values) in base.items()}


def images(path, count, seed):
    draw, values = random.Random(seed), array.array("f")
    for _ in range(3 * count):
        x_rate, y_rate, phase = draw.uniform(0, 0.2), draw.uniform(0, 0.2), draw.uniform(0, 6)
        values.extend(math.sin(x_rate * x + y_rate * y + phase) + draw.gauss(0, 0.3) for y in range(224) for x in range(224))
    write(path, {"images": ([count, 3, 224, 224], values)})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    dense = network(1)
    write(folder / "dense.safetensors", dense)
    for name, seed in [("floor2", 2), ("floor3", 3), ("candidate", 9)]:
        write(folder / f"{name}.safetensors", near(dense, seed))
    images(folder / "images.safetensors", 64, 1)
    for nth in range(5):
        images(folder / f"concept{nth}.safetensors", 8, 10 + nth)
    for nth in range(3):
        images(folder / f"random{nth}.safetensors", 8, 30 + nth)
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in range(64)))
