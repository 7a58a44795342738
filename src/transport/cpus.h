/* cpus.h -- how many CPUs this process may use, and the clock.

   Used by:   transport, pool.  No Python.h. */
#ifndef FPK_CPUS_H
#define FPK_CPUS_H

#include <stdint.h>

/* CPUs of the affinity mask, cut to what the cgroup's quota allows (cgroup v2
   cpu.max, v1 cfs_quota_us; rounded up), at least 1. */
int fpk_available_cpus(void);

/* The first half of that, which takes a microsecond; the other one a hundred.
   */
int fpk_affine_cpus(void);

/* What the quotas of the cgroups of this process amount to, in CPUs, rounded
   up; 0 without one.  [root] stands for "/": a folder in tests, else "". */
int fpk_quota_cpus(const char *root);

/* CLOCK_MONOTONIC in ns; the same clock in every process of the machine. */
uint64_t fpk_now_ns(void);

/* A hint to the core inside of a loop that spins. */
void fpk_cpu_relax(void);

#endif
