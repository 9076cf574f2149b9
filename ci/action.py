#!/usr/bin/env python3
"""Runs examples/ci's workflow with action.yml as they are written, in an empty repository: a dense network of fixtures/trained and its
floor are recorded, a retrained ticket passes, one pruned on without retraining is refused.

usage: ci/action.py [TICKETLENS]

Steps that are other actions (checkout, cache, upload) are named and left out; with a program given, the build is too, as by the action's
input `binary`.
"""
import gzip
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

try:
    import yaml
except ImportError:
    sys.exit(print("action: skipped, this Python has no yaml"))

ROOT = pathlib.Path(__file__).resolve().parent.parent
FLOOR = ["replicate-1-round-0", "replicate-0-twin-1-round-0", "replicate-1-twin-1-round-0"]


def expand(text, values):
    """`${{ name }}` by the values of the run; an unknown name is a fault of the action."""
    return re.sub(r"\$\{\{\s*(.+?)\s*\}\}", lambda found: values[found[1]], str(text))


def run_action(action, inputs, repository, scratch):
    """The exit code of the first step that fails, else 0; with what the steps printed and the job's summary."""
    unknown = set(inputs) - set(action["inputs"])
    assert not unknown, f"the workflow gives inputs that action.yml does not have: {unknown}"
    values = {f"inputs.{name}": str(inputs.get(name, of.get("default"))) for name, of in action["inputs"].items()}
    values |= {"github.action_path": str(ROOT), "runner.os": "Linux", "runner.arch": "X64"}
    printed, code = "", 0
    files = {name: scratch / name for name in ["GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"]}
    for file in files.values():
        file.write_text("")
    for step in action["runs"]["steps"]:
        given = values["inputs.binary"] != ""
        if "uses" in step or (given and step.get("if") == "inputs.binary == ''"):
            printed += f"[{step['name']}: left out]\n"
            continue
        if code:
            continue
        environment = os.environ | {name: expand(value, values) for name, value in step.get("env", {}).items()}
        environment |= {name: str(file) for name, file in files.items()} | {"RUNNER_TEMP": str(scratch)}
        # GitHub's own `shell: bash`.
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", expand(step["run"], values)]
        ran = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
        printed, code = printed + ran.stdout + ran.stderr, ran.returncode
        for line in files["GITHUB_OUTPUT"].read_text().splitlines():
            name, _, value = line.partition("=")
            values[f"steps.{step['id']}.outputs.{name}"] = value
    return code, printed, files["GITHUB_STEP_SUMMARY"].read_text()


def main():
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    program = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        repository = scratch / "repository"
        shutil.copytree(ROOT / "examples/ci", repository)
        subprocess.run(["git", "init", "-q", str(repository)], check=True)
        for folder in ["models", "validation", "reference"]:
            (repository / folder).mkdir()
        for file in (ROOT / "fixtures/mnist").glob("t10k-*"):
            shutil.copy(file, repository / "validation" / file.name)
        trained = ROOT / "fixtures/trained"
        (workflow,) = (repository / ".github/workflows").glob("*.yml")
        (job,) = yaml.safe_load(workflow.read_text())["jobs"].values()
        (step,) = [step for step in job["steps"] if "ticketlens" in step["uses"]]
        inputs = step["with"] | ({"binary": str(program)} if program else {})
        images = repository / "validation/t10k-images-idx3-ubyte.gz"
        labels = repository / "validation/t10k-labels-idx1-ubyte.gz"
        # What the fixture's networks tell apart: even and odd.
        digits = gzip.decompress(labels.read_bytes())[8:]
        even_odd = repository / "validation/labels.txt"
        even_odd.write_text("".join(f"{digit % 2}\n" for digit in digits))
        dense = trained / "replicate-0-round-0.safetensors"
        floor = [str(trained / f"{name}.safetensors") for name in FLOOR]
        ticketlens = program or pathlib.Path.home() / ".ticketlens/bin/ticketlens"
        if program is None:
            shutil.copy(dense, repository / "models/pruned.pth")
            code, printed, _ = run_action(action, inputs, repository, scratch)
            print(printed)
            assert code == 2, "without a record there is nothing to compare with"
        recording = [ticketlens, "record", "--checkpoint", dense, "--floor", *floor, "--images", images.relative_to(repository),
                     "--labels", even_odd.relative_to(repository), "--out", "reference/explanations.json"]
        subprocess.run(recording, cwd=repository, check=True)
        # A retrained ticket passes. The same checkpoint with 1 % of its weights, and not retrained, is refused.
        ticket = trained / "replicate-0-round-4.safetensors"
        shutil.copy(ticket, repository / "models/pruned.pth")
        pruning = ["prune", "--weights", "models/pruned.pth", "--fraction", "0.9", "--levels", "2", "--out", "mask.safetensors"]
        subprocess.run([ticketlens, *pruning], cwd=repository, check=True)
        for more, expected in [("", 0), (" --mask mask.safetensors", 1)]:
            arguments = inputs["arguments"] + more
            code, printed, summary = run_action(action, inputs | {"arguments": arguments}, repository, scratch)
            print(printed, summary, sep="\n")
            assert code == expected, f"{arguments}: exit code {code}, expected {expected}"
            assert "| models/pruned.pth |" in summary, "the job has a summary"
            assert (repository / "drift.html").stat().st_size > 10_000, "there is a page"
            (repository / "drift.html").unlink()
    print("action: the workflow passes a kept model and refuses a changed one")


if __name__ == "__main__":
    main()
