"""What the scripts named cases_*.py use to send their objects.

Such a script is run as __main__, so that its functions and classes cannot be
imported by anybody.  Each case is an object and an expression, which the
receiver evaluates with the loaded object as `o`.

Environment:
    FPICKLE_CASE_OPTIONS  options for all cases, as JSON; each is then sent
                          with one protocol only
"""

import json
import os
import sys

import fpickle

ALL_PROTOCOLS = range(6)
_more_options = json.loads(os.environ.get("FPICKLE_CASE_OPTIONS", "{}"))
_cases = []


def case(name, obj, check, protocols=(5,), **options):
    """Send obj, with options for dumps; the receiver's check must give
    True."""
    if _more_options:
        protocols = list(protocols)[-1:]
        options.update(_more_options)
    _cases.append((name, obj, check, protocols, options))


def send():
    """Dump all cases into the file named on the command line, one stream for
    each case and protocol."""
    records = []
    for name, obj, check, protocols, options in _cases:
        for protocol in protocols:
            record = {"name": name, "protocol": protocol, "check": check}
            try:
                record["stream"] = fpickle.dumps(obj, protocol, **options).hex()
            except Exception as error:  # the test reports it
                record["error"] = f"{type(error).__name__}: {error}"
            records.append(record)
    with open(sys.argv[1], "w", encoding="ascii") as file:
        json.dump(records, file)
