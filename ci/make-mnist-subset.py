#!/usr/bin/env python3
"""Makes fixtures/mnist from the full MNIST files: make-mnist-subset.py FULL_MNIST_FOLDER [--check].

12,000 digits of the official training set and 2,000 of the official test set, each digit's share as in the full set
(largest remainder). Which digits, and their order, follow from SHA-256 of their position in the full set, so the
choice depends on nothing else. --check compares the committed files with what would be written.
"""
import gzip
import hashlib
import pathlib
import struct
import sys

TARGET = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "mnist"
COUNTS = {"train": 12_000, "t10k": 2_000}


def read(path, dimensions):
    data = gzip.decompress(path.read_bytes())
    magic, *shape = struct.unpack(f">I{dimensions}I", data[: 4 + 4 * dimensions])
    assert magic == 0x800 | dimensions, path
    return shape, data[4 + 4 * dimensions :]


def rank(split, index):
    return hashlib.sha256(f"ticketlens mnist {split} {index}".encode()).digest()


def choose(split, labels, count):
    members = {digit: [i for i, label in enumerate(labels) if label == digit] for digit in range(10)}
    exact = {digit: count * len(m) / len(labels) for digit, m in members.items()}
    share = {digit: int(x) for digit, x in exact.items()}
    by_remainder = sorted(exact, key=lambda d: (share[d] - exact[d], d))
    for digit in by_remainder[: count - sum(share.values())]:
        share[digit] += 1
    chosen = [i for digit, m in members.items() for i in sorted(m, key=lambda i: rank(split, i))[: share[digit]]]
    return sorted(chosen, key=lambda i: rank(split + " order", i))


def main():
    source, check = pathlib.Path(sys.argv[1]), "--check" in sys.argv
    for split, count in COUNTS.items():
        (n, rows, columns), pixels = read(source / f"{split}-images-idx3-ubyte.gz", 3)
        (n_labels,), labels = read(source / f"{split}-labels-idx1-ubyte.gz", 1)
        assert n == n_labels
        chosen = choose(split, labels, count)
        size = rows * columns
        images = struct.pack(">4I", 0x803, count, rows, columns) + b"".join(pixels[i * size : (i + 1) * size] for i in chosen)
        digits = struct.pack(">2I", 0x801, count) + bytes(labels[i] for i in chosen)
        for name, data in ((f"{split}-images-idx3-ubyte.gz", images), (f"{split}-labels-idx1-ubyte.gz", digits)):
            if check:
                assert gzip.decompress((TARGET / name).read_bytes()) == data, f"{name} differs"
            else:
                TARGET.mkdir(parents=True, exist_ok=True)
                (TARGET / name).write_bytes(gzip.compress(data, 9, mtime=0))
            print(name, len(data), "bytes raw,", (TARGET / name).stat().st_size, "gzip")


main()
