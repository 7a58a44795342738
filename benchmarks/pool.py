"""fpickle's pools beside other process pools.

    python pool.py [--quick] [--markdown] [--json FILE] [-k NAME]
                   [--peers NAMES] [--long]

Each row is measured for all pools in the same rounds, the first one changing
with the round; reported are the medians, and the median of the ratios to
fpickle within a round.  "CPU" counts the processor time of this process and of
all below it.  --long adds 100,000 large payloads and 10,000,000 items.

pool_rows.py has the rows, pool_peers.py the pools.
"""

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import re
import statistics
import sys

import machine
import pool_rows
from pool_peers import PEERS


def rounds_of(row, options):
    return max(1, (row.rounds + 1) // 2 if options.quick else row.rounds)


def measure(row, peers, options):
    """{peer: [value of each round]}, and {peer: error} of those that fail."""
    values = {peer: [] for peer in peers}
    failed = {}
    for number in range(rounds_of(row, options)):
        first = number % len(peers)
        for peer in peers[first:] + peers[:first]:
            if peer in failed:
                continue
            if row.once_is_enough and values[peer] and (
                    values[peer][0] > row.once_is_enough):
                continue
            gc.collect()
            progress(f"{row.name}, {peer.name}, round {number + 1}")
            try:
                values[peer].append(row.measure(peer, options.quick))
            except pool_rows.NotMeant as reason:
                failed[peer] = str(reason)
            except Exception as error:
                failed[peer] = f"{type(error).__name__}: {error}"
    return values, failed


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def summarize(row, values, failed):
    """The row as it is printed and saved."""
    found = {peer.name: statistics.median(v)
             for peer, v in values.items() if v}
    base = next((v for peer, v in values.items()
                 if v and peer.name in row.ours), None)
    ratios = {}
    for peer, v in values.items():
        if not v or base is None or peer.name in row.ours:
            continue
        pairs = [(theirs / ours if row.less_is_better else ours / theirs)
                 for ours, theirs in zip(base, v) if ours and theirs]
        if pairs:
            ratios[peer.name] = statistics.median(pairs)
    return {"name": row.name, "unit": row.unit, "values": found,
            "ratios": ratios, "failed": {p.name: t for p, t in failed.items()},
            "rounds": {p.name: v for p, v in values.items()}}


def text_of(value):
    if value is None:
        return ""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def cells(row, peers):
    texts = [f"{row['name']}, {row['unit']}"]
    for peer in peers:
        value = row["values"].get(peer.name)
        text = text_of(value)
        if peer.name in row["ratios"]:
            text += f" ({text_of(row['ratios'][peer.name])}x)"
        if value is None and peer.name in row["failed"]:
            text = "fails" if ":" in row["failed"][peer.name] else ""
        texts.append(text)
    return texts


def caption(peers):
    versions = []
    for name in ("loky", "mpire", "multiprocess"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            pass
    return (f"CPython {platform.python_version()}, {platform.system()} "
            f"{platform.machine()}, {len(os.sched_getaffinity(0))} CPUs, "
            f"{pool_rows.WORKERS} workers; {', '.join(versions)}. In "
            "parentheses: how many times as much as fpickle (above 1, fpickle "
            "is better). Peers start by fork unless the row says otherwise.")


def print_table(rows, peers, markdown):
    lines = [["", *(peer.name for peer in peers)]]
    lines += [cells(row, peers) for row in rows]
    if markdown:
        for i, line in enumerate(lines):
            print("| " + " | ".join(line) + " |")
            if i == 0:
                print("|---" + "|---:" * (len(line) - 1) + "|")
    else:
        widths = [max(map(len, column)) for column in zip(*lines)]
        for line in lines:
            print(line[0].ljust(widths[0]), *(
                text.rjust(width)
                for text, width in zip(line[1:], widths[1:])), sep="  ")
    print()
    print(caption(peers))
    for row in rows:
        for name, text in row["failed"].items():
            if ":" in text:
                print(f"{row['name']}, {name}: {text}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true",
                        help="fewer rounds, fewer tasks")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", metavar="FILE", help="all numbers")
    parser.add_argument("-k", metavar="NAME", default="",
                        help="only rows that match")
    parser.add_argument("--peers", metavar="NAMES", default="",
                        help="only pools that match")
    parser.add_argument("--long", action="store_true")
    options = parser.parse_args()
    peers = [peer for peer in PEERS if peer.installed()
             and re.search(options.peers, peer.name)]
    rows = [row for row in pool_rows.ROWS
            if re.search(options.k, row.name)
            and (options.long or not row.long)]
    if not rows or not peers:
        parser.error("nothing matches")
    done = []
    for row in rows:
        done.append(summarize(row, *measure(
            row, [peer for peer in peers if row.fits(peer)], options)))
        if options.json:  # after each row: the whole takes long
            with open(options.json, "w") as file:
                json.dump({"machine": machine.describe(), "rows": done}, file,
                          indent=1)
    progress("")
    print_table(done, peers, options.markdown)


if __name__ == "__main__":
    main()
