/*
 * The process that forks workers, and the loop inside a worker.
 *
 * The owner (Python, with Hypothesis) never forks. It starts one small process, which forks a worker here, waits for
 * its end, reports it, and forks the next one. That gets ready while the owner looks at what the last one left, and
 * begins when it is told to. Requests and replies lie in memory shared by all three; the data socket only says how long
 * they are. What a worker was doing when it died stands in struct vv_progress, in the same memory.
 *
 * SPDX-License-Identifier: MIT
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/base.h"
#include "confine/confine.h"
#include "observe/observe.h"
#include "request.h"
#include "run/run.h"
#include "serve.h"

#define HEAP_RESERVE (8u << 20)
#define LINKED_HEAP_RESERVE (64u << 20)     /* libraries allocate from the C library's heap */
#if defined(__SANITIZE_ADDRESS__) || !defined(RTLD_DEEPBIND)
#define DEEPBIND 0                  /* its runtime refuses it: what libraries call is not seen in such a build */
#else
#define DEEPBIND RTLD_DEEPBIND
#endif
#define STACK_BYTES (8u << 20)

#define VV_UNABLE_TO_ANSWER 4       /* a worker's exit status */

static ssize_t hear(int socket, void *buffer, size_t size)
{
    ssize_t got;

    do {
        got = recv(socket, buffer, size, 0);
    } while (got < 0 && errno == EINTR);
    return got;
}

/* Have the C library's heap grown before a snapshot: what a call allocates there must not change mappings. */
static void reserve_heap(size_t bytes)
{
    void *volatile reserve = malloc(bytes);     /* volatile: a compiler leaves both out otherwise */

    free(reserve);
}

/*
 * The libraries that a subject is linked with, if there are any: beside it lies linked/names.so, which needs them, and
 * which defines mmap() and others of the world's names without __wrap_. With RTLD_DEEPBIND they look for their names
 * there, before the C library. The subject finds theirs in the global scope.
 */
static bool load_linked(const char *library)
{
    char names[PATH_MAX];
    const char *const slash = strrchr(library, '/');

    snprintf(names, sizeof(names), "%.*s/linked/names.so", slash ? (int)(slash - library) : 0, library);
    if (access(names, F_OK) < 0) {
        return true;
    }
    if (!dlopen(names, RTLD_NOW | RTLD_GLOBAL | DEEPBIND)) {
        return false;
    }
    reserve_heap(LINKED_HEAP_RESERVE);
    return true;
}

/* The subject's undefined names are looked for in the global scope, where this program's are. */
static int load_subject(const char *library)
{
    void *handle;
    vv_entry entry;

    if (!*library) {
        return 0;                   /* the core is set already */
    }
    if (!load_linked(library)
        || !(handle = dlopen(library, RTLD_NOW | RTLD_LOCAL))
        || !(entry = (vv_entry)dlsym(handle, "vfio_verify_entry"))) {
        vv_progress->note_bytes = (u64)snprintf(vv_progress->note, sizeof(vv_progress->note), "%s", dlerror());
        return -1;
    }
    vv_where_loaded((const void *)entry);
    vv_subject_loaded(entry, (vv_entry)dlsym(handle, "vfio_verify_entry_zeroed"));
    return 0;
}

/*
 * As in QEMU, which ignores SIGPIPE, and not as Python handles them. SIGXFSZ is ignored because the world writes to
 * large files where a subject may have lowered the limit. Workers inherit it.
 */
static void default_signals(void)
{
    int number;

    for (number = 1; number < NSIG; number++) {
        signal(number, number == SIGPIPE || number == SIGXFSZ ? SIG_IGN : SIG_DFL);
    }
}

/* The parent has those blocked that may reach a whole process group, as by Ctrl-C. */
static void unblock_signals(void)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* What the owner still said to the worker before. It says nothing to this one until that has started. */
static void pass_over(int data)
{
    u64 said;

    while (recv(data, &said, sizeof(said), MSG_DONTWAIT) > 0) {
    }
}

static _Noreturn void work(int control, int data, int overseer, uint8_t *shared, u64 request_capacity,
                           u64 reply_capacity, const char *library)
{
    uint8_t *request = shared + 4096, *reply = request + request_capacity;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), error;
    int64_t confined;
    u64 length;
    char told;

    close(control);
    fcntl(data, F_SETFL, 0);        /* the worker before had it, too */
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    unblock_signals();
    dup2(null, 1);
    dup2(null, 2);
    close(null);
    vv_arm_ends();
    error = vv_after_fork() < 0 || vv_state_open() < 0 ? errno : 0;
    confined = vv_confine(overseer);
    if (hear(overseer, &told, sizeof(told)) != sizeof(told)) {
        _exit(0);                   /* the parent is gone, and does not tell it to begin */
    }
    pass_over(data);
    vv_progress->pid = (u64)getpid();
    vv_progress->note_bytes = vv_progress->signal = vv_progress->in_subject = 0;
    vv_progress->n_frames = 0;
    if (error) {
        vv_say(data, -1, error);
        _exit(3);
    }
    /* Told before the subject is loaded: afterwards it could be the subject that tells. */
    vv_say(data, VV_CONFINED, confined);
    if (load_subject(library) < 0) {
        vv_say(data, -2, 0);
        _exit(2);
    }
    vv_fill_holes();
    vv_state_take();
    vv_say(data, VV_STARTED, getpid());
    while (hear(data, &length, sizeof(length)) == sizeof(length)) {
        int64_t done = length > request_capacity ? -1
                       : vv_run_request((u64 *)(void *)request, length, reply, reply_capacity);
        if (!vv_say(data, done, done < 0 ? errno : (int64_t)vv_state_changes())) {
            break;
        }
    }
    /* The parent ends this process when it wants no more: here the descriptor is gone, or is another one. */
    _exit(VV_UNABLE_TO_ANSWER);
}

/* Workers have the stack that QEMU's main thread has where nobody changes it, whatever it is here. */
static void usual_stack(void)
{
    struct rlimit stack;

    if (getrlimit(RLIMIT_STACK, &stack) == 0) {
        stack.rlim_cur = stack.rlim_max < STACK_BYTES ? stack.rlim_max : STACK_BYTES;
        setrlimit(RLIMIT_STACK, &stack);
    }
}

/* The C library allocates for itself too, in fopen() or qsort(), and must not change mappings by it. */
static void steady_heap(void)
{
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
    mallopt(M_ARENA_MAX, 1);        /* a thread's own one would be 64 MiB of pages that stay */
    reserve_heap(HEAP_RESERVE);
#ifdef __SANITIZE_ADDRESS__
    /* Its allocator has an area for each size of a chunk, and maps the first part of it when one is asked for. */
    for (size_t size = 16; size < HEAP_RESERVE; size += size / 32 + 8) {
        void *volatile chunk = malloc(size);

        free(chunk);
    }
#endif
}

/* Children of the worker that left its process group are children of this process now, their subreaper. */
static void end_orphans(void)
{
    char path[64];
    int orphan;
    FILE *children;

    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    for (;;) {
        children = fopen(path, "re");
        if (!children || fscanf(children, "%d", &orphan) != 1) {
            break;
        }
        fclose(children);
        kill(orphan, SIGKILL);
        while (waitpid(orphan, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    if (children) {
        fclose(children);
    }
}

/* Until the worker has ended, with its wait status. */
static enum vv_overseen wait_for(pid_t pid, int overseer, int control, int *status)
{
    const int listener = vv_oversee_take_over(overseer);
    const enum vv_overseen begun = vv_oversee(pid, listener, overseer, control);

    if (listener >= 0) {
        close(listener);
    }
    close(overseer);
    while (waitpid(pid, status, 0) < 0 && errno == EINTR) {
    }
    return begun;
}

int vv_serve(int control, int data, void *shared, u64 request_capacity, u64 reply_capacity, const char *library)
{
    const struct rlimit no_core = {0, 0};

    vv_progress = shared;
    vv_covered = (uint8_t *)shared + 4096 + request_capacity + reply_capacity;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    setrlimit(RLIMIT_CORE, &no_core);
    usual_stack();
    default_signals();
    if (vv_start() < 0) {
        return -1;
    }
    steady_heap();
    for (;;) {
        int status = 0, overseer[2];
        enum vv_overseen begun;
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, overseer) < 0) {
            return -1;
        }
        pid = fork();
        if (pid == 0) {
            close(overseer[0]);
            work(control, data, overseer[1], shared, request_capacity, reply_capacity, library);
        }
        close(overseer[1]);
        if (pid < 0) {
            return -1;
        }
        setpgid(pid, pid);
        begun = wait_for(pid, overseer[0], control, &status);
        kill(-pid, SIGKILL);        /* what it may have forked */
        end_orphans();
        if (begun == VV_OWNER_GONE || (begun == VV_BEGUN && !vv_say(control, VV_ENDED, status))) {
            return 0;
        }
        if (begun == VV_NOT_BEGUN) {
            /* Somebody else ended it. The next one may end like it: no more than are asked for. */
            poll(&(struct pollfd){.fd = control, .events = POLLIN}, 1, -1);
        }
    }
}
