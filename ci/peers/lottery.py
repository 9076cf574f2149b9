"""A whole lottery run (35 rounds of 10 %, 6,000 digits, 2 epochs a round, batch 64, width 16) beside PyTorch's: training seconds and accuracy by round.
usage: PYTHON=python-with-torch lottery.py PEERS_BENCH SHARED [ROUNDS]   (on an idle machine; about 15 minutes)"""
import json, os, pathlib, statistics, subprocess, sys, tempfile

bench, shared = sys.argv[1], pathlib.Path(sys.argv[2])
rounds = sys.argv[3] if len(sys.argv) > 3 else "35"
scratch = pathlib.Path(tempfile.mkdtemp()) / "peer.json"
ours = subprocess.run([bench, "lottery", str(shared / "data/mnist"), "--rounds", rounds, "--batch", "64"], capture_output=True, text=True, check=True)
ours = [json.loads(line) for line in ours.stdout.splitlines()]
peak, ours = ours[-1]["peak_mb"], ours[:-1]
subprocess.run([os.environ.get("PYTHON", sys.executable), str(shared / "peers/imp_torch.py"), str(shared / "data/mnist"), "--train", "6000", "--epochs", "2",
                "--batch", "64", "--rounds", rounds, "--json", str(scratch)], check=True, stdout=subprocess.DEVNULL)
theirs = json.loads(scratch.read_text())
print("| round | density | ours: accuracy | seconds | PyTorch: accuracy | seconds |\n|---|---|---|---|---|---|")
for a, b in zip(ours, theirs):
    print(f"| {a['round']} | {a['density'] * 100:.1f} % | {a['accuracy'] * 100:.2f} | {a['train_seconds']:.1f} | {b['accuracy'] * 100:.2f} | {b['train_seconds']:.1f} |")
total = [sum(row["train_seconds"] for row in side) for side in (ours, theirs)]
mean = [statistics.mean(row["accuracy"] for row in side) * 100 for side in (ours, theirs)]
print(f"\ntraining {total[0]:.0f} s against {total[1]:.0f} s: ratio {total[0] / total[1]:.2f}; mean accuracy {mean[0]:.2f} against {mean[1]:.2f}; our peak {peak:.0f} MB")
