/*
 * The process that forks workers, and the loop inside a worker.
 *
 * The owner (Python, with Hypothesis) never forks. It starts one small process, which forks a worker here, waits for
 * its end, and reports it. The next one gets ready ahead of time: while the owner looks at what the first one left, or
 * while the one before it is at work. It begins when it is told to, and looks at nothing before that which its subject's
 * last process could change. Requests and replies lie in memory shared by all three; the data socket only says how long
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

/* What a worker is given by its parent. */
struct served {
    int control, data;
    uint8_t *request, *reply;
    u64 request_capacity, reply_capacity;
    const char *library;
};

/* What the worker before may have changed of what it shared with this one, and what the owner still said to it. It says
 * nothing to this one until that has started. */
static void take_over(int data)
{
    u64 said;

    fcntl(data, F_SETFL, 0);
    while (recv(data, &said, sizeof(said), MSG_DONTWAIT) > 0) {
    }
    vv_take_over();
}

static _Noreturn void work(const struct served *served, int overseer)
{
    const int data = served->data;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), error;
    int64_t confined;
    u64 length;
    char told;

    close(served->control);
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
    take_over(data);
    vv_progress->pid = (u64)getpid();
    vv_progress->note_bytes = vv_progress->signal = vv_progress->in_subject = 0;
    vv_progress->n_frames = 0;
    if (error) {
        vv_say(data, -1, error);
        _exit(3);
    }
    /* Told before the subject is loaded: afterwards it could be the subject that tells. */
    vv_say(data, VV_CONFINED, confined);
    if (load_subject(served->library) < 0) {
        vv_say(data, -2, 0);
        _exit(2);
    }
    vv_fill_holes();
    vv_state_take();
    vv_say(data, VV_STARTED, getpid());
    while (hear(data, &length, sizeof(length)) == sizeof(length)) {
        int64_t done = length > served->request_capacity ? -1
                       : vv_run_request((u64 *)(void *)served->request, length, served->reply,
                                        served->reply_capacity);
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

/* A child of the worker that left its process group is one of this process now, its subreaper; and so is the next
 * worker. -1: there is none. */
static pid_t an_orphan(pid_t next)
{
    char path[64];
    int child = -1;
    FILE *children;

    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    children = fopen(path, "re");
    if (!children) {
        return -1;
    }
    do {
        if (fscanf(children, "%d", &child) != 1) {
            child = -1;
        }
    } while (child > 0 && child == next);
    fclose(children);
    return child;
}

/* The numbers of a worker's descriptors must not depend on what its parent had open: a subject is given those that are
 * free. */
static int lowest(int fd)
{
    const int moved = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    if (moved < 0 || moved > fd) {
        close(moved);
        return fd;
    }
    close(fd);
    return moved;
}

/* A worker that gets ready; `present` is at work meanwhile. Without a process or a socket: VV_NO_WORKER, and errno. */
static struct vv_worker get_ready(const struct served *served, const struct vv_worker *present)
{
    struct vv_worker worker = VV_NO_WORKER;
    int overseer[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, overseer) < 0) {
        return worker;
    }
    worker.pid = fork();
    if (worker.pid == 0) {
        close(overseer[0]);
        vv_oversee_close(present);
        work(served, lowest(overseer[1]));
    }
    close(overseer[1]);
    if (worker.pid < 0) {
        close(overseer[0]);
        return worker;
    }
    worker.socket = overseer[0];
    setpgid(worker.pid, worker.pid);
    return worker;
}

/* With all that it may have forked. Returns its wait status. */
static int end(struct vv_worker *worker, pid_t next)
{
    int status = 0;
    pid_t orphan;

    vv_oversee_close(worker);
    while (waitpid(worker->pid, &status, 0) < 0 && errno == EINTR) {
    }
    kill(-worker->pid, SIGKILL);
    while ((orphan = an_orphan(next)) > 0) {
        kill(orphan, SIGKILL);
        while (waitpid(orphan, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    return status;
}

int vv_serve(int control, int data, void *shared, u64 request_capacity, u64 reply_capacity, const char *library)
{
    const struct rlimit no_core = {0, 0};
    uint8_t *const request = (uint8_t *)shared + VV_PROGRESS_BYTES, *const reply = request + request_capacity;
    const struct served served = {control, data, request, reply, request_capacity, reply_capacity, library};
    struct vv_worker worker = VV_NO_WORKER, next = VV_NO_WORKER;
    bool has_ended = false;         /* one has: others may */

    vv_progress = shared;
    vv_covered = reply + reply_capacity;
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
        enum vv_overseen overseen;
        int status;

        worker = next.pid > 0 ? next : get_ready(&served, &worker);
        if (worker.pid < 0) {
            return -1;
        }
        next = VV_NO_WORKER;
        vv_oversee_take_over(&worker);
        overseen = vv_oversee(&worker, control);
        if (overseen == VV_BEGINS) {
            if (has_ended) {
                next = get_ready(&served, &worker);
            }
            overseen = vv_oversee(&worker, control);
        }
        if (overseen == VV_OWNER_GONE) {
            kill(-worker.pid, SIGKILL);
        }
        status = end(&worker, next.pid);
        has_ended = true;
        if (overseen == VV_OWNER_GONE || (worker.has_begun && !vv_say(control, VV_ENDED, status))) {
            if (next.pid > 0) {
                kill(next.pid, SIGKILL);
                end(&next, -1);
            }
            return 0;
        }
        if (!worker.has_begun) {
            /* Somebody else ended it. The next one may end like it: no more than are asked for. */
            poll(&(struct pollfd){.fd = control, .events = POLLIN}, 1, -1);
        }
        worker = VV_NO_WORKER;
    }
}
