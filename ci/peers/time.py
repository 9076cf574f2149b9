"""Times the program beside PyTorch's tools, alternately, two threads each: medians of wall and of processor seconds.
usage: PYTHON=python-with-torch time.py TICKETLENS SHARED [REPEATS]   (on an idle machine; SHARED holds oracle/ and peers/)
`call` is what the peer says of its own call, without starting Python; ours is always the whole command."""
import json, os, pathlib, re, resource, statistics, subprocess, sys, tempfile, time

program, shared = sys.argv[1], pathlib.Path(sys.argv[2])
repeats = int(sys.argv[3]) if len(sys.argv) > 3 else 5
python, here = os.environ.get("PYTHON", sys.executable), pathlib.Path(__file__).parent
scratch = pathlib.Path(tempfile.mkdtemp())


def run(command):
    """Wall seconds, processor seconds, stdout; after a second in which what ran before can leave the machine."""
    time.sleep(1)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    wall, after = time.time() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def alternate(label, ours, theirs, divide, their_divide, what):
    a, b = [], []
    for _ in range(repeats):
        a.append(run(ours)[:2])
        wall, cpu, text = run(theirs)
        b.append((wall, cpu, float(re.search(r"in ([\d.]+) s", text).group(1))))
    middle = lambda rows: [statistics.median(column) for column in zip(*rows)]
    (wall, cpu), (their_wall, their_cpu, call) = middle(a), middle(b)
    print(f"{label}: ours {wall:.3f} s ({cpu:.3f} s cpu, {wall / divide * 1e3:.2f} ms {what} of {divide}); peer {their_wall:.2f} s "
          f"({their_cpu:.2f} s cpu), its call {call:.3f} s ({call / their_divide * 1e3:.1f} ms {what} of {their_divide})", flush=True)
    print(f"    ratio whole to whole {their_wall / wall:.0f}, its call to our whole {call / wall:.1f}, cpu {their_cpu / cpu:.0f}; "
          f"{what}: whole to whole {their_wall / their_divide / wall * divide:.0f}, its call to our whole {call / their_divide / wall * divide:.0f}")


for case in ["resnet18_mnist", "resnet50_birds"]:
    folder = shared / "oracle" / case
    expected, inputs = json.loads((folder / "expected.json").read_text()), folder / "inputs.safetensors"
    sets = len(expected["random_baseline"])
    ours = [program, "tcav", "--quiet", "--threads", 2, "--checkpoint", folder / "checkpoint.safetensors", "--images", f"{inputs}:images",
            "--stage", expected["layer"], "--class", expected["class"], "--json", scratch / "tcav.json",
            "--concept", f"striped={inputs}:concept_striped", f"null={inputs}:concept_null",
            "--random", *[f"{inputs}:random_{i:02}" for i in range(sets)]]
    # Captum fits two concepts against each set and each set against its neighbour; ours every pair of random sets.
    run(ours)
    cavs = json.loads((scratch / "tcav.json").read_text())["cavs"]
    alternate(f"TCAV {case}", ours, [python, shared / "peers/tcav_captum.py", folder, sets], cavs, 3 * sets, "a CAV")
    folder = shared / "oracle" / case
    subprocess.run([python, "-c", "import sys, torch; from safetensors.torch import *; x = load_file(sys.argv[1])['images'];"
                    "save_file({'images': x.repeat(256 // len(x) + 1, 1, 1, 1)[:256].contiguous()}, sys.argv[2])",
                    str(inputs), str(scratch / "256.safetensors")], check=True)
    common = [folder / "checkpoint.safetensors", scratch / "256.safetensors"]
    ours = [program, "cam", "--quiet", "--threads", 2, "--checkpoint", common[0], "--images", f"{common[1]}:images",
            "--stage", expected["layer"], "--class", expected["class"], "--out", scratch / "cam.safetensors"]
    theirs = [python, here / "gradcam_torch.py", *common, "images", expected["layer"], expected["class"]]
    alternate(f"Grad-CAM of 256 images, {case}", ours, theirs, 256, 256, "a map")
