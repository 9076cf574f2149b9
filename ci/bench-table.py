"""Criterion's estimates as Markdown tables: bench-table.py TARGET/criterion   (after `cargo bench --bench benches`)
Throughput counts the operations of the dense pass whatever the density, so a sparse column over the dense one is the speed-up."""
import json, pathlib, sys

rows = {}
for file in sorted(pathlib.Path(sys.argv[1]).rglob("new/estimates.json")):
    bench = json.loads((file.parent / "benchmark.json").read_text())
    nanoseconds = json.loads(file.read_text())["median"]["point_estimate"]
    work = (bench.get("throughput") or {}).get("Elements")
    rows.setdefault(bench["group_id"], {}).setdefault(bench["function_id"], {})[bench["value_str"] or ""] = (nanoseconds, work)


def cell(value, group):
    if value is None:
        return ""
    nanoseconds, work = value
    time = f"{nanoseconds / 1e6:.2f} ms" if nanoseconds >= 1e6 else f"{nanoseconds / 1e3:.0f} µs"
    return time + (f", {work / nanoseconds:.0f} GFLOP/s" if work and group == "conv2d" else "")


for group, functions in rows.items():
    columns = sorted({column for values in functions.values() for column in values},
                     key=lambda text: (-float(text.split()[-1]) if text.startswith("density") else 0, text))
    wide = len(columns) <= 4
    print(f"\n### {group}\n")
    if wide:
        print("| | " + " | ".join(columns) + " |\n|---" + "|---:" * len(columns) + "|")
        for name, values in functions.items():
            print(f"| {name} | " + " | ".join(cell(values.get(column), group) for column in columns) + " |")
    else:
        print("| | size | time |\n|---|---|---:|")
        for name, values in functions.items():
            for column, value in values.items():
                print(f"| {name} | {column} | {cell(value, group)} |")
