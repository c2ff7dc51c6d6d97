/*
 * Who goes on at a step.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/call_state.h"

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
