/*
 * What the parts of concurrent calls share.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include "base/base.h"
#include "vfio_verify/call.h"

/* ---- crew.c ------------------------------------------------------------------------------------- */

#define VV_STACK_BYTES ((size_t)2 << 20)
#define VV_SIGNAL_STACK_BYTES ((size_t)64 << 10)
#define VV_RESOURCE_BYTES 1024

struct vv_thread {
    struct vv_call_state state;
    struct vv_call call;
    struct vv_iovec iovec;
    uint8_t *iov_end;               /* where an unreadable page begins */
    enum { IDLE, RUNNING, WAITING, DONE } phase;
    int word;                       /* futex: changed when the baton comes */
    int rounds;                     /* futex: changed when a round begins in which this thread has a call */
    pid_t tid;
    int processor;                  /* which it has to itself or shares with the others; -1: any */
    clockid_t clock;                /* of the processor time that this thread has used */
    int stat_fd;                    /* of /proc/self/task/TID/stat; -1: cannot be opened */
    u64 pauses, control_pauses;     /* places where it could be stopped, in this round and in the control */
    uint8_t *room;                  /* stack, signal stack, iovec */
    uint8_t resource[VV_RESOURCE_BYTES] __attribute__((aligned(16)));
};

/* What the parent reads besides the records, also when this process has died. In the second half of the reply; the
 * threads' orders and events follow. vfio_verify/worker/native.py mirrors it. */
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

/* ---- rivals.c: other threads, which look for holes in reservations and grab addresses ----------- */

void vv_look(void);
void vv_grab(u64 *state);           /* state: of vv_below() */

void vv_rivals_init(void);          /* once a process */
void *vv_rival(void *grabs);        /* the life of a thread that looks, or grabs; between the next two: */
void vv_rivals_begin(void);
void vv_rivals_end(void);           /* what was grabbed is given back, in rounds without such threads too */

/* ---- turns.c: who goes on at a step ------------------------------------------------------------- */

enum vv_policy { ONE_BY_ONE, STOP_ONE, IN_TURN, AT_RANDOM, FREE };      /* FREE: there is no baton */

/* The plan of a round. */
struct vv_round {
    enum vv_policy policy;
    u64 stopped, stop_at;           /* STOP_ONE: which thread, at which of its pauses */
    bool backwards;                 /* ONE_BY_ONE */
    u64 staying;                    /* AT_RANDOM: in how many of eight steps the same thread goes on */
    u64 dice;                       /* state of vv_below() */
    bool watched;                   /* holes are looked for and addresses grabbed in this round */
};

extern const struct vv_scheduler vv_turns;

void vv_turns_init(void);                           /* once a process */
void *vv_thread_live(void *thread);                 /* a struct vv_thread */
void vv_turns_greeted(u64 n);                       /* waits until so many threads live */
void vv_turns_begin(const struct vv_round *round);  /* before the threads are told of it */
void vv_turns_wait(void);                           /* until all calls have returned */

/* ---- places.c: on which processor a thread runs ------------------------------------------------- */

void vv_places_begin(void);                         /* before the rounds of a case */
void vv_place(struct vv_thread *me, const struct vv_round *round);  /* by the thread itself, before its call */
void vv_places_end(void);
