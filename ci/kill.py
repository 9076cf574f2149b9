"""SIGKILL at random moments, and at each rename, fsync and mkdir, of a small study; the same command again must end with the same
bits and leave nothing behind. kill.py BINARY [random kills] [every n-th system call]"""
import hashlib
import json
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

binary = sys.argv[1]
kills = int(sys.argv[2]) if len(sys.argv) > 2 else 50
every = int(sys.argv[3]) if len(sys.argv) > 3 else 1
work = pathlib.Path(tempfile.mkdtemp(prefix="ticketlens-kill-"))
out = work / "run"
# Two replicates of parent, twin and ticket; three epochs each, whose states are all kept.
SETTINGS = """replicates=2 floor.twins=1 prune.rounds=1 prune.fraction=0.5 prune.rewind=3it model.width=4 data.train=192
data.validation=100 data.test=100 train.epochs=3 train.batch_size=32 explain.cam_images=10 explain.class_images=6
explain.images_per_set=4 explain.random_sets=20 statistics.permutations=199 statistics.bootstrap=99""".split()
COMMAND = [binary, "--threads", "1", "run", "quick", "--keep-every", "0", "--out", str(out)]
for setting in SETTINGS:
    COMMAND += ["--set", setting]


def study(prefix=()):
    return subprocess.run([*prefix, *COMMAND], capture_output=True, text=True)


def content(path):
    data = path.read_bytes()
    if path.suffix == ".json":
        record = json.loads(data)
        record.pop("seconds", None)
        data = json.dumps(record, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


def contents(finished=True):
    """Every file; of the page, which shows seconds, that it is there."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_file() and (finished or not re.search(r"\.part$|training", name)):
            found[name] = "" if name == "report.html" else content(path)
    return found


faults, tally = [], {}


def count(what):
    tally[what] = tally.get(what, 0) + 1


def fault(what):
    faults.append(what)
    print(what, flush=True)


def goes_on(label):
    """What is there under its final name is whole; the run ends as if nothing had happened."""
    count("kills")
    if out.exists():
        for name, digest in contents(finished=False).items():
            if name != ".lock" and want.get(name) != digest:
                fault(f"{label}: {name} is torn")
    ended = study()
    if ended.returncode != 0:
        fault(f"{label}: refused: {ended.stderr.strip()[-200:]}")
        return
    got = contents()
    for name in sorted(set(got) | set(want)):
        if got.get(name) != want.get(name):
            fault(f"{label}: {name} is {'left' if name not in want else 'another' if name in got else 'missing'}")
    count("went on" if got == want else "did not go on")


try:
    started = time.time()
    first = study()
    assert first.returncode == 0, first.stderr
    wall, want = time.time() - started, contents()
    print(f"{len(want)} files, {wall:.1f} s", flush=True)
    draw = random.Random(1)
    for kill in range(kills):
        shutil.rmtree(out, ignore_errors=True)
        process = subprocess.Popen(COMMAND, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        moment = draw.uniform(0, wall)
        time.sleep(moment)
        process.kill()
        if process.wait() == 0:
            count("ended before the kill")
            continue
        goes_on(f"kill {kill} after {moment:.2f} s")
    print(tally, flush=True)
    log = work / "strace.log"
    if not shutil.which("strace"):
        print("skipped: system calls, for want of strace")
    for call in ("rename", "fsync", "mkdir") if shutil.which("strace") else ():
        trace = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={call}"]
        shutil.rmtree(out, ignore_errors=True)
        study(trace)
        calls = len(re.findall(rf"\b{call}\(", log.read_text()))
        for number in range(1, calls + 1, every):
            shutil.rmtree(out, ignore_errors=True)
            study([*trace, "-e", f"inject={call}:signal=SIGKILL:when={number}"])
            goes_on(f"{call} {number} of {calls}")
        print(call, calls, tally, flush=True)
finally:
    shutil.rmtree(work, ignore_errors=True)
print(f"{len(faults)} faults" if faults else "nothing lost, nothing left")
sys.exit(bool(faults))
