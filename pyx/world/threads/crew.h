/*
 * The threads that call the subject concurrently, and what their parts share.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include <sys/uio.h>

#include "base/call_state.h"
#include "vfio_verify/call.h"

#define VV_STACK_BYTES ((size_t)2 << 20)
#define VV_SIGNAL_STACK_BYTES ((size_t)64 << 10)
#define VV_RESOURCE_BYTES 1024

struct vv_thread {
    struct vv_call_state state;
    struct vv_call call;
    struct vv_iovec iovec;
    uint8_t *iov_end;               /* where an unreadable page begins */
    enum { IDLE, RUNNING, WAITING, DONE } phase;
    bool lost;                      /* it had the baton, and sleeps */
    int word;                       /* futex: changed when the baton comes */
    int rounds;                     /* futex: changed when a round begins in which this thread has a call */
    pid_t tid;
    int stat_fd;                    /* of /proc/self/task/TID/stat; -1: cannot be opened */
    u64 pauses, control_pauses;     /* places where it could be stopped, in this round and in the control */
    uint8_t *room;                  /* stack, signal stack, iovec */
    uint8_t resource[VV_RESOURCE_BYTES] __attribute__((aligned(16)));
};

/* What the parent reads besides the records, also when this process has died. In the second half of the reply; the
 * threads' orders and events follow. vfio_verify/worker/thread_wire.py mirrors it. */
struct vv_thread_log {
    u64 n_threads, round, policy, dead;         /* dead: the thread that ended the process */
    u64 slice, max_events;                      /* bytes and events of each thread */
    u64 holes, hole_thread, hole_start, hole_end, hole_at, hole_order;
    u64 grabs, grab_thread, grab_start, grab_end, grab_at, grab_bytes, grab_order;
    u64 clobbered;                              /* pieces of the greedy thread that a call overwrote */
};

extern struct vv_crew {
    struct vv_thread *threads;
    u64 n;                          /* that have a call in this round */
    struct vv_thread_log *log;
    u64 order;                      /* the last place in the order of all steps */
} vv_crew;

void vv_futex_wait(int *word, int value, u64 ns);
void vv_futex_wake(int *word);      /* changes the word, too */
u64 vv_below(u64 *state, u64 n);    /* a number below n, by chance; 0 where n is 0 */
