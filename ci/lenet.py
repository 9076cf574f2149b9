#!/usr/bin/env python3
"""The lottery beside re-initialised masks, from the records of runs: a table in Markdown and a figure in SVG.

    ticketlens run lenet-mnist --set data.path=MNIST --set train.epochs=6 --out runs/lenet
    python3 ci/lenet.py runs/lenet lenet.svg > lenet.md

Replicates of several runs (RUN RUN … FIGURE.svg) are taken together; without the figure's name none is drawn.
For each density, as means over replicates with 95 % t intervals: test accuracy at the end of training, its paired difference to the
dense parent, the step of least validation loss (where training would be stopped early: how fast a network learns) and validation
accuracy at step 500; then the paired differences at the densities that the paper speaks of. Needs a plan with `train.look_every`.
Standard library only."""
import json, math, pathlib, statistics, sys

# Two-sided 95 % points of Student's t by degrees of freedom.
T = [math.nan, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131]
# Steps after which accuracy tells how fast a network learns.
EARLY = 500
# Densities that the paper speaks of, in percent.
NAMED = [51.3, 21.1, 13.5, 3.6]
COLOURS = {"lottery": "#1b6ca8", "reinit": "#c4572b", "random_mask": "#6a8f3c"}


def interval(values):
    """Mean and half width."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan
    t = T[len(values) - 1] if len(values) <= len(T) else 1.96
    return mean, t * statistics.stdev(values) / math.sqrt(len(values))


def told(values, scale=100.0, digits=2, sign=""):
    mean, half = interval([scale * value for value in values])
    return f"{mean:{sign}.{digits}f}".replace("-", "−") + ("" if math.isnan(half) else f" ± {half:.{digits}f}")


def final(record):
    return record["test_accuracy"]


def stop(record):
    """The step of least validation loss, the first of equals."""
    return min(record["looks"], key=lambda look: look["loss"])["step"]


def early(record):
    return next(look["accuracy"] for look in record["looks"] if look["step"] == EARLY)


def read(runs):
    """`{arm: {round: {(run, replicate): record}}}`; the dense network is round 0 of every arm."""
    arms = {}
    for run in runs:
        for path in sorted(pathlib.Path(run).glob("replicate-*/**/round.json")):
            record = json.loads(path.read_text())
            if not record["arm"].startswith("twin-"):
                arms.setdefault(record["arm"], {}).setdefault(record["round"], {})[run, record["replicate"]] = record
    if "lottery" not in arms:
        sys.exit(f"{runs[0]}: holds no finished round of a lottery")
    for rounds in arms.values():
        rounds.setdefault(0, arms["lottery"][0])
        if not all(record.get("looks") for records in rounds.values() for record in records.values()):
            sys.exit(f"{runs[0]}: the plan has no `train.look_every`")
    return {arm: arms[arm] for arm in sorted(arms, key=lambda arm: (arm != "lottery", arm))}


def density(records):
    return statistics.fmean(record["density"] for record in records.values())


def paired(one, other, measure):
    """Differences within replicates."""
    return [measure(one[key]) - measure(other[key]) for key in one if key in other]


def table(arms):
    dense = arms["lottery"][0]
    heads = ["accuracy, %", "− dense", "early stop, step", f"at step {EARLY}, %"]
    print("| weights kept | " + " | ".join(f"{arm}: {head}" for arm in arms for head in heads) + " |")
    print("| --- |" + " --- |" * (len(heads) * len(arms)))
    for index, tickets in sorted(arms["lottery"].items()):
        cells = []
        for arm, rounds in arms.items():
            records = rounds.get(index, {}) if index > 0 or arm == "lottery" else {}
            if not records:
                cells += [""] * len(heads)
                continue
            every = lambda measure: [measure(record) for record in records.values()]
            difference = told(paired(records, dense, final), sign="+") if index else ""
            cells += [told(every(final)), difference, told(every(stop), 1.0, 0), told(every(early))]
        print(f"| {100 * density(tickets):.1f} % | " + " | ".join(cells) + " |")


def claims(arms):
    """Paired differences at the densities that the paper names."""
    dense = arms["lottery"][0]
    print("\n| | accuracy, points | early stop, steps | at step %d, points |\n| --- | --- | --- | --- |" % EARLY)
    for named in NAMED:
        index = min(arms["lottery"], key=lambda index: abs(100 * density(arms["lottery"][index]) - named))
        tickets = arms["lottery"][index]
        pairs = [("ticket − dense", tickets, dense)]
        pairs += [(f"{arm} − ticket", arms[arm][index], tickets) for arm in arms if arm != "lottery" and index in arms[arm]]
        for name, one, other in pairs:
            cells = [told(paired(one, other, final), sign="+"), told(paired(one, other, stop), 1.0, 0, "+"), told(paired(one, other, early), sign="+")]
            print(f"| {100 * density(tickets):.1f} %, {name} | " + " | ".join(cells) + " |")


def panel(arms, title, measure, scale, top):
    """A measure over density, logarithmic, with intervals, in the 260 units below `top`."""
    points = {
        arm: [(density(records), *interval([scale * measure(r) for r in records.values()])) for _, records in sorted(rounds.items())]
        for arm, rounds in arms.items()
    }
    every = [(kept, mean, 0.0 if math.isnan(half) else half) for line in points.values() for kept, mean, half in line]
    low, high = min(m - h for _, m, h in every), max(m + h for _, m, h in every)
    unit = 10 ** math.floor(math.log10(max(high - low, 1e-9)))
    low, high = unit * math.floor(low / unit), unit * math.ceil(high / unit)
    high = max(high, low + unit)
    least = min(kept for kept, _, _ in every)
    x = lambda kept: 60 + 520 * (math.log(kept) / min(math.log(least), -1e-9))
    y = lambda value: top + 20 + 200 * (high - value) / (high - low)
    out = [f'<text x="60" y="{top + 12}">{title}</text>']
    for tick in range(5):
        value = low + (high - low) * tick / 4
        out.append(f'<path d="M60 {y(value):.1f}H580" stroke="#ddd"/>')
        out.append(f'<text x="54" y="{y(value) + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    for kept, _, _ in points["lottery"]:
        out.append(f'<text x="{x(kept):.1f}" y="{top + 234}" text-anchor="middle" font-size="9">{100 * kept:.3g}</text>')
    for place, (arm, line) in enumerate(points.items()):
        colour = COLOURS.get(arm, "#555")
        for kept, mean, half in line:
            if not math.isnan(half):
                out.append(f'<path d="M{x(kept):.1f} {y(mean - half):.1f}V{y(mean + half):.1f}" stroke="{colour}"/>')
        path = " ".join(f"{x(kept):.1f},{y(mean):.1f}" for kept, mean, _ in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<text x="{400 + 90 * place}" y="{top + 12}" fill="{colour}">{arm}</text>')
    return out


def figure(arms):
    panels = [("test accuracy at the end, %", final, 100.0), ("early stop, step", stop, 1.0), (f"validation accuracy at step {EARLY}, %", early, 100.0)]
    height = 250 * len(panels) + 20
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="640" height="{height}" fill="white"/>']
    for nth, (title, measure, scale) in enumerate(panels):
        out += panel(arms, title, measure, scale, 250 * nth)
    out.append(f'<text x="320" y="{height - 6}" text-anchor="middle">weights kept, %</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


if __name__ == "__main__":
    given = sys.argv[1:]
    drawn = given.pop() if given and given[-1].endswith(".svg") else None
    if not given:
        sys.exit(__doc__)
    found = read(given)
    table(found)
    claims(found)
    if drawn:
        pathlib.Path(drawn).write_text(figure(found))
