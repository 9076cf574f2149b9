"""A sweep by Slurm and by `--engine local` must give the same bytes: slurm.py BINARY, with a Slurm that answers (ci/slurm.sh).
Plan and paths hold what a shell would read; one unit is killed and requeued, one is killed for good and tried again."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

binary = sys.argv[1]
work = pathlib.Path(tempfile.mkdtemp(prefix="ticketlens-sweep-"))
# A folder and a plan whose names would run commands, end a quote, or end a line.
odd = work / "a b'c\"d $(touch pwned) `touch pwned` ;touch pwned\n#SBATCH --hold\n%j \\n"
odd.mkdir()
here = str(odd)
PLAN = """
preset = "quick"
name = '''odd $HOME "q" $(touch pwned) `touch pwned`; 'x' %A'''
replicates = 2
arms = ["lottery", "random_mask"]
floor.twins = 1
[data]
train = 640
validation = 200
test = 200
[model]
width = 4
[prune]
rounds = 1
fraction = 0.5
[train]
epochs = 8
batch_size = 32
[explain]
cam_images = 10
class_images = 6
images_per_set = 4
random_sets = 20
[statistics]
permutations = 199
bootstrap = 99
[slurm]
time = "10"
memory = "1G"
cpus = 1
"""
plan = odd / "plan '$(touch pwned)'\n.toml"
plan.write_text(PLAN)


def call(*arguments, fine=(0,)):
    done = subprocess.run([str(argument) for argument in arguments], cwd=here, text=True, capture_output=True)
    if done.returncode not in fine:
        sys.exit(f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def sweep(out, engine):
    said = call(binary, "sweep", plan.name, "--engine", engine, "--jobs", 2, "--out", out)
    assert "2 replicates" not in said
    folders = [path for path in (odd / out).iterdir() if path.name not in ("units", "points")]
    assert len(folders) == 1, folders
    return folders[0], said


def queue():
    """(job, entry, state, restarts) of each job and entry."""
    lines = call("squeue", "--noheader", "--array", "--format=%F %K %T").split("\n")
    return [line.split() for line in lines if line.strip()]


def until(what, seconds, test):
    """Waits for a truth."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = test()
        if found:
            print(f"{what}: {seconds - (end - time.monotonic()):.0f} s", flush=True)
            return found
        time.sleep(0.2)
    logs = "\n".join(f"{path.name}: {path.read_text()}" for path in odd.rglob("logs/*"))
    sys.exit(f"not within {seconds} s: {what}\n{call('squeue', '--array')}\n{logs}")


def running():
    return [(job, entry) for job, entry, state in queue() if state == "RUNNING"]


def trains(folder, job, entry):
    """Whether an entry of an array has finished its first network, and trains its second."""
    log = folder / "logs" / f"slurm-{job}_{entry}.txt"
    return log.exists() and "lottery round 0" in log.read_text() and worker(entry)


def worker(entry):
    """The process of an entry: a child of slurmd's, whose last argument is its number."""
    for place in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            if words[0] == b"./program" and words[-2] == entry.encode() and os.path.realpath(place / "cwd").startswith(here):
                return int(place.name)
        except (OSError, IndexError):
            pass
    return None


local, _ = sweep("by local", "local")
slurm, said = sweep("by slurm", "slurm")
print(said.strip().replace(here, "…"))
# Not one after the other where an entry of an array starts, and gets a number, between two submissions.
waves = [int(number) for number in re.search(r"submitted jobs ([\d, ]+);", said)[1].split(", ")]
# The first wave: one unit is requeued while it trains.
job, entry = until("a unit that trains", 90, lambda: next((one for one in running() if trains(slurm, *one)), None))
call("scontrol", "requeue", f"{job}_{entry}")
print(f"requeued {job}_{entry}")
until("it waits again", 30, lambda: [job, entry, "PENDING"] in queue() and not worker(entry))
# Slurm puts a requeued job off by minutes, so that the first one is over.
time.sleep(3)
call("scontrol", "update", f"jobid={job}_{entry}", "starttime=now")
log = slurm / "logs" / f"slurm-{job}_{entry}.txt"
until("it runs again", 60, lambda: log.read_text().count("run folder") == 2)
assert "2 networks, 1 finished" in log.read_text(), log.read_text()
# A later wave: one unit is killed as the kernel would kill it.
after = waves[waves.index(int(job)) + 1]
later = until("a later wave", 120, lambda: next((one for one in running() if int(one[0]) == after and worker(one[1])), None))
os.kill(worker(later[1]), 9)
print(f"killed {later[0]}_{later[1]}")
until("the queue is empty", 150, lambda: not queue())
status = call(binary, "sweep", "status", slurm)
print(status.strip().replace(here, "…"))
assert re.search(r"[12]  (failed|not started, cancelled or lost)", status), status
call(binary, "sweep", "retry", "--failed", slurm)
until("the queue is empty again", 150, lambda: not queue())
status = call(binary, "sweep", "status", slurm)
assert re.search(r" 6  finished", status), status
for name in ("sweep.json", "sweep.csv", "report.html"):
    assert (local / name).read_bytes() == (slurm / name).read_bytes(), name
for metrics in (odd / "by local").glob("points/*/metrics.json"):
    assert metrics.read_bytes() == (odd / "by slurm" / metrics.relative_to(odd / "by local")).read_bytes()
call(binary, "sweep", "aggregate", slurm)
assert not list(work.rglob("pwned")), "a name was run as a command"
print("sweep.json, sweep.csv, report.html, metrics.json: equal to the local engine's, byte for byte")
shutil.rmtree(work)
