#!/usr/bin/env python3
"""Timings side by side, and the gate: gpu-table.py MODEL RESULTS RECORDS | --self-test

Reads ticketlens.jsonl, candle.jsonl and pytorch.jsonl of RESULTS; writes table.md and record.json there. Fails (exit 1) if an operation takes
more than LIMIT times the median of the record of this GPU model, RECORDS/MODEL.json, and more than FLOOR seconds longer. Without a record
nothing is gated, and it says so."""
import json, sys, tempfile
from pathlib import Path

LIMIT, FLOOR = 1.15, 5e-6


def rows(path):
    if not path.exists():
        return {}
    found = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        found[row["op"], row["size"], row["precision"]] = row["seconds"]
    return found


def table(model, results):
    ours, candle, torch = (rows(results / f"{who}.jsonl") for who in ["ticketlens", "candle", "pytorch"])
    number = lambda seconds: f"{1e6 * seconds:,.1f}" if seconds else "–"
    ratio = lambda other, mine: f"{other / mine:.2f}" if other and mine > 0 else "–"
    lines = [f"# {model}", "", "Medians in µs; a ratio above 1 means that ours is faster.", "",
             "| operation | size | precision | ours | Candle | PyTorch | Candle / ours | PyTorch / ours |",
             "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |"]
    for key, mine in ours.items():
        theirs = candle.get(key), torch.get(key)
        lines.append("| " + " | ".join([*key, number(mine), *map(number, theirs), *(ratio(other, mine) for other in theirs)]) + " |")
    return ours, "\n".join(lines) + "\n"


def gate(model, results, records):
    """Writes table and record; the operations that are slower than the record, or None without one."""
    ours, text = table(model, results)
    stored = records / (model.replace(" ", "-").replace("/", "-") + ".json")
    slower = None
    if not ours:
        text += "\nNothing was timed.\n"
    elif not stored.exists():
        text += f"\nNot gated: there is no record of this model ({stored.name}).\n"
    else:
        record, slower = json.loads(stored.read_text())["seconds"], []
        for key, mine in ours.items():
            before = record.get(" | ".join(key))
            if before and mine > LIMIT * before and mine > before + FLOOR:
                slower.append(f"{' | '.join(key)}: {1e6 * before:.1f} µs in the record, {1e6 * mine:.1f} now")
        text += "\n" + ("Slower than the record:\n" + "".join(f"- {line}\n" for line in slower) if slower else "Not slower than the record.\n")
    (results / "table.md").write_text(text)
    record = {"model": model, "seconds": {" | ".join(key): seconds for key, seconds in ours.items()}}
    (results / "record.json").write_text(json.dumps(record, indent=1) + "\n")
    return text, slower, bool(ours)


def self_test():
    with tempfile.TemporaryDirectory() as folder:
        results, records = Path(folder) / "results", Path(folder) / "records"
        results.mkdir(), records.mkdir()
        write = lambda scale: (results / "ticketlens.jsonl").write_text("".join(
            json.dumps({"op": "conv forward", "size": f"size {i}", "precision": "f32", "seconds": (1e-3 if i else 1e-6) * scale}) + "\n" for i in range(3)))
        write(1)
        (results / "pytorch.jsonl").write_text(json.dumps({"op": "conv forward", "size": "size 1", "precision": "f32", "seconds": 2e-3}) + "\n")
        text, slower, timed = gate("A GPU", results, records)
        assert slower is None and timed and "no record" in text and "| 2.00 |" in text, text
        (records / "A-GPU.json").write_text((results / "record.json").read_text())
        write(1.1)
        assert gate("A GPU", results, records)[1] == [], "within the limit"
        write(1.3)
        assert len(gate("A GPU", results, records)[1]) == 2, "two are slower; of a microsecond nothing is said"
        assert gate("Another GPU", results, records)[1] is None, "a record is of one model"
    print("gpu-table.py: self-test passed")


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        self_test()
    else:
        model, results, records = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
        text, slower, timed = gate(model, results, records)
        print(text)
        sys.exit(1 if slower or not timed else 0)
