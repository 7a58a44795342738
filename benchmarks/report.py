"""How the benchmarks print: one table, for a terminal or in Markdown."""

import platform
import statistics

PEERS = ("pickle", "marshal", "cloudpickle", "dill")
CROSSED = {"foreign": "pickle's stream", "stock": "stock loads"}
WIDTH = 210  # columns that the table may need


def microseconds(seconds):
    value = seconds * 1e6
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def cells(row):
    """The texts of one row."""
    texts = [row["name"]]
    for operation in ("dumps", "loads"):
        texts.append(microseconds(row[operation]))
        for peer in PEERS:
            ratio = row["ratios"][operation].get(peer)
            if ratio is None:
                texts.append("")
            elif peer == nearest_peer(row["sizes"]):
                texts.append(ratio.with_spread())
            else:
                texts.append(str(ratio))
    for ratios in crossed_ratios(row):
        texts.append("" if ratios is None else f"{ratios:.2f}")
    texts.append(f"{row['sizes']['fpickle']:,}")
    size = size_ratio(row)
    texts.append("" if size is None else f"{size:.2f}")
    return texts


def nearest_peer(streams):
    """The one of the writers of [streams] that is shown in full."""
    return "pickle" if "pickle" in streams else "cloudpickle"


def size_ratio(row):
    other = row["sizes"].get(nearest_peer(row["sizes"]))
    return None if other is None else row["sizes"]["fpickle"] / other


def crossed_ratios(row):
    """The medians of CROSSED, None for what was not measured."""
    found = [list(row["crossed"].get(name, {}).values()) for name in CROSSED]
    return [ratios[0].median if ratios else None for ratios in found]


def mean_cells(rows):
    """The geometric means over [rows], as the texts of one row."""
    texts = [f"geometric mean of {len(rows)}"]
    for operation in ("dumps", "loads"):
        texts.append("")
        for peer in PEERS:
            found = [row["ratios"][operation].get(peer) for row in rows]
            texts.append(mean_text([r and r.median for r in found]))
    columns = list(zip(*map(crossed_ratios, rows)))
    texts += map(mean_text, columns)
    texts += ["", mean_text([size_ratio(row) for row in rows])]
    return texts


def mean_text(ratios):
    """Empty where a ratio is missing: it could not be compared."""
    return "" if None in ratios else f"{statistics.geometric_mean(ratios):.2f}"


def headings():
    heads = [""]
    for operation in ("dumps", "loads"):
        heads.append(f"{operation} µs")
        heads += [f"× {peer}" for peer in PEERS]
    return heads + [*CROSSED.values(), "bytes", "size"]


def caption(versions):
    others = ", ".join(f"{name} {text}" for name, text in versions.items())
    return (
        f"CPython {platform.python_version()} on {platform.system()} "
        f"{platform.machine()}; {others}. Times are fpickle's; × says how many "
        "times as long the other takes (above 1, fpickle is faster), ± half the "
        "distance between the quartiles. \"pickle's stream\" is how many times "
        "as long pickle.loads takes for what pickle wrote as fpickle.loads; "
        "\"stock loads\" how many times as long pickle.loads takes for "
        "pickle's stream as for fpickle's. Size is ours divided by pickle's. "
        "For functions cloudpickle stands in for pickle. Rows that begin with "
        "\"first\" dump what no pickler has seen before, and load classes that "
        "the process does not have. All at protocol 5."
    )


def groups_of(rows):
    """The texts of the table, group by group."""
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group]
        lines = [cells(row) for row in members]
        yield group, lines, mean_cells(members)


def print_terminal(rows, versions):
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(Console().width, WIDTH))
    table = Table(
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        caption=caption(versions),
        caption_justify="left",
    )
    for i, heading in enumerate(headings()):
        table.add_column(
            heading, justify="right" if i else "left", no_wrap=True
        )
    for _, lines, means in groups_of(rows):
        for line in lines:
            table.add_row(*line)
        table.add_section()
        table.add_row(*means, style="bold")
        table.add_section()
    console.print(table)


def print_markdown(rows, versions):
    heads = headings()
    print("| " + " | ".join(heads) + " |")
    print("|---" + "|---:" * (len(heads) - 1) + "|")
    for _, lines, means in groups_of(rows):
        for line in lines:
            print("| " + " | ".join(line) + " |")
        print("| " + " | ".join(f"**{t}**" if t else "" for t in means) + " |")
    print()
    print(caption(versions))
