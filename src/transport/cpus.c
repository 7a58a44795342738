/* cpus.c -- how many CPUs this process may use, and the clock.

   Does:      reads the affinity mask and the quotas of the cgroups around the
              process, of version 2 and of version 1.
   Owns:      nothing.
   Invariant: what cannot be read limits nothing; the answer is at least 1.
   Called by: pool, for the number of workers and for how long they spin. */
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#endif
#include "transport/cpus.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#    include <errno.h>
#    include <sched.h>
#endif

uint64_t
fpk_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

void
fpk_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#else
    __asm__ volatile("" ::: "memory");
#endif
}

#ifdef __linux__

/* CPUs of the affinity mask; 0 if it cannot be read. */
static int
count_affine(void)
{
    for (int most = 1024; most <= 1 << 20; most *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)most);
        if (set == NULL) {
            return 0;
        }
        size_t size = CPU_ALLOC_SIZE((size_t)most);
        int got = sched_getaffinity(0, size, set);
        bool too_small = got != 0 && errno == EINVAL;
        int count = got == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (!too_small) {
            return count;
        }
    }
    return 0;
}

/* ---- the quotas of cgroups ---------------------------------------------- */

enum { LONGEST_PATH = PATH_MAX };

/* The first line of the file [folder]/[name]; false if there is none. */
static bool
read_line(const char *folder, const char *name, char *line, int size)
{
    char path[LONGEST_PATH + 64];
    int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    if (length < 0 || (size_t)length >= sizeof path) {
        return false;
    }
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    bool read = fgets(line, size, file) != NULL;
    fclose(file);
    return read;
}

static int
divide_up(long long quota, long long period)
{
    if (quota <= 0 || period <= 0) {
        return 0;
    }
    long long cpus = (quota - 1) / period + 1;
    return cpus > INT_MAX ? INT_MAX : (int)cpus;
}

/* The quota that one folder of a cgroup file system sets; 0 for none. */
static int
quota_of_folder(const char *folder, bool is_v2)
{
    char line[128];
    long long quota, period;
    if (is_v2) {
        if (!read_line(folder, "cpu.max", line, sizeof line) ||
            sscanf(line, "%lld %lld", &quota, &period) != 2) {
            return 0; /* "max 100000" is no limit */
        }
        return divide_up(quota, period);
    }
    if (!read_line(folder, "cpu.cfs_quota_us", line, sizeof line) ||
        sscanf(line, "%lld", &quota) != 1 ||
        !read_line(folder, "cpu.cfs_period_us", line, sizeof line) ||
        sscanf(line, "%lld", &period) != 1) {
        return 0;
    }
    return divide_up(quota, period);
}

/* Whether [word] is one of the words of [list] between commas. */
static bool
has_word(const char *list, const char *word)
{
    size_t length = strlen(word);
    while (*list != '\0') {
        size_t here = strcspn(list, ",\n");
        if (here == length && strncmp(list, word, length) == 0) {
            return true;
        }
        list += here;
        list += *list != '\0';
    }
    return false;
}

/* The path of this process in the hierarchy of version 2 or in that of the
   controller "cpu" of version 1. */
static bool
find_group(const char *root, bool is_v2, char *path, size_t size)
{
    char name[LONGEST_PATH];
    char line[LONGEST_PATH + 256];
    snprintf(name, sizeof name, "%s/proc/self/cgroup", root);
    FILE *file = fopen(name, "re");
    if (file == NULL) {
        return false;
    }
    bool found = false;
    while (!found && fgets(line, sizeof line, file) != NULL) {
        /* number:controllers:path */
        char *controllers = strchr(line, ':');
        char *group =
            controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (group == NULL) {
            continue;
        }
        controllers++;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        found = is_v2 ? *controllers == '\0' : has_word(controllers, "cpu");
        if (found) {
            found = strlen(group) < size;
            if (found) {
                memcpy(path, group, strlen(group) + 1);
            }
            break;
        }
    }
    fclose(file);
    return found;
}

/* Where that hierarchy is mounted, and what of it is mounted there. */
static bool
find_mount(const char *root, bool is_v2, char *top, char *point, size_t size)
{
    char name[LONGEST_PATH];
    char *line = NULL;
    size_t room = 0;
    snprintf(name, sizeof name, "%s/proc/self/mountinfo", root);
    FILE *file = fopen(name, "re");
    if (file == NULL) {
        return false;
    }
    bool found = false;
    while (!found && getline(&line, &room, file) > 0) {
        /* id parent device root point options ... - type source options */
        char *fields[5], *rest = line;
        int count = 0;
        while (count < 5) {
            fields[count++] = rest;
            rest = strchr(rest, ' ');
            if (rest == NULL) {
                break;
            }
            *rest++ = '\0';
        }
        char *tail = rest == NULL ? NULL : strstr(rest, " - ");
        if (count < 5 || tail == NULL) {
            continue;
        }
        char *type = tail + 3;
        char *options = strchr(type, ' ');
        options = options == NULL ? NULL : strchr(options + 1, ' ');
        if (options == NULL) {
            continue;
        }
        type[strcspn(type, " ")] = '\0';
        found = is_v2 ? strcmp(type, "cgroup2") == 0
                      : strcmp(type, "cgroup") == 0 &&
                            has_word(options + 1, "cpu");
        if (found) {
            found = strlen(fields[3]) < size && strlen(fields[4]) < size;
            if (found) {
                memcpy(top, fields[3], strlen(fields[3]) + 1);
                memcpy(point, fields[4], strlen(fields[4]) + 1);
            }
            break;
        }
    }
    free(line);
    fclose(file);
    return found;
}

static int
smaller_limit(int one, int other)
{
    return one == 0 || (other != 0 && other < one) ? other : one;
}

/* The smallest quota from the group of this process up to the mount. */
static int
quota_of_version(const char *root, bool is_v2)
{
    char group[LONGEST_PATH], top[LONGEST_PATH], point[LONGEST_PATH];
    char folder[3 * LONGEST_PATH];
    if (!find_group(root, is_v2, group, sizeof group) ||
        !find_mount(root, is_v2, top, point, sizeof top)) {
        return 0;
    }
    /* In a container the mount shows the group of the container as its top
       while the group of the process is told from the top of the machine. */
    const char *below = "";
    size_t length = strcmp(top, "/") == 0 ? 0 : strlen(top);
    if (strncmp(group, top, length) == 0 &&
        (group[length] == '/' || group[length] == '\0') &&
        strstr(group, "/..") == NULL) {
        below = group + length;
    }
    snprintf(folder, sizeof folder, "%s%s", root, point);
    size_t shortest = strlen(folder);
    snprintf(folder + shortest, sizeof folder - shortest, "%s", below);
    int quota = 0;
    for (;;) {
        quota = smaller_limit(quota, quota_of_folder(folder, is_v2));
        char *slash = strrchr(folder + shortest, '/');
        if (slash == NULL) {
            return quota;
        }
        *slash = '\0';
    }
}

int
fpk_quota_cpus(const char *root)
{
    return smaller_limit(quota_of_version(root, true),
                         quota_of_version(root, false));
}

#else

static int
count_affine(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 0 : count > INT_MAX ? INT_MAX : (int)count;
}

int
fpk_quota_cpus(const char *root)
{
    (void)root;
    return 0;
}

#endif

int
fpk_affine_cpus(void)
{
    int count = count_affine();
    return count < 1 ? 1 : count;
}

int
fpk_available_cpus(void)
{
    int count = count_affine();
    int quota = fpk_quota_cpus("");
    if (quota != 0 && (count == 0 || quota < count)) {
        count = quota;
    }
    return count < 1 ? 1 : count;
}
