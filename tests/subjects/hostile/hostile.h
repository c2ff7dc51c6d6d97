/*
 * A correct helper that does one more thing, the deed of the file that includes this: in every call, only
 * with an even number of entries, or only where a step failed.
 */
#ifndef SUBJECTS_HOSTILE_H
#define SUBJECTS_HOSTILE_H

#include "../broken/helper.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EVERY_CALL 0
#define EVEN_COUNT 1
#define FAILURE 2
#ifndef WHEN
#define WHEN EVERY_CALL
#endif

/* A system call that no linker can turn aside. */
static inline long raw(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;

    __asm__ volatile ("syscall" : "=a" (result)
                      : "a" (number), "D" (a), "S" (b), "d" (c), "r" (r10), "r" (r8), "r" (r9)
                      : "rcx", "r11", "memory");
    return result;
#else
    long (*call)(long, ...) = (long (*)(long, ...))dlsym(RTLD_DEFAULT, "syscall");

    return call(number, a, b, c, d, e, f);
#endif
}

/* Calls visit() on each line of /proc/self/maps that holds a text; looked up before any is changed. */
static inline void visit_maps(const char *text, void (*visit)(char *start, size_t length))
{
    static struct { unsigned long start, end; } found[64];
    char line[512], access[8];
    unsigned int i, n = 0;
    FILE *maps = fopen("/proc/self/maps", "r");

    while (maps && fgets(line, sizeof(line), maps) && n < 64) {
        if (strstr(line, text) &&
            sscanf(line, "%lx-%lx %7s", &found[n].start, &found[n].end, access) == 3 && access[1] == 'w') {
            n++;
        }
    }
    if (maps) {
        fclose(maps);
    }
    for (i = 0; i < n; i++) {
        visit((char *)found[i].start, found[i].end - found[i].start);
    }
}

static inline bool map_and(void (*deed)(void), struct iovec *iov, unsigned int iov_cnt, void **addr,
                           size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    if (WHEN == EVERY_CALL || (WHEN == EVEN_COUNT && iov_cnt % 2 == 0)) {
        deed();
    }
    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        if (WHEN == FAILURE) {
            deed();
        }
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        if (WHEN == FAILURE) {
            deed();
        }
        return false;
    }
    *addr = map;
    return true;
}

#endif
