"""Pages for reports and sizes: one file each, nothing from the network."""

import html
import json
import os
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --back: #fdfdfc; --text: #1d1f23;
  --soft: #5d6470; --line: #d9dce1; --card: #ffffff; --bad: #b3261e;
  --good: #1b7f3b; --warn: #8a5a00; --bar: #4c78b8; --light: 82%; --sat: 55%;
  --box: #1d1f23; }
@media (prefers-color-scheme: dark) {
  :root { --back: #16181c; --text: #e8e9ec; --soft: #a0a6b1; --line: #353a43;
    --card: #1e2127; --bad: #ff8a80; --good: #7ddc97; --warn: #ffc966;
    --bar: #7aa5e0; --light: 30%; --sat: 38%; --box: #f2f3f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 75rem; background:
  var(--back); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.35rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 1.6rem 0 .5rem; }
code, .path { font-family: ui-monospace, monospace; font-size: .88em;
  overflow-wrap: anywhere; }
.chips { display: flex; flex-wrap: wrap; gap: .4rem; margin: 0; padding: 0;
  list-style: none; }
.chips li { border: 1px solid var(--line); border-radius: 1rem; padding:
  .1rem .7rem; background: var(--card); }
.good { color: var(--good); } .bad { color: var(--bad); }
.warn { color: var(--warn); }
.card { background: var(--card); border: 1px solid var(--line);
  border-left: .3rem solid var(--bad); border-radius: .4rem; margin: .5rem 0;
  padding: .5rem .8rem; overflow-wrap: anywhere; }
.card.note { border-left-color: var(--warn); }
.card p { margin: .15rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th { text-align: left; color: var(--soft); font-weight: 600; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem .3rem 0;
  vertical-align: top; }
td.number { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.soft { color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: .2rem; margin-bottom: .4rem; }
nav button, .rows button { font: inherit; font-size: .9rem; color:
  var(--bar); background: none; border: 0; padding: .1rem .2rem; cursor:
  pointer; text-align: left; overflow-wrap: anywhere; }
nav button:not(:last-child)::after { content: " \\203a"; color: var(--soft); }
#map { position: relative; width: 100%; height: min(60vh, 34rem);
  min-height: 18rem; border: 1px solid var(--line); border-radius: .4rem;
  overflow: hidden; background: var(--card); }
#map button { position: absolute; border: 1px solid var(--back); margin: 0;
  padding: .15rem .3rem; overflow: hidden; text-align: left; font: .8rem/1.25
  ui-monospace, monospace; color: var(--box); cursor: pointer; display: flex;
  flex-direction: column; align-items: flex-start; justify-content:
  flex-start; white-space: pre; }
#map button span { display: block; max-width: 100%; overflow: hidden; text-overflow: ellipsis;
  pointer-events: none; }
#map button.leaf { cursor: default; }
button:focus-visible { outline: 3px solid var(--bar); outline-offset: -3px; }
.rows { margin-top: .6rem; }
.bar { height: .45rem; min-width: 1px; background: var(--bar); border-radius:
  .2rem; }
.share { width: 30%; min-width: 4rem; vertical-align: middle; }
.scroll td { overflow-wrap: anywhere; min-width: 5rem; }
@media (max-width: 40rem) { body { padding: .7rem; font-size: 15px; }
  .wide, .scroll thead { display: none; }
  .scroll tr { display: block; border-bottom: 1px solid var(--line);
    padding: .3rem 0; }
  .scroll td { display: block; border: 0; padding: .1rem 0; }
  .scroll td:empty { display: none; }
  .scroll td.number { text-align: left; } }
"""

# The treemap: squarified (Bruls, Huizing, van Wijk), two levels at a time.
# Nothing of the data becomes markup: all of it is set as text.
_SCRIPT = """
"use strict";
const root = JSON.parse(document.getElementById("data").textContent);
const map = document.getElementById("map");
const rows = document.getElementById("rows");
const trail = document.getElementById("trail");
const units = ["bytes", "kB", "MB", "GB"];
function size(n) {
  let i = 0, x = n;
  while (x >= 1000 && i < 3) { x /= 1000; i++; }
  return (i ? x.toFixed(1) : x) + " " + units[i];
}
function hue(text) {
  let h = 7;
  for (const c of text) h = (h * 31 + c.codePointAt(0)) % 360;
  return h;
}
function step(node, parent) {
  const text = node.path.slice(parent ? parent.path.length : 0).trim();
  return text || node.path;
}
function parts(node) {
  const list = node.children.map(n => ({node: n, name: step(n, node),
    total: n.total, type: n.type || "several types"}));
  const rest = node.total - list.reduce((sum, p) => sum + p.total, 0);
  if (rest > 0 && list.length)
    list.push({node: null, name: "(of itself, and what is small)",
               total: rest, type: node.type || ""});
  return list.filter(p => p.total > 0).sort((a, b) => b.total - a.total);
}
function worst(row, side, scale) {
  const sum = row.reduce((s, p) => s + p.total, 0) * scale;
  const most = row[0].total * scale, least = row[row.length - 1].total * scale;
  return Math.max(side * side * most / (sum * sum),
                  sum * sum / (side * side * least));
}
function squarify(list, x, y, w, h, put) {
  const all = list.reduce((s, p) => s + p.total, 0);
  if (!all || w < 2 || h < 2) return;
  const scale = w * h / all;
  let i = 0;
  while (i < list.length) {
    const side = Math.min(w, h);
    let row = [list[i++]];
    while (i < list.length &&
           worst(row.concat([list[i]]), side, scale) <=
           worst(row, side, scale)) row.push(list[i++]);
    const depth = row.reduce((s, p) => s + p.total, 0) * scale / side;
    let at = 0;
    for (const p of row) {
      const length = p.total * scale / depth;
      if (w >= h) put(p, x, y + at, depth, length);
      else put(p, x + at, y, length, depth);
      at += length;
    }
    if (w >= h) { x += depth; w -= depth; } else { y += depth; h -= depth; }
  }
}
function box(p, x, y, w, h, level, way) {
  const b = document.createElement("button");
  b.type = "button";
  b.style.left = x + "px"; b.style.top = y + "px";
  b.style.width = w + "px"; b.style.height = h + "px";
  b.style.background = "hsl(" + hue(p.type) + " var(--sat) calc(var(--light)"
    + (level ? " + 7%" : "") + "))";
  const many = p.node && p.node.count > 1 ? p.node.count + " x " : "";
  b.title = (p.node ? p.node.path : p.name) + "\\n" + many + p.type + "\\n" +
    size(p.total) + ", " + (100 * p.total / root.total).toFixed(1) + "%";
  b.setAttribute("aria-label", b.title);
  if (w > 42 && h > 18) {
    for (const text of [p.name, size(p.total), many + p.type]) {
      const s = document.createElement("span");
      s.textContent = text;
      b.append(s);
    }
  } else { b.style.padding = "0"; }
  if (p.node && p.node.children.length) b.onclick = () => show(way);
  else b.className = "leaf";
  map.append(b);
}
let current = [root];
function show(way) {
  current = way;
  const node = way[way.length - 1];
  map.replaceChildren(); trail.replaceChildren(); rows.replaceChildren();
  way.forEach((n, i) => {
    const b = document.createElement("button");
    b.type = "button";
    b.textContent = step(n, way[i - 1]);
    b.onclick = () => show(way.slice(0, i + 1));
    trail.append(b);
  });
  let list = parts(node);
  if (!list.length) list = [{node: null, name: node.path, total: node.total,
                             type: node.type || ""}];
  squarify(list, 0, 0, map.clientWidth, map.clientHeight, (p, x, y, w, h) => {
    const next = p.node ? way.concat([p.node]) : way;
    box(p, x, y, w, h, 0, next);
    if (p.node && p.node.children.length && w > 90 && h > 76)
      squarify(parts(p.node), x + 4, y + 52, w - 8, h - 56,
               (q, a, b, c, d) => box(q, a, b, c, d, 1,
                 q.node ? next.concat([q.node]) : next));
  });
  for (const p of list) {
    const tr = document.createElement("tr");
    const cells = ["", p.type + (p.node && p.node.count > 1 ?
      " x " + p.node.count.toLocaleString() : ""), size(p.total), ""];
    cells.forEach((text, i) => {
      const td = document.createElement("td");
      td.textContent = text;
      if (i === 0) {
        const leaf = !(p.node && p.node.children.length);
        const b = document.createElement(leaf ? "code" : "button");
        b.textContent = p.name;
        if (!leaf) b.onclick = () => show(way.concat([p.node]));
        td.append(b);
      }
      if (i === 1) td.className = "soft wide";
      if (i === 2) td.className = "number";
      if (i === 3) {
        const bar = document.createElement("div");
        bar.className = "bar";
        bar.style.width = 100 * p.total / Math.max(node.total, 1) + "%";
        td.className = "share";
        td.append(bar);
      }
      tr.append(td);
    });
    rows.append(tr);
  }
}
show(current);
let seen = map.clientWidth + "x" + map.clientHeight;
new ResizeObserver(() => {
  const now = map.clientWidth + "x" + map.clientHeight;
  if (now !== seen) { seen = now; show(current); }
}).observe(map);
"""


def _text(value: Any) -> str:
    """The value as text that is safe inside of markup."""
    text = str(value).encode("utf-8", "backslashreplace").decode()
    return html.escape(text)


def _data(value: Any) -> str:
    """JSON that is safe inside of a script element."""
    text = json.dumps(value)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _page(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, '
        'initial-scale=1"/>\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _map(sizes: Any) -> str:
    return (
        "<h2>Where the bytes are</h2>\n"
        '<nav id="trail" aria-label="path"></nav>\n<div id="map"></div>\n'
        '<table class="rows"><tbody id="rows"></tbody></table>\n'
        f"<noscript><pre>{_text(sizes)}</pre></noscript>\n"
        f'<script type="application/json" id="data">'
        f"{_data(sizes.to_dict())}</script>\n<script>{_SCRIPT}</script>"
    )


def _chips(*chips: tuple[str, str]) -> str:
    items = "".join(
        f'<li class="{css}">{_text(text)}</li>' for text, css in chips
    )
    return f'<ul class="chips">{items}</ul>'


def sizes_page(sizes: Any) -> str:
    """The page of a Sizes."""
    from fpickle._explain import show_bytes

    head = f"{show_bytes(sizes.total)} in a pickle"
    return _page(head, f"<h1>{_text(head)}</h1>\n{_map(sizes)}")


def _problem(problem: Any) -> str:
    remedy = f"<p>do: {_text(problem.remedy)}</p>" if problem.remedy else ""
    return (
        f'<div class="card"><p class="path">{_text(problem.path)}</p>'
        f"<p><strong>{_text(problem.type)}</strong></p>"
        f"<p>why: {_text(problem.reason)}</p>{remedy}</div>"
    )


def _table(heads: tuple[str, ...], rows: list[str]) -> str:
    head = "".join(
        f"<th>{_text(name)}</th>" for name in heads
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>'
        f'{"".join(rows)}</tbody></table></div>'
    )


def _item(item: Any, show_bytes: Any) -> str:
    captured = "".join(
        f'<div class="soft">{_text(c.kind)} <code>{_text(c.name)}</code>: '
        f"{_text(c.type)}{_text(', ' + show_bytes(c.bytes)) if c.bytes else ''}"
        "</div>"
        for c in item.captured
    )
    size = show_bytes(item.bytes) if item.by_value else ""
    return (
        f"<tr><td>{_text(item.kind)} <code>{_text(item.name)}</code>"
        f'{captured}</td><td>{"by value" if item.by_value else "by name"}'
        f'<div class="soft">{_text(item.why)}</div></td><td class="path">'
        f'{_text(item.path)}</td><td class="number">{_text(size)}</td></tr>'
    )


def report_page(report: Any) -> str:
    """The page of a Report."""
    from fpickle._explain import show_bytes

    stock = "yes" if report.stock_ok else "no"
    body = [
        f"<h1>{_text(report.type)}</h1>",
        _chips(
            (report.verdict, "good" if report.ok else "bad"),
            (f"by the standard pickle: {stock}",
             "good" if report.stock_ok else "warn"),
            (f"protocol {report.protocol}", "soft"),
        ),
    ]
    if report.problems:
        body += ["<h2>Problems</h2>", *map(_problem, report.problems)]
    if report.warnings:
        body += ["<h2>Warnings</h2>"] + [
            f'<div class="card note"><p class="path">{_text(w.path)}</p>'
            f"<p>{_text(w.text)}</p></div>" for w in report.warnings
        ]
    if report.items:
        rows = [
            _item(item, show_bytes)
            for item in sorted(report.items, key=lambda i: -i.by_value)
        ]
        body += ["<h2>Functions, classes and modules</h2>",
                 _table(("what", "how and why", "where", "bytes"), rows)]
    if report.stock_problems:
        rows = [
            f'<tr><td class="path">{_text(p.path)}</td>'
            f"<td>{_text(p.message)}</td></tr>"
            for p in report.stock_problems
        ]
        body += ["<h2>What the standard pickle refuses</h2>",
                 _table(("where", "what it says"), rows)]
    body.append(_map(report.sizes))
    return _page(f"{report.type}: {report.verdict}", "\n".join(body))


def frame(page: str) -> str:
    """The page as a part of another one: for notebooks."""
    return (
        '<iframe sandbox="allow-scripts" style="width: 100%; height: 42rem; '
        f'border: 0" srcdoc="{html.escape(page)}"></iframe>'
    )


def write(page: str, path: Any) -> str:
    """Writes the page to a path, if there is one; returns it."""
    if path is not None:
        with open(os.fspath(path), "w", encoding="utf-8") as file:
            file.write(page)
    return page
