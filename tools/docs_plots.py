"""Plots and tables of the benchmarks, from their JSON (`make docs`).

    python docs_plots.py JSON... FOLDER     the plots alone, as SVG files

bench.json is what `make bench` writes with --json, pool.json what the
benchmark of the pools writes. Any other file of the folder docs/benchmarks has {"machine": ..., "plots": [...]}, each plot being

    {"title": text,
     "x": {"label": text, "scale": "log" or "linear"}, "y": the same,
     "series": {name: [[x, y], ...]}}

as benchmarks/scaling.py writes it. An SVG is put into the page itself, so
that it has the colours of the theme; on its own it is black on white.
"""

import html
import json
import math
import pathlib
import re
import sys

OWN = "fpickle"  # is drawn first, and stronger than the others
NAMES = {"plain data": "pickle", "functions": "cloudpickle"}


def escape(text):
    return html.escape(str(text), quote=True)


def color(i):
    fallback = ("#0b6e4f", "#b5541c", "#4b5fc4", "#8a3d8f", "#6b6f76")
    n = i % len(fallback)
    return f"var(--plot-{n + 1}, {fallback[n]})"


class Picture:
    """An SVG that is being written."""

    def __init__(self, width, height, title):
        self.lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} '
            f'{height}" role="img" aria-label="{escape(title)}" '
            'font-family="sans-serif">',
            f"<title>{escape(title)}</title>",
        ]

    def text(self, x, y, text, size=12, anchor="start", kind="ink", more=""):
        self.lines.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" font-size="{size}" '
            f'text-anchor="{anchor}" {more}>{escape(text)}</text>')

    def line(self, x1, y1, x2, y2):
        self.lines.append(
            f'<line class="rule" stroke="#ccc" x1="{x1:.1f}" y1="{y1:.1f}" '
            f'x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def rect(self, x, y, width, height, fill, hint, opacity=1.0):
        self.lines.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}" rx="1.5" style="fill: {fill}" '
            f'opacity="{opacity}"><title>{escape(hint)}</title></rect>')

    def path(self, points, stroke, width):
        data = "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.lines.append(
            f'<path d="{data}" fill="none" style="stroke: {stroke}" '
            f'stroke-width="{width}" stroke-linejoin="round"/>')

    def dot(self, x, y, fill, hint):
        self.lines.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" style="fill: {fill}">'
            f"<title>{escape(hint)}</title></circle>")

    def finish(self):
        return "\n".join([*self.lines, "</svg>\n"])


def draw_bars(title, rows, peer):
    """Bars of ratios: [(name, {"dumps": ratio, "loads": ratio}), ...]."""
    left, right, top, step = 196, 40, 46, 31
    width, height = 520, top + step * len(rows) + 30
    highest = max(max(ratios.values()) for _, ratios in rows)
    lowest = min(1, *(min(ratios.values()) for _, ratios in rows))
    low, high = math.floor(math.log2(lowest)), math.log2(highest) * 1.04

    def place(ratio):
        return left + (math.log2(ratio) - low) / (high - low) * (
            width - left - right)

    picture = Picture(width, height, title)
    for i, operation in enumerate(("dumps", "loads")):
        x = left + 76 * i
        picture.rect(x, 8, 11, 11, color(i), operation)
        picture.text(x + 16, 18, operation, 13)
    picture.text(width - 4, 18, f"× {peer}, log scale", 12, "end", "faint")
    for power in range(low, math.floor(high) + 1):
        x = place(2.0**power)
        picture.line(x, top - 12, x, height - 26)
        picture.text(x, height - 10, f"{2.0**power:g}", 12, "middle", "faint")
    for i, (name, ratios) in enumerate(rows):
        y = top + step * i
        picture.text(left - 8, y + 14, name, 12, "end")
        for j, operation in enumerate(("dumps", "loads")):
            ratio = ratios[operation]
            begin, end = sorted((place(1.0), place(ratio)))
            where = y - 2 + 12 * j
            picture.rect(begin, where, max(end - begin, 1), 10.5, color(j),
                         f"{name}: {operation} {ratio:.2f} × {peer}")
            picture.text(max(end, begin) + 4, where + 9.5,
                         f"{ratio:.1f}", 10.5)
    return picture.finish()


def ticks(low, high, scale):
    """Where an axis has lines, with their texts."""
    if scale == "log":
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        every = 1 if last - first < 8 else 2
        return [10.0**p for p in range(first, last + 1, every)]
    step = 10 ** math.floor(math.log10((high or 1) / 2))
    if high / step > 10:
        step *= 5
    return [step * i for i in range(math.ceil(high / step) + 1)]


def shorten(value):
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g} {unit}"
    return f"{value:g}"


def draw_lines(plot):
    """Curves of one plot."""
    width, height, left, right, top, bottom = 400, 290, 52, 14, 62, 42
    series = dict(sorted(plot["series"].items(), key=lambda s: s[0] != OWN))
    points = [p for curve in series.values() for p in curve]
    picture = Picture(width, height, plot["title"])
    picture.text(2, 16, plot["title"], 14, more='font-weight="600"')

    places = {}
    for axis, i, begin, end in (("x", 0, left, width - right),
                                ("y", 1, height - bottom, top)):
        scale = plot[axis].get("scale", "linear")
        values = [p[i] for p in points]
        marks = ticks(min(values), max(values), scale)
        low, high = marks[0], max(marks[-1], max(values))
        measure = math.log10 if scale == "log" else float
        span = (measure(high) - measure(low)) or 1

        def place(value, begin=begin, end=end, low=low, measure=measure,
                  span=span):
            return begin + (measure(value) - measure(low)) / span * (
                end - begin)

        places[axis] = place
        for mark in marks:
            where = place(mark)
            if axis == "x":
                picture.line(where, top, where, height - bottom)
                picture.text(where, height - bottom + 16, shorten(mark), 11,
                             "middle", "faint")
            else:
                picture.line(left, where, width - right, where)
                picture.text(left - 6, where + 4, shorten(mark), 11, "end",
                             "faint")
    picture.text(width - right, height - 6, plot["x"]["label"], 12, "end",
                 "faint")
    picture.text(2, top - 10, plot["y"]["label"], 12, "start", "faint")
    x = left + 60
    for i, (name, curve) in reversed(list(enumerate(series.items()))):
        placed = [(places["x"](a), places["y"](b)) for a, b in curve]
        picture.path(placed, color(i), 2.6 if name == OWN else 1.8)
        for (a, b), (px, py) in zip(curve, placed):
            picture.dot(px, py, color(i),
                        f"{name}: {b:g} {plot['y']['label']} at {shorten(a)}")
    x = 2
    for i, name in enumerate(series):
        picture.rect(x, 27, 11, 11, color(i), name)
        picture.text(x + 15, 37, name, 12)
        x += 27 + 6.6 * len(name)
    return picture.finish()


def bench_rows(rows, group):
    """(name, ratios to the nearest peer) of the rows of a group."""
    peer = NAMES[group]
    return [
        (row["name"], {op: row["ratios"][op][peer]["median"]
                       for op in ("dumps", "loads")})
        for row in rows
        if row["group"] == group and peer in row["ratios"]["dumps"]
    ]


def bench_table(rows, group, operation):
    """A table of a group, with every peer, for dumps or loads."""
    rows = [row for row in rows if row["group"] == group]
    peers = [p for p in ("pickle", "marshal", "cloudpickle", "dill")
             if any(p in row["ratios"][operation] for row in rows)]
    heads = [operation, "µs", *(f"× {p}" for p in peers)]
    if operation == "dumps":
        heads.append("bytes")
    lines = ["| " + " | ".join(heads) + " |",
             "|---" + "|---:" * (len(heads) - 1) + "|"]
    for row in rows:
        cells = [row["name"], digits(row[operation] * 1e6)]
        for peer in peers:
            ratio = row["ratios"][operation].get(peer)
            cells.append(digits(ratio["median"]) if ratio else "")
        if operation == "dumps":
            cells.append(f"{row['sizes']['fpickle']:,}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def digits(value):
    """Three digits, or all of those before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


# Rows of pool.json whose time is that of an item, by the length of a task.
TASK = re.compile(r"map of 10\^\d+ items of (\d+) us")


def draw_values(title, values):
    """Bars of the values of one row, less being better."""
    left, right, top, step, width = 110, 64, 34, 22, 400
    height = top + step * len(values) + 6
    picture = Picture(width, height, title)
    picture.text(2, 16, title, 14, more='font-weight="600"')
    highest = max(values.values()) or 1
    for i, (name, value) in enumerate(values.items()):
        y = top + step * i
        long = value / highest * (width - left - right)
        picture.text(left - 8, y + 12, name, 12, "end")
        picture.rect(left, y, max(long, 1), 15, color(0 if i == 0 else 4),
                     f"{name}: {value:.4g}")
        picture.text(left + long + 5, y + 12, f"{value:.3g}", 11)
    return picture.finish()


# As many as there are colours; the table has all.
DRAWN = ("fpickle", "Pool", "Executor", "loky", "mpire")


def pool_plots(content):
    """What is drawn of the benchmark of the pools, and its table."""
    lengths, pictures = {}, []
    for row in content["rows"]:
        task = TASK.match(row["name"])
        for peer, value in row["values"].items():
            if task and value > 0 and peer in DRAWN:
                lengths.setdefault(peer, []).append(
                    (float(task[1]), 1e6 / value))
        if row["unit"] in ("MiB", "MB") and len(row["values"]) > 1:
            pictures.append(draw_values(f"{row['name']}, {row['unit']}",
                                        row["values"]))
    if lengths:
        pictures.insert(0, draw_lines({
            "title": "tasks per second", "series": lengths,
            "x": {"label": "length of a task, µs", "scale": "log"},
            "y": {"label": "tasks/s", "scale": "log"}}))
    peers = list(dict.fromkeys(
        peer for row in content["rows"] for peer in row["values"]))
    lines = ["| | " + " | ".join(peers) + " |",
             "|---" + "|---:" * len(peers) + "|"]
    for row in content["rows"]:
        cells = [f"{row['name']}, {row['unit']}"]
        for peer in peers:
            value = row["values"].get(peer)
            text = "" if value is None else digits(value)
            if peer in row["ratios"]:
                text += f" ({digits(row['ratios'][peer])}×)"
            cells.append(text)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([
        grid(pictures), *lines, "",
        "In parentheses: how many times as much as fpickle; above 1, fpickle "
        "is better.", ""])


def figure(svg, kind=""):
    return (f'```{{raw}} html\n<figure class="picture {kind}">\n{svg}</figure>'
            "\n```\n")


def grid(pictures):
    inside = "\n".join(f'<figure class="picture">\n{svg}</figure>'
                       for svg in pictures)
    return f'```{{raw}} html\n<div class="pictures">\n{inside}\n</div>\n```\n'


def machine_text(machine, versions):
    what = ", ".join(f"{name} {text}" for name, text in versions.items())
    text = (f"{machine['python']} ({machine['compiler']}), "
            f"{machine['cores']} cores of {machine['processor']}, "
            f"{machine['memory']} of memory, {machine['system']}")
    return f"{text}; {what}." if what else text + "."


def fill_page(text, folder):
    """The text of benchmarks.md, its comments replaced by what they ask."""
    bench = json.loads((folder / "bench.json").read_text())
    replaced = {"machine": machine_text(bench["machine"], bench["versions"])}
    replaced["memory"] = "\n".join([
        "| peak of memory, MB | fpickle | pickle |", "|---|---:|---:|",
        *(f"| {job} | {ours:.0f} | {theirs:.0f} |"
          for job, (ours, theirs) in bench["peaks"].items())])
    for group, peer in NAMES.items():
        rows = bench_rows(bench["rows"], group)
        name = group.split()[-1]
        svg = draw_bars(f"{group}: time of {peer} divided by that of fpickle",
                        rows, peer)
        replaced[f"bars {name}"] = figure(svg, "bars")
        for operation in ("dumps", "loads"):
            replaced[f"table {name} {operation}"] = bench_table(
                bench["rows"], group, operation)
    for path in sorted(folder.glob("*.json")):
        if path.stem == "bench":
            continue
        content = json.loads(path.read_text())
        if "plots" in content:
            parts = [grid(map(draw_lines, content["plots"]))]
        else:
            parts = [pool_plots(content)]
        machine = content.get("machine", bench["machine"])
        if machine != bench["machine"]:
            parts.append(machine_text(machine, {}))
        name = f"plots {path.stem}"
        replaced[name] = "\n".join(parts)
        if f"<!-- {name} -->" not in text:
            title = "Pools" if path.stem == "pool" else content["title"]
            text += f"\n## {title}\n\n<!-- {name} -->\n"
    for name, content in replaced.items():
        comment = f"<!-- {name} -->"
        if comment not in text:
            raise SystemExit(f"benchmarks.md has no place for {comment}")
        text = text.replace(comment, content)
    return text


def write(folder, target):
    page = target / "benchmarks.md"
    page.write_text(fill_page(page.read_text(), folder))


def main():
    *sources, folder = map(pathlib.Path, sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    for path in sources:
        content = json.loads(path.read_text())
        for i, plot in enumerate(content.get("plots", ())):
            (folder / f"{path.stem}-{i}.svg").write_text(draw_lines(plot))
        for group, peer in NAMES.items():
            rows = bench_rows(content.get("rows", ()), group)
            if rows:
                svg = draw_bars(group, rows, peer)
                (folder / f"{path.stem}-{group.split()[-1]}.svg").write_text(
                    svg)


if __name__ == "__main__":
    main()
