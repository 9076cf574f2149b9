"""Whole lottery runs (35 rounds of 10 %, 6,000 digits, 2 epochs a round, batch 64, width 16) beside PyTorch's, by turns, each pair with a seed of
its own: training seconds and mean accuracy of each pair, then every fifth round's means over pairs.
usage: PYTHON=python-with-torch lottery.py PEERS_BENCH SHARED [PAIRS]   (on an idle machine; seven to twenty minutes a pair)"""
import json, os, pathlib, statistics, subprocess, sys, tempfile

bench, shared, pairs = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 3
scratch = pathlib.Path(tempfile.mkdtemp()) / "peer.json"


def ours(seed):
    command = [bench, "lottery", str(shared / "data/mnist"), "--batch", "64", "--seed", seed]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines[:-1]]


def theirs(seed):
    command = [os.environ.get("PYTHON", sys.executable), str(shared / "peers/imp_torch.py"), str(shared / "data/mnist"), "--train", "6000",
               "--epochs", "2", "--batch", "64", "--seed", seed, "--json", str(scratch)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads(scratch.read_text())


done = []
print("| pair | ours: training, s | PyTorch, s | ratio | ours: mean accuracy | PyTorch |\n|---|---|---|---|---|---|")
for pair in range(pairs):
    # Who goes first changes.
    sides = [ours, theirs] if pair % 2 == 0 else [theirs, ours]
    found = {side: side(str(pair)) for side in sides}
    done.append((found[ours], found[theirs]))
    total = [sum(row["train_seconds"] for row in side) for side in done[-1]]
    mean = [statistics.mean(row["accuracy"] for row in side) * 100 for side in done[-1]]
    print(f"| {pair + 1} | {total[0]:.0f} | {total[1]:.0f} | {total[0] / total[1]:.2f} | {mean[0]:.2f} | {mean[1]:.2f} |", flush=True)
print("\n| round | density | ours: accuracy | seconds | PyTorch: accuracy | seconds |\n|---|---|---|---|---|---|")
for place, row in enumerate(done[0][0]):
    if place % 5 == 0 or place + 1 == len(done[0][0]):
        mean = lambda side, key: statistics.mean(pair[side][place][key] for pair in done)
        accuracy, seconds = [[mean(side, key) for side in (0, 1)] for key in ("accuracy", "train_seconds")]
        print(f"| {row['round']} | {row['density'] * 100:.1f} % | {accuracy[0] * 100:.2f} | {seconds[0]:.1f} | {accuracy[1] * 100:.2f} | {seconds[1]:.1f} |")
