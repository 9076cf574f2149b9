"""Puts the tables of an ablation between the markers of docs/as-published.md: python3 ci/ablation-table.py OUT/compare.md"""
import pathlib, re, sys, textwrap

text = pathlib.Path(sys.argv[1]).read_text()
page = pathlib.Path(__file__).parent.parent / "docs/as-published.md"

def section(title):
    return re.search(rf"^## {re.escape(title)}.*?(?=^## |\Z)", text, re.M | re.S).group().replace("\n## ", "\n### ").replace("## ", "### ", 1)

rows = [line.split(" | ") for line in text[: text.index("## Verdicts")].splitlines() if line.startswith("|")]
summary = "\n".join(" | ".join(row[:1] + row[2:]) for row in rows)  # without the list of defects: a row is named by its own
parts = [summary] + [section(title) for title in (
    "Test accuracy", "Accuracy difference to the reference (points)", "Maps against the reference's", "TCAV scores against the reference's",
    "Concept effects against the reference's", "TCAV scores for even")]
wrap = lambda line: line if line.startswith(("|", "#")) else textwrap.fill(line, 100)
parts = ["\n".join(map(wrap, part.strip().split("\n"))) for part in parts]
body = "<!-- ablation -->\n" + "\n\n".join(part.strip() for part in parts) + "\n<!-- /ablation -->"
page.write_text(re.sub(r"<!-- ablation -->.*?<!-- /ablation -->", lambda _: body, page.read_text(), flags=re.S))
