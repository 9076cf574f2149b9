"""Takes the figures of benches/README.md again, all of this commit, and puts them into the page. On an idle machine; two hours.
usage: PYTHON=python-with-torch page.py SHARED FOLDER [STAGE…]   (SHARED holds oracle/, peers/ and data/; FOLDER, 2 GB, is kept for the next time)
The page holds what a stage prints between `<!-- STAGE -->` and `<!-- end -->`; the text around it is written by hand."""
import os, pathlib, re, shutil, subprocess, sys, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEERS, PAGE = ROOT / "ci/peers", ROOT / "benches/README.md"
PYTHON = os.environ.get("PYTHON", sys.executable)


def output(*command, **options):
    return subprocess.run([str(part) for part in command], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE, **options).stdout


def bench(name):
    """The program of a bench, built."""
    told = subprocess.run(["cargo", "bench", "--locked", "--bench", name, "--no-run"], cwd=ROOT, check=True, text=True, stderr=subprocess.PIPE).stderr
    return ROOT / re.search(r"Executable .*\((.*)\)", told).group(1)


def program(folder):
    """The program as its users build it; benches build it with more features."""
    if not (folder / "ticketlens").exists():
        output("cargo", "build", "--release", "--locked")
        shutil.copy(ROOT / "target/release/ticketlens", folder / "ticketlens")
    return folder / "ticketlens"


def steps(shared, folder):
    return output(PYTHON, PEERS / "kernels.py", bench("peers"), 4)


def rest(shared, folder):
    if not (folder / "rest").exists():
        output(PYTHON, PEERS / "at_rest.py", "inputs", folder / "rest")
    return output(PYTHON, PEERS / "at_rest.py", "time", program(folder), folder / "rest", 4)


def whole(shared, folder):
    return f"```\n{output(PYTHON, PEERS / 'time.py', program(folder), shared, 5)}```\n"


def drift(shared, folder):
    files = folder / "drift"
    if not files.exists():
        output(PYTHON, PEERS / "drift_inputs.py", files)
    command = [program(folder), "drift", "--reference", files / "dense.safetensors", "--candidate", files / "candidate.safetensors", "--floor",
               files / "floor2.safetensors", files / "floor3.safetensors", "--images", f"{files}/images.safetensors:images", "--labels",
               files / "labels.txt", "--stage", "layer4", "--format", "json", "--out", files / "drift.json"]
    concepts = [f"--concept=c{nth}={files}/concept{nth}.safetensors:images" for nth in range(5)]
    concepts += [f"--random={files}/random{nth}.safetensors:images" for nth in range(3)]
    rows = "| | processor, s | wall clock, s | peak memory, MB |\n| --- | ---: | ---: | ---: |\n"
    for label, extra in [("pixels and accuracy", []), ("and concepts, the 64 classes that are present", concepts)]:
        runs = []
        for _ in range(2):
            started = time.time()
            child = subprocess.Popen([str(part) for part in command + extra], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            # The verdict is the exit status; all that counts here is that there was one.
            _, status, used = os.wait4(child.pid, 0)
            if os.waitstatus_to_exitcode(status) not in (0, 1):
                sys.exit(f"drift: exit status {status}")
            runs.append((used.ru_utime + used.ru_stime, time.time() - started, used.ru_maxrss / 1024))
        rows += "| {} | {} | {} | {:.0f} |\n".format(
            label, *(" and ".join(f"{run[nth]:.1f}" for run in runs) for nth in (0, 1)), max(run[2] for run in runs))
    return rows


def lottery(shared, folder):
    return output(PYTHON, PEERS / "lottery.py", bench("peers"), shared, 3)


def builds(shared, folder):
    clone = folder / "clone"
    shutil.rmtree(clone, ignore_errors=True)
    output("git", "clone", "--quiet", ROOT, clone)
    taken = []
    for command in [["cargo", "build", "--release", "--locked"], ["cargo", "test", "--no-run", "--locked"]]:
        started = time.time()
        subprocess.run(command, cwd=clone, check=True, stderr=subprocess.DEVNULL)
        taken.append(divmod(round(time.time() - started), 60))
    size = (clone / "target/release/ticketlens").stat().st_size / 1e6
    shutil.rmtree(clone)
    (build, seconds), (tests, more) = taken
    return f"`cargo build --release` {build} min {seconds} s, then `cargo test --no-run` {tests} min {more} s. The program is {size:.2f} MB.\n"


def kernels(shared, folder):
    shutil.rmtree(ROOT / "target/criterion", ignore_errors=True)
    short = ["--warm-up-time", "0.05", "--measurement-time", "0.1", "--sample-size", "10"]
    output("cargo", "bench", "--locked", "--bench", "benches", "--", *short)
    return output(sys.executable, ROOT / "ci/bench-table.py", ROOT / "target/criterion")


STAGES = {stage.__name__: stage for stage in [steps, rest, whole, drift, kernels, builds, lottery]}

if __name__ == "__main__":
    if len(sys.argv) < 3 or not STAGES.keys() >= set(sys.argv[3:]):
        sys.exit(f"{__doc__}\nstages: {' '.join(STAGES)}")
    shared, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ticketlens").unlink(missing_ok=True)
    for name in sys.argv[3:] or STAGES:
        print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
        found = STAGES[name](shared, folder).strip()
        (folder / f"{name}.md").write_text(found + "\n")
        page, places = re.subn(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", lambda place: f"{place[1]}{found}{place[2]}", PAGE.read_text(), flags=re.S)
        if places != 1:
            sys.exit(f"{PAGE} has no place for {name}")
        PAGE.write_text(page)
