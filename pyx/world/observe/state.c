/*
 * What of a process outlives a call besides its memory: signals, limits, timers, threads, children. A subject may
 * change it, and the next run in the same process would be another one than it looks.
 *
 * Nothing here allocates, but for flush_stacks(), which only runs where pages are amiss.
 *
 * SPDX-License-Identifier: MIT
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <gnu/lib-names.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "memory/memory.h"
#include "observe/observe.h"

#define SIGNALS 64
#define WAITS 40                    /* for a thread that is joined and not quite gone */
#define WAIT_US 250

struct place { dev_t device; ino_t inode; u64 flags; };     /* what file, and as of fcntl(F_GETFL) */

static struct state {
    sigset_t mask;
    stack_t stack;
    void (*handlers[SIGNALS + 1])(int);
    int flags[SIGNALS + 1];
    struct rlimit limits[RLIM_NLIMITS];
    struct place directory, fds[VV_MEMFDS];
    u64 threads, timers;
    pid_t group, session;
    uid_t user;
    mode_t umask;
    int nice, death_signal, rounding;
    unsigned int floats;            /* the processor's control bits for floating point */
} first;

static int task_fd = -1, timers_fd = -1;
static struct place seen_through[VV_PROCS];

static struct place place_of(int fd)
{
    struct stat status;

    if (fstat(fd, &status) < 0) {
        return (struct place){0};
    }
    return (struct place){status.st_dev, status.st_ino, (u64)fcntl(fd, F_GETFL)};
}

/* A directory of /proc has a link for each of what it holds. */
static u64 count_threads(void)
{
    struct stat status;

    return fstat(task_fd, &status) < 0 ? 0 : (u64)status.st_nlink - 2;
}

static u64 count_timers(void)
{
    char text[256];
    struct itimerval timer;
    u64 n = 0;
    int which;

    for (which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
        n += getitimer(which, &timer) == 0 && (timer.it_value.tv_sec || timer.it_value.tv_usec);
    }
    /* Those of timer_create(2), where the kernel tells of them. */
    return n + (timers_fd >= 0 && pread(timers_fd, text, sizeof(text), 0) > 0);
}

static bool has_children(void)
{
    siginfo_t info;

    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 || errno != ECHILD;
}

static unsigned int float_controls(void)
{
#if defined(__x86_64__)
    unsigned short x87;

    __asm__ volatile ("fnstcw %0" : "=m" (x87));
    return (__builtin_ia32_stmxcsr() & ~0x3fu) << 16 | x87;     /* without what operations leave behind */
#else
    return 0;
#endif
}

static void look(struct state *state)
{
    struct sigaction action;
    struct stat here;
    int i;

    memset(state, 0, sizeof(*state));
    sigprocmask(SIG_BLOCK, NULL, &state->mask);
    sigaltstack(NULL, &state->stack);
    for (i = 1; i <= SIGNALS; i++) {
        /* The world's own are set before each run. */
        if (i != SIGSEGV && i != SIGBUS && sigaction(i, NULL, &action) == 0) {
            state->handlers[i] = action.sa_handler;
            state->flags[i] = action.sa_flags;
        }
    }
    for (i = 0; i < RLIM_NLIMITS; i++) {
        getrlimit(i, &state->limits[i]);
    }
    if (stat(".", &here) == 0) {
        state->directory = (struct place){here.st_dev, here.st_ino, 0};
    }
    for (i = 0; i < VV_MEMFDS; i++) {
        state->fds[i] = place_of(vv_memfd[i]);
    }
    state->threads = count_threads();
    state->timers = count_timers();
    state->group = getpgrp();
    state->session = getsid(0);
    state->user = geteuid();
    state->umask = umask(077);
    umask(state->umask);
    state->nice = getpriority(PRIO_PROCESS, 0);
    prctl(PR_GET_PDEATHSIG, &state->death_signal);
    state->rounding = fegetround();
    state->floats = float_controls();
}

/* A sanitizer keeps some memory of each thread for good, which would be a page that a call leaves: there the C
 * library's own function is called, and not the one that the sanitizer has put before it. */
typedef int start_function(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
static start_function *start = pthread_create;

static void find_start(void)
{
#ifdef __SANITIZE_ADDRESS__
    void *library = dlopen(LIBC_SO, RTLD_NOW | RTLD_NOLOAD);
    start_function *found = library ? (start_function *)dlsym(library, "pthread_create") : NULL;

    start = found ? found : pthread_create;
#endif
}

int vv_start_thread(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    return start(thread, attributes, run, argument);
}

int vv_state_open(void)
{
    find_start();
    if (task_fd >= 0) {
        close(task_fd);
        close(timers_fd);
    }
    task_fd = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    timers_fd = open("/proc/self/timers", O_RDONLY | O_CLOEXEC);     /* not in every kernel */
    return task_fd < 0 ? -1 : 0;
}

void vv_state_take(void)
{
    int i;

    for (i = 0; i < VV_PROCS; i++) {
        seen_through[i] = place_of(vv_proc_fd[i]);
    }
    look(&first);
}

void vv_state_threads_made(void)
{
    first.threads = task_fd < 0 ? 0 : count_threads();
}

u64 vv_state_left(void)
{
    u64 left = 0;
    int i;

    if (task_fd < 0) {
        return 0;               /* no worker: the process has a life of its own */
    }
    for (i = 0; count_threads() > first.threads && i < WAITS; i++) {
        usleep(WAIT_US);
    }
    left |= count_threads() > first.threads ? VV_LEFT_THREAD : 0;
    left |= has_children() ? VV_LEFT_CHILD : 0;
    left |= count_timers() > first.timers ? VV_LEFT_TIMER : 0;
    return left;
}

u64 vv_state_changes(void)
{
    static struct state now;
    int i;

    for (i = 0; i < VV_PROCS; i++) {
        const struct place place = place_of(vv_proc_fd[i]);

        if (place.device != seen_through[i].device || place.inode != seen_through[i].inode) {
            return VV_STATE_BLIND;
        }
    }
    look(&now);
    return memcmp(&now, &first, sizeof(now)) || has_children() ? VV_STATE_CHANGED : 0;
}

static void *nothing(void *unused)
{
    return unused;
}

/* A detached thread's stack is given back when another thread ends: have one end. */
void vv_state_flush_stacks(void)
{
    pthread_t thread;

    if (vv_start_thread(&thread, NULL, nothing, NULL) == 0) {
        pthread_join(thread, NULL);
    }
}
