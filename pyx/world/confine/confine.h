/*
 * What confines a stranger's code.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/base.h"

/* ---- worker.c: before a subject is loaded ------------------------------------------------------- */

/* class SandboxFeature of vfio_verify/worker/sandbox.py has the same. A part left out is told as one that the kernel
 * lacks. */
enum vv_confine_parts {
    VV_LANDLOCK = 1,            /* which files can be opened */
    VV_SECCOMP = 2,             /* which system calls can be made */
    VV_LIMITS = 4,              /* resource limits, no new privileges, no capabilities */
};

/* Once a process tree: the parts to use, then each file or directory that a subject may read. Paths that
 * are not there are passed over. 0, or -1 with errno. */
void vv_confine_with(u64 parts);
int vv_confine_allow(const char *path);

/* Confines this process for good. Returns what is in force: Landlock's version in bits 0 to 15, the errno for
 * which it is missing in bits 16 to 31, the errno for which seccomp is missing in bits 32 to 47, and above that the one
 * for which nobody answers for forks. `overseer`: where the parent takes over what it needs to answer (oversee.c). */
int64_t vv_confine(int overseer);

/* ---- compiler.c: in the thread that starts a compiler ------------------------------------------- */

/* Confines this thread, and what it starts, for good, by some of enum vv_confine_parts. Paths that are not there, or
 * not for this user, are passed over, and so is what the kernel lacks. Each path of a list ends in NUL, and the last
 * one in two. 0, or -1 with errno. */
int vv_confine_compiler(u64 parts, const char *programs, const char *readable, const char *writable);

/* ---- oversee.c: what a worker's parent does and decides for it ---------------------------------- */

/* From the owner, on the control socket: how many forks the next request has. vfio_verify/worker/native.py has the
 * same. */
struct vv_grant { int64_t kind; u64 forks; };

/* In the worker, before its list of system calls: forks wait for an answer from now on. Returns a descriptor, or -1. */
int vv_oversee_install(void);
int vv_oversee_hand_over(int socket, int listener);     /* -1: there is none. 0 or -1 */

/* Later: where to ask for what cannot be opened; and a descriptor of what /proc says of a thread of this process, or
 * -1. A sandbox grants no directory of /proc, under which the host's network and mounts can be read as well. */
void vv_oversee_by(int socket);
int vv_oversee_stat(pid_t thread);

/* To the owner, on the control socket, or on that of the worker's requests. False: it is gone. */
enum { VV_STARTED = 1, VV_ENDED = 2, VV_CONFINED = 3, VV_FORKED = 4 };
bool vv_say(int socket, int64_t kind, int64_t value);

/* A worker, and what its parent holds of it. */
struct vv_worker {
    pid_t pid;                      /* -1: none */
    int socket;                     /* the parent's end of theirs */
    int listener, end;              /* where forks are asked for, and what tells of its end; -1: none */
    bool has_begun;
    struct { u64 forks; bool any, told; } granted;      /* what is left, whether there was any, and one too many */
};
#define VV_NO_WORKER (struct vv_worker){.pid = -1, .socket = -1, .listener = -1, .end = -1}

/* Before the first use: the worker gets ready, and sends its listener. */
void vv_oversee_take_over(struct vv_worker *worker);
void vv_oversee_close(const struct vv_worker *worker);

/* When the owner says that the worker is to begin, tells the owner which one it is, and the worker by a byte on their
 * socket, and returns. Called again, answers until the worker has ended. A fork that nobody was granted, in a request
 * that has some, is told: somebody else took them. */
enum vv_overseen { VV_GOES_ON, VV_BEGINS, VV_ENDS, VV_OWNER_GONE };
enum vv_overseen vv_oversee(struct vv_worker *worker, int control);
