"""What `Pool.stats` returns, and its text."""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, which programs need not import
if TYPE_CHECKING:
    from typing import Any

_SUMS = (
    "tasks", "start", "work", "codec", "idle", "bytes_sent", "bytes_received",
    "resident",
)  # fmt: skip


def make_stats(
    workers: list[dict[str, Any]], outstanding: int, started: float, now: float
) -> dict[str, Any]:
    """Figures of a pool: sums, and each worker's own.

    Args:
        workers: What the engine says of each.
        outstanding: Tasks that have not ended.
        started: When the pool was made; seconds, as [now].
    """
    stats: dict[str, Any] = {
        "seconds": now - started,
        "outstanding": outstanding,
    }
    for name in _SUMS:
        stats[name] = sum(worker.get(name, 0) for worker in workers)
    waits, waited = 0, 0.0
    for worker in workers:
        waits += (count := worker.pop("waits", 0))
        waited += (seconds := worker.pop("waited", 0.0))
        worker["wait"] = seconds / count if count else 0.0
    stats["wait"] = waited / waits if waits else 0.0
    stats["restarts"] = sum(
        max(worker.get("incarnations", 1) - 1, 0) for worker in workers
    )
    stats["workers"] = workers
    return stats


def format_report(stats: dict[str, Any]) -> str:
    """One screen of text."""
    busy = stats["work"] + stats["codec"] + stats["idle"]
    lines = [
        f"{stats['tasks']} tasks done, {stats['outstanding']} outstanding, "
        f"{len(stats['workers'])} workers, {stats['restarts']} restarts, "
        f"{stats['seconds']:.1f} s",
        f"sent {format_size(stats['bytes_sent'])}, "
        f"received {format_size(stats['bytes_received'])}",
        "time of the workers: "
        f"{_percent(stats['work'], busy)} work, "
        f"{_percent(stats['codec'], busy)} pickling, "
        f"{_percent(stats['idle'], busy)} idle",
        f"calls waited {_time(stats['wait'])} for a worker on average; "
        f"workers have {format_size(stats['resident'])} of memory",
        "",
        f"{'':>3} {'pid':>7} {'state':<8} {'tasks':>9} {'start':>6} "
        f"{'work':>9} {'pickling':>9} {'idle':>9} {'memory':>8}",
    ]
    workers = stats["workers"]
    shown = workers if len(workers) <= 16 else workers[:15]
    for number, worker in enumerate(shown):
        lines.append(
            f"{number:>3} {worker.get('pid') or '-':>7} "
            f"{worker.get('state', ''):<8} {worker.get('tasks', 0):>9} "
            f"{worker.get('start', 0):>5.2f}s {worker.get('work', 0):>8.2f}s "
            f"{worker.get('codec', 0):>8.2f}s {worker.get('idle', 0):>8.2f}s "
            f"{format_size(worker.get('resident', 0)):>8}"
        )
    if len(shown) < len(workers):
        lines.append(f"... and {len(workers) - len(shown)} more")
    return "\n".join(lines)


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "0%"


def _time(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.1f} {unit}"
    return f"{seconds * 1e6:.0f} us"


def format_size(size: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError
