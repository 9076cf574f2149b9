#!/usr/bin/env python3
"""The lottery beside re-initialised masks, from the records of a run: a table in Markdown and a figure in SVG.

    ticketlens run lenet-mnist --set data.path=MNIST --set train.epochs=6 --out runs/lenet
    python3 ci/lenet.py runs/lenet lenet.svg > lenet.md

For each density: test accuracy (mean over replicates, 95 % t interval), its paired difference to the dense parent, and the training
loss of the first epoch, which tells how fast a network learns. Standard library only."""
import json, math, pathlib, statistics, sys

# Two-sided 95 % points of Student's t by degrees of freedom.
T = [math.nan, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131]
COLOURS = {"lottery": "#1b6ca8", "reinit": "#c4572b", "random_mask": "#6a8f3c"}


def interval(values):
    """Mean and half width."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan
    t = T[len(values) - 1] if len(values) <= len(T) else 1.96
    return mean, t * statistics.stdev(values) / math.sqrt(len(values))


def told(values, scale=100.0, digits=2):
    mean, half = interval([scale * value for value in values])
    return f"{mean:.{digits}f}" + ("" if math.isnan(half) else f" ± {half:.{digits}f}")


def read(run):
    """`{arm: {round: {replicate: record}}}`; the dense network is round 0 of every arm."""
    arms = {}
    for path in sorted(pathlib.Path(run).glob("replicate-*/**/round.json")):
        record = json.loads(path.read_text())
        if not record["arm"].startswith("twin-"):
            arms.setdefault(record["arm"], {}).setdefault(record["round"], {})[record["replicate"]] = record
    if "lottery" not in arms:
        sys.exit(f"{run}: holds no finished round of a lottery")
    for rounds in arms.values():
        rounds.setdefault(0, arms["lottery"][0])
    return {arm: arms[arm] for arm in sorted(arms, key=lambda arm: (arm != "lottery", arm))}


def table(arms):
    dense = arms["lottery"][0]
    print("| weights kept | " + " | ".join(f"{arm}: accuracy % | minus dense | loss of epoch 1" for arm in arms) + " |")
    print("| --- |" + " --- |" * (3 * len(arms)))
    for index in sorted(arms["lottery"]):
        density = statistics.fmean(record["density"] for record in arms["lottery"][index].values())
        cells = []
        for rounds in arms.values():
            records = {key: record for key, record in rounds.get(index, {}).items() if key in dense}
            if not records:
                cells += ["", "", ""]
                continue
            accuracy = [record["test_accuracy"] for record in records.values()]
            paired = [record["test_accuracy"] - dense[key]["test_accuracy"] for key, record in records.items()]
            first = [record["epoch_loss"][0] for record in records.values()]
            cells += [told(accuracy), "" if index == 0 else told(paired), told(first, 1.0, 3)]
        print(f"| {100 * density:.1f} % | " + " | ".join(cells) + " |")


def figure(arms):
    """Accuracy over density, logarithmic, with intervals."""
    points = {
        arm: [
            (statistics.fmean(r["density"] for r in records.values()), *interval([100 * r["test_accuracy"] for r in records.values()]))
            for _, records in sorted(rounds.items())
        ]
        for arm, rounds in arms.items()
    }
    every = [(density, mean, 0.0 if math.isnan(half) else half) for line in points.values() for density, mean, half in line]
    low, high = min(m - h for _, m, h in every), max(m + h for _, m, h in every)
    low, high = math.floor(low), max(math.ceil(high), math.floor(low) + 1)
    least = min(density for density, _, _ in every)
    x = lambda density: 60 + 520 * (math.log(density) / min(math.log(least), -1e-9))
    y = lambda accuracy: 20 + 260 * (high - accuracy) / (high - low)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 330" font-family="sans-serif" font-size="12">',
           '<rect width="640" height="330" fill="white"/>']
    for tick in range(5):
        value = low + (high - low) * tick / 4
        out.append(f'<path d="M60 {y(value):.1f}H580" stroke="#ddd"/><text x="54" y="{y(value) + 4:.1f}" text-anchor="end">{value:.1f}</text>')
    for density, _, _ in points["lottery"]:
        out.append(f'<text x="{x(density):.1f}" y="296" text-anchor="middle" font-size="9">{100 * density:.3g}</text>')
    out.append('<text x="320" y="318" text-anchor="middle">weights kept, %</text><text x="60" y="14">test accuracy, %</text>')
    for place, (arm, line) in enumerate(points.items()):
        colour = COLOURS.get(arm, "#555")
        for density, mean, half in line:
            if not math.isnan(half):
                out.append(f'<path d="M{x(density):.1f} {y(mean - half):.1f}V{y(mean + half):.1f}" stroke="{colour}"/>')
        path = " ".join(f"{x(density):.1f},{y(mean):.1f}" for density, mean, _ in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<text x="{200 + 110 * place}" y="14" fill="{colour}">{arm}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    found = read(sys.argv[1])
    table(found)
    if len(sys.argv) == 3:
        pathlib.Path(sys.argv[2]).write_text(figure(found))
