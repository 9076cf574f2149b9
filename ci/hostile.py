"""Inputs made to exhaust or hang the program: each must be refused with exit code 2 and one line, in a second and 200 MB.
hostile.py BINARY [word in the case's name]"""
import gzip
import io
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib

binary, wanted = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
# A busy host may be given more time by the variable HOSTILE_SECONDS.
SECONDS, BYTES = float(os.environ.get("HOSTILE_SECONDS", "1")), 200 << 20
made = os.environ.get("TICKETLENS_HOSTILE")
work = pathlib.Path(made or tempfile.mkdtemp(prefix="ticketlens-hostile-"))
fixture = pathlib.Path(__file__).resolve().parent.parent / "fixtures/oracle/resnet18_mnist"
GOOD, IMAGES = str(fixture / "checkpoint.safetensors"), str(fixture / "inputs.safetensors") + ":images"
cases = []


def case(name, *arguments):
    cases.append((name, [str(argument) for argument in arguments]))


def write(name, data):
    path = work / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def pipe(name):
    path = work / name
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    return path


def checkpoint(name, path):
    """A checkpoint, by every command that reads one."""
    case(f"{name}, cam", "cam", "--checkpoint", path, "--images", IMAGES, "--class", 0, "--out", work / "o")
    case(f"{name}, prune", "prune", "--weights", path, "--fraction", 0.2, "--out", work / "o")
    case(f"{name}, drift", "drift", "--reference", GOOD, "--candidate", path, "--images", IMAGES)


def images(name, argument):
    case(f"{name}, cam", "cam", "--checkpoint", GOOD, "--images", argument, "--class", 0, "--out", work / "o")
    case(f"{name}, predict", "predict", "--checkpoint", GOOD, "--images", argument, "--out", work / "o")


def safetensors(tensors, data=None, header=None):
    """tensors: name, dtype, shape, bytes."""
    entries, at = {}, 0
    for tensor, dtype, shape, length in tensors:
        entries[tensor] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + length]}
        at += length
    header = json.dumps(entries).encode() if header is None else header
    return struct.pack("<Q", len(header)) + header + (b"\0" * at if data is None else data)


def make():
    # Checkpoints that claim wide networks by one small tensor.
    for width in (4096, 16_384, 65_536, 1 << 20):
        tensors = [("conv1.weight", "F32", [width, 1, 3, 3], 36 * width)]
        tensors += [(f"layer1.{block}.conv1.weight", "F32", [1, 1, 1, 1], 4) for block in (0, 1)] + [("fc.weight", "F32", [2, 1], 8)]
        checkpoint(f"width {width}", write(f"wide-{width}.safetensors", safetensors(tensors)))
        vgg = [("features.0.weight", "F32", [width, 1, 3, 3], 36 * width), ("classifier.weight", "F32", [2, 1], 8)]
        wide = write(f"vgg-{width}.safetensors", safetensors(vgg))
        case(f"wide vgg {width}", "cam", "--checkpoint", wide, "--images", IMAGES, "--class", 0, "--out", work / "o")
    many = [(f"t{number}", "F32", [1], 4) for number in range(1_000_000)]
    checkpoint("a million names", write("names.safetensors", safetensors(many)))
    for width in (1 << 20, 1 << 40, 1 << 62):
        tensors = [("conv1.weight", "F32", [width, 0, 3, 3], 0)]
        tensors += [(f"layer1.{block}.conv1.weight", "F32", [width, width if width < 1 << 31 else 0, 0, 0], 0) for block in (0, 1)]
        checkpoint(f"empty but {width} wide", write(f"hollow-{width}.safetensors", safetensors(tensors + [("fc.weight", "F32", [0, width], 0)])))
    deep = b'{"a":' * 500_000 + b"1" + b"}" * 500_000
    checkpoint("a deep header", write("deep.safetensors", safetensors([], b"", deep)))
    for claim in (0, 1, 1 << 20, 1 << 40, (1 << 63) - 1, (1 << 64) - 1):
        checkpoint(f"a header of {claim}", write(f"header-{claim}.safetensors", struct.pack("<Q", claim) + b'{"a":{}}'))
    for number, entry in enumerate([
        {"dtype": "F32", "shape": [1 << 62], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1 << 32, 1 << 32], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1] * 100_000, "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [0, 1 << 62], "data_offsets": [0, 1 << 62]},
        {"dtype": "F32", "shape": [1], "data_offsets": [1 << 62, (1 << 62) + 4]},
    ]):
        checkpoint(f"tensor {number}", write(f"tensor-{number}.safetensors", safetensors([], b"\0" * 4, json.dumps({"conv1.weight": entry}).encode())))

    # Pickles.
    HEAD = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
    BEFORE = HEAD + b"\x80\x02M\xe9\x03." + b"\x80\x02}."


    def archive(pickle, entries=(), compression=zipfile.ZIP_STORED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", compression) as out:
            out.writestr("a/data.pkl", pickle)
            for name, data in entries:
                out.writestr(name, data)
        return buffer.getvalue()


    pickles = {
        "nested tuples": b"\x80\x02)" + b"\x85" * 10_000_000 + b".",
        "nested lists": b"\x80\x02" + b"](" * 3_000_000 + b"e" * 3_000_000 + b".",
        "marks": b"\x80\x02" + b"(" * 10_000_000 + b".",
        "empty tuples": b"\x80\x02" + b")" * 10_000_000 + b".",
        "a doubled tuple": b"\x80\x02)q\x00" + b"h\x00h\x00\x86q\x00" * 2_000_000 + b".",
        "remembered": b"\x80\x02)" + b"\x94" * 10_000_000 + b".",
        "a long text": b"\x80\x02X\xff\xff\xff\xff" + b"a" * 100 + b".",
        "a longer text": b"\x80\x04\x8d" + b"\xff" * 8 + b"a" * 100 + b".",
        "classes": b"\x80\x02" + b"cos\nsystem\n" * 900_000 + b".",
        "a class of a long name": b"\x80\x04X" + struct.pack("<I", 1000) + b"a" * 1000 + b"q\x00" + b"h\x00h\x00\x93" * 300_000 + b".",
        "a class of a longer name": b"\x80\x04X" + struct.pack("<I", 5_000_000) + b"a" * 5_000_000 + b"q\x00" + b"h\x00h\x00\x93" * 100_000 + b".",
        "a call": b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.",
    }
    for name, pickle in pickles.items():
        checkpoint(f"pickle of {name}", write(f"{name}.pt", BEFORE + pickle))
        checkpoint(f"archive of {name}", write(f"{name}.zip.pt", archive(pickle)))


    def tensor_pickle(count, storage_size, shared=False, dimensions=1):
        def text(value):
            return b"X" + struct.pack("<I", len(value)) + value
        out = b"\x80\x02}("
        for number in range(count):
            size = b"J" + struct.pack("<i", storage_size)
            storage = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0" if shared else str(number).encode()) + text(b"cpu") + size + b"tQ"
            out += text(f"t{number}".encode()) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00(" + size + b"K\x01" * (dimensions - 1) + b"t(" + b"K\x01" * dimensions + b"t\x89}tR"
        return out + b"u."


    def renamed(count, storage_size):
        """One tensor under many names."""
        one = tensor_pickle(1, storage_size)[:-2] + b"q\x00"
        return one + b"".join(b"X" + struct.pack("<I", 7) + b"%07d" % number + b"h\x00" for number in range(count)) + b"u."


    storage = b"\0" * (4 << 20)
    for name, pickle in {
        "a shared storage": tensor_pickle(5000, len(storage) // 4, shared=True),
        "a tensor of many names": renamed(5000, len(storage) // 4),
        "a small tensor of very many names": renamed(200_000, 1),
        "many dimensions": tensor_pickle(100, len(storage) // 4, dimensions=5000),
    }.items():
        checkpoint(f"archive of {name}", write(f"{name}.zip.pt", archive(pickle, [("a/data/0", storage)])))


    # Entries that all lie in the same place.
    storage = b"\0" * (20 << 20)
    overlapping = bytearray(archive(tensor_pickle(300, len(storage) // 4), [("a/data/0", storage)]))
    end = overlapping.rindex(b"PK\x05\x06")
    start = struct.unpack("<I", overlapping[end + 16:end + 20])[0]
    entries = bytes(overlapping[start:end])
    first_length = 46 + len("a/data.pkl")
    pickle_entry, one = entries[:first_length], entries[first_length:]
    listing = pickle_entry
    for number in range(300):
        name = f"a/data/{number}".encode()
        listing += one[:28] + struct.pack("<H", len(name)) + one[30:46] + name
    closing = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 301, 301, len(listing), start, 0)
    checkpoint("overlapping entries", write("overlapping.pt", bytes(overlapping[:start]) + listing + closing))
    checkpoint("compressed zeros", write("bomb.pt", archive(tensor_pickle(1, 1 << 28), [("a/data/0", b"\0" * (1 << 28))], zipfile.ZIP_DEFLATED)))
    crowd = io.BytesIO()
    with zipfile.ZipFile(crowd, "w") as out:
        for number in range(70_000):
            out.writestr(f"a/{number}", b"")
    checkpoint("seventy thousand entries", write("crowd.pt", crowd.getvalue()))

    # Pictures and arrays.


    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


    def png(width, height, extra=b"", data=b""):
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


    for width, height in ((20_000, 20_000), (1 << 31, 1), (1, 1 << 31), (60_000, 60_000), (0, 1)):
        images(f"png {width} x {height}", write(f"{width}x{height}.png", png(width, height, b"", zlib.compress(b"\0" * 100))))
    profile = b"x\0\0" + zlib.compress(b"\0" * (1 << 30), 9)
    images("png with a profile of a gigabyte", write("iccp.png", png(8, 8, chunk(b"iCCP", profile), zlib.compress(b"\0" * 100))))
    text = b"x\0\0" + zlib.compress(b"\0" * (1 << 30), 9)
    images("png with a text of a gigabyte", write("ztxt.png", png(8, 8, chunk(b"zTXt", text), zlib.compress(b"\0" * 100))))
    images("png of zeros", write("zeros.png", png(15_000, 15_000, b"", zlib.compress(b"\0" * (1 << 28), 9))))
    for count, side in ((1 << 20, 1 << 10), (1 << 31, 28), (60_000, 1 << 16), ((1 << 32) - 1, (1 << 32) - 1)):
        header = struct.pack(">IIII", 0x803, count, side & 0xFFFFFFFF, side & 0xFFFFFFFF)
        images(f"idx of {count} x {side}", write(f"{count}-{side}-idx3-ubyte", header))
        images(f"gzip idx of {count} x {side}", write(f"{count}-{side}-idx3-ubyte.gz", gzip.compress(header + b"\0" * (1 << 20))))
    header = struct.pack(">IIII", 0x803, 1 << 20, 32, 31)
    bomb = gzip.compress(header + b"\0" * (1 << 29), 9)
    images("gzip idx of zeros", write("bomb-idx3-ubyte.gz", bomb))
    for shape in ("(4611686018427387904,)", "(1,1,1000000,1000000)", "(0,1,28,28)", "(" + "1," * 100_000 + ")"):
        head = ("{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + "}").encode()
        images(f"npy {shape[:30]}", write(f"{len(cases)}.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", len(head)) + head))
    images("npy with a long header", write("long.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", (1 << 32) - 1) + b"{"))
    photo = write("photo/a.png", png(2, 2, b"", zlib.compress(b"\0" * 14)))
    for size in (0, 20_000, 20_001, 1 << 40):
        case(f"--size {size}", "cam", "--checkpoint", GOOD, "--images", photo.parent, "--size", size, "--class", 0, "--out", work / "o")
    for flag, value in (("--batch", 0), ("--batch", 1 << 40), ("--threads", 1 << 20)):
        case(f"{flag} {value}", "cam", "--checkpoint", GOOD, "--images", IMAGES, flag, value, "--class", 0, "--out", work / "o")
    for flag in ("--permutations", "--resamples"):
        case(f"tcav {flag}", "tcav", "--checkpoint", GOOD, "--images", IMAGES, "--class", 0, "--concept", f"a={IMAGES}", "--random", IMAGES, IMAGES, flag, 10**9, "--json", work / "o")

    # Links that leave a folder of data.
    outside = write("outside/0.png", png(8, 8, b"", zlib.compress(b"\0" * 200)))
    write("links/0.png", outside.read_bytes())
    (work / "links/1.png").symlink_to(outside)
    images("a link out of the folder", work / "links")
    for place, name in (("dog/1.png", "0.png"), ("wolf", "."), ("dog/young", ".")):
        folder = work / f"classes-{place.replace('/', '-')}"
        for own in ("cat/0.png", "dog/0.png"):
            write(f"{folder.name}/{own}", outside.read_bytes())
        if place == "dog/young":
            (folder / "dog/0.png").unlink()
        (folder / place).symlink_to(outside.parent / name)
        case(f"a link out of a class folder, {place}", "run", "quick", "--set", "data.source=folder", "--set", "data.task=classes", "--set", f"data.path={folder}",
             "--set", "data.folder={side=8}", "--out", work / "run")

    # Pipes, devices, folders.
    for number, path in enumerate([pipe("pipe.safetensors"), "/dev/zero", "/dev/full", work]):
        checkpoint(f"no file {number}", path)
    for number, path in enumerate([pipe("pipe.npy"), pipe("pipe-idx3-ubyte"), pipe("pipe.png"), "/dev/zero"]):
        images(f"no file {number}", path)
    images("a pipe with a key", str(pipe("keyed.safetensors")) + ":images")
    case("labels from a pipe", "drift", "--reference", GOOD, "--candidate", GOOD, "--images", IMAGES, "--labels", pipe("labels.txt"))
    case("a mask from a pipe", "drift", "--reference", GOOD, "--candidate", GOOD, "--images", IMAGES, "--mask", pipe("mask.safetensors"))
    case("a plan from a pipe", "run", pipe("plan.toml"), "--out", work / "run")
    case("a plan from /dev/zero", "run", "/dev/zero", "--out", work / "run")
    for name in ("train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        folder = work / f"data-{name}"
        for other in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
            if other != name:
                write(f"data-{name}/{other}", struct.pack(">II", 0x801 if "labels" in other else 0x803, 0))
        pipe(f"data-{name}/{name}")
        case(f"data with a pipe {name}", "data", "mnist", folder)
        case(f"a run on a pipe {name}", "run", "mnist", "--set", f"data.path={folder}", "--out", work / "run")

    # Plans.
    for field in ("replicates", "floor.twins", "prune.rounds", "train.epochs", "train.batch_size", "train.warmup_steps", "statistics.permutations",
                  "statistics.bootstrap", "explain.random_sets", "explain.images_per_set", "explain.cam_images", "explain.class_images",
                  "explain.partners", "data.train", "data.validation", "data.test", "model.width", "model.depth"):
        for value in (10**9, 1 << 62, (1 << 63) - 1, -1):
            # A longer warm-up than the training is one; of class images as many are taken as there are.
            if field in ("train.warmup_steps", "explain.class_images") and value > 0:
                continue
            case(f"{field} = {value}", "run", "quick", "--set", f"{field}={value}", "--out", work / "run")
    case("planted images without end", "run", "quick", "--set", "data.source=planted", "--set", "data.task=classes", "--set", "data.planted={side=1000000}", "--out", work / "run")
    case("a key of many parts", "run", "quick", "--set", ".".join("a" * 30_000) + "=1", "--out", work / "run")
    case("a key of very many parts", "run", "quick", "--set", ".".join("a" * 60_000) + "=1", "--out", work / "run")
    case("a deep value", "run", "quick", "--set", "name=" + "[" * 50_000, "--out", work / "run")
    case("a deeper value", "run", "quick", "--set", "name=" + "{a=" * 30_000, "--out", work / "run")
    case("a deep plan", "run", write("deep.toml", b"a = " + b"[" * 500_000), "--out", work / "run")
    case("a long plan", "run", write("long.toml", b"# a comment\n" * 1_000_000), "--out", work / "run")
    case("a plan of many tables", "run", write("tables.toml", b"".join(b"[t%d]\n" % number for number in range(50_000))), "--out", work / "run")

    # Run folders.
    quick = (pathlib.Path(__file__).resolve().parent.parent / "src/plan/presets/quick.toml").read_text()
    for field, value in (("replicates", 10**9), ("replicates", 1 << 62), ("rounds", 10**9), ("rounds", 1 << 62)):
        lines = [f"{field} = {value}" if line.startswith(f"{field} =") else line for line in quick.splitlines()]
        folder = work / f"run-{field}-{value}"
        write(f"{folder.name}/plan.toml", "\n".join(lines).encode())
        for command in ("report", "verify"):
            case(f"{command} of {field} {value}", command, folder)
        case(f"compare of {field} {value}", "compare", folder, folder)
    for name, content in {
        "deep": b"[" * 5_000_000, "long": b'{"format": 3, "a": "' + b"x" * (300 << 20) + b'"}', "empty": b"", "zeros": b"\0" * 1000,
        "many": b'{"format": 3, "a": [' + b"0," * 20_000_000 + b"0]}",
    }.items():
        for record in ("manifest.json", "metrics.json"):
            folder = work / f"records-{name}-{record}"
            write(f"{folder.name}/plan.toml", quick.encode())
            write(f"{folder.name}/{record}", content)
            case(f"{record} {name}, report", "report", folder)
    for record in ("plan.toml", "manifest.json", "metrics.json"):
        folder = work / f"pipes-{record}"
        if record != "plan.toml":
            write(f"{folder.name}/plan.toml", quick.encode())
        pipe(f"{folder.name}/{record}")
        case(f"{record} is a pipe", "report", folder)


# A process begins with the memory of the one that starts it, so that a fresh one measures.
if not made:
    make()
    (work / "cases.json").write_text(json.dumps(cases))
    sys.exit(subprocess.run([sys.executable, *sys.argv], env={**os.environ, "TICKETLENS_HOSTILE": str(work)}).returncode)


def measure(arguments):
    """Exit code, standard error, seconds, largest memory."""
    started = time.time()
    process = subprocess.Popen([binary, "--threads", "1", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               env={**os.environ, "RUST_BACKTRACE": "0"})
    timer = threading.Timer(20, process.kill)
    timer.start()
    error = process.stderr.read().decode("utf8", "replace")
    _, status, usage = os.wait4(process.pid, 0)
    timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, error, time.time() - started, usage.ru_maxrss * 1024


faults, number = [], 0
try:
    for name, arguments in json.loads((work / "cases.json").read_text()):
        if wanted not in name:
            continue
        number += 1
        code, error, seconds, memory = measure(arguments)
        wrong = []
        if code != 2:
            wrong.append(f"exit {code}")
        if error.count("\n") != 1 or not error.startswith("error: "):
            wrong.append(f"{error.count(chr(10))} lines")
        if seconds > SECONDS:
            wrong.append(f"{seconds:.1f} s")
        if memory > BYTES:
            wrong.append(f"{memory >> 20} MiB")
        if wrong:
            faults.append(name)
            print(f"{name}: {', '.join(wrong)}: {error[:160].strip()}", flush=True)
finally:
    shutil.rmtree(work, ignore_errors=True)
print(f"{number} inputs, {len(faults)} not refused as they should be")
sys.exit(bool(faults))
