"""How the benchmarks measure.

All competitors of one row are timed in the same rounds, one after the other,
the first one changing with the round, so that what else the machine does hits
all of them alike.  The clock counts the processor time of this thread, not the
time spent waiting for the processor.  The garbage collector is off while a
clock runs, and has run before.  A call that is too short for the clock is
repeated in a loop; freeing the result is part of the loop but not of a single
call.

A ratio is taken within each round.  Reported are the median of the ratios and
their spread: half the distance between the quartiles.
"""

import dataclasses
import gc
import statistics
import time

SHORTEST_SAMPLE = 0.005  # seconds
LONG_CALL = 0.25  # seconds; of such calls few rounds are taken


@dataclasses.dataclass
class Settings:
    rounds: int = 15
    rounds_of_long_calls: int = 3


QUICK = Settings(rounds=5, rounds_of_long_calls=1)
FULL = Settings()


@dataclasses.dataclass
class Ratio:
    """Their time divided by ours: above 1, we are faster."""

    median: float
    spread: float

    def __str__(self):
        return f"{self.median:.{self.digits}f}"

    @property
    def digits(self):
        return 2 if self.median < 10 else 1 if self.median < 100 else 0

    def with_spread(self):
        return f"{self} ±{self.spread:.{self.digits}f}"


def sample(function, repeat):
    """Seconds a call."""
    gc.collect()
    gc.disable()
    try:
        if repeat == 1:
            start = time.thread_time()
            result = function()
            elapsed = time.thread_time() - start
            del result
        else:
            loop = range(repeat)
            start = time.thread_time()
            for _ in loop:
                function()
            elapsed = time.thread_time() - start
    finally:
        gc.enable()
    return elapsed / repeat


def choose_repeat(function):
    """How often to call [function] in one sample; this warms it up, too."""
    repeat = 1
    while True:
        elapsed = sample(function, repeat) * repeat
        if elapsed >= SHORTEST_SAMPLE:
            return repeat
        repeat *= 2 if elapsed > SHORTEST_SAMPLE / 10 else 10


def measure(functions, settings):
    """Times [functions], a dict whose first entry is ours.

    Returns the median of our seconds, and a Ratio for each other name."""
    repeats = {name: choose_repeat(f) for name, f in functions.items()}
    if max(repeats.values()) > 1:
        # Freeing the result belongs to the samples of all, or of none.
        repeats = {name: max(n, 2) for name, n in repeats.items()}
    names = list(functions)
    times = {name: [] for name in names}
    for round_ in range(settings.rounds):
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            done = times[name]
            slow = done and done[0] > LONG_CALL
            if slow and len(done) >= settings.rounds_of_long_calls:
                continue
            done.append(sample(functions[name], repeats[name]))
    return compare_times(times)


def measure_prepared(functions, prepare, settings):
    """As measure, for what can be done to an object but once.

    Each call of a function gets a new list from [prepare], made before the
    clock runs; seconds are per item of the list."""
    names = list(functions)
    times = {name: [] for name in names}
    for round_ in range(-1, settings.rounds):
        first = max(round_, 0) % len(names)
        for name in names[first:] + names[:first]:
            items = prepare(name)
            elapsed = sample(bind(functions[name], items), 1) / len(items)
            # The first round warms up.
            if round_ >= 0:
                times[name].append(elapsed)
    return compare_times(times)


def bind(function, argument):
    return lambda: function(argument)


def compare_times(times):
    """Of {name: seconds}, in rounds, the first one ours: the median of these,
    and a Ratio for each other name."""
    ours, *others = times
    ratios = {
        name: ratio_of([b / a for a, b in zip(times[ours], times[name])])
        for name in others
    }
    return statistics.median(times[ours]), ratios


def ratio_of(values):
    spread = 0.0
    if len(values) > 1:
        low, _, high = statistics.quantiles(values, n=4)
        spread = (high - low) / 2
    return Ratio(statistics.median(values), spread)
