"""What machine the figures are of, in general terms: no names, no paths."""

import os
import platform
import re


def describe():
    """Processor, cores, memory, kernel and Python, as a dict of texts."""
    return {
        "processor": processor(),
        "cores": str(len(os.sched_getaffinity(0))
                     if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": memory(),
        "system": f"{platform.system()} "
                  f"{re.match(r'[0-9.]*', platform.release())[0]}, "
                  f"{platform.machine()}",
        "python": f"{platform.python_implementation()} "
                  f"{platform.python_version()}",
        "compiler": platform.python_compiler(),
    }


def processor():
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def memory():
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return "unknown"
    return f"{size / 2**30:.0f} GiB"
