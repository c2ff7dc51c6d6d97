/*
 * The state of a call of the subject, of which each thread has its own.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/layout.h"
#include "base/raw.h"
#include "base/step.h"

/* References that a call took of an object and has not dropped; below 0, it dropped those of others. */
struct vv_reference {
    const void *object;
    int64_t count, lowest;
    u64 taken_at, dropped_at;   /* places in the subject: where the last one was taken, and the first of others' dropped */
};

/* Who goes on where several threads call the subject. */
struct vv_scheduler {
    void (*pause)(void);        /* at a step, another thread's call may go on instead of this one */
    u64 (*order)(void);         /* the next place in the order of the steps of all threads */
    void (*died)(void);         /* this thread ends the process */
};

struct vv_call_state {
    bool active;                /* inside a call of the subject */
    const struct vv_scheduler *scheduler;       /* of concurrent calls; NULL: no other thread calls the subject */
    bool holed;                 /* a driver's or the kernel's refusal may have torn what is owned */
    char lock;                  /* of owned, for other threads that read it; taken in concurrent calls only */
    int nested;                 /* what follows is the world's doing */
    u64 thread;                 /* 0: the process's first */
    const struct vv_fault *faults;
    u64 n_faults;
    u64 counts[VV_STEPS];
    struct vv_event *events;
    u64 *order;                 /* beside each event: its place among the steps of all threads; NULL: not kept */
    struct vv_event spare;
    u64 n_events, max_events, dropped, flags_union;
    struct Error *callers_error;        /* what errp points to */
    u64 error_sets;             /* errors that reached it, kept or not */
    u64 error_at[2];            /* the places where the first two were set */
    struct vv_range owned[512]; /* what the subject reserved and still holds */
    u64 n_owned;
    u64 first_reservation;      /* address, 0 before */
    struct vv_reference references[64];
    u64 n_references;
    u64 read_locks;             /* of RCU, held */
};
/* That of this thread. A pointer, since a module that is loaded late gets little room for thread-local variables
 * that are reached as fast as any others. Threads that a subject starts itself share that of the first thread. */
extern _Thread_local struct vv_call_state *vv_call_state __attribute__((tls_model("initial-exec")));
#define vv_calls (*vv_call_state)

static inline void vv_pause(void)
{
    if (vv_calls.scheduler) {
        vv_calls.scheduler->pause();
    }
}

/* Locks that a call on its own does not need. */
static inline void vv_lock_concurrent(char *lock)
{
    if (vv_calls.scheduler) {
        vv_spin_lock(lock);
    }
}

static inline void vv_unlock_concurrent(char *lock)
{
    if (vv_calls.scheduler) {
        vv_spin_unlock(lock);
    }
}
