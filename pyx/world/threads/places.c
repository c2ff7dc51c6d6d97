/*
 * On which processor a thread runs. The baton goes from one thread to the next many times faster where they share one:
 * to wake another processor takes longer than most steps. Where there is no baton, each has another, if there are so
 * many. A thread asks for itself: the filter of system calls lets nobody move another one.
 *
 * SPDX-License-Identifier: MIT
 */
#include <sched.h>

#include "threads/crew.h"

static cpu_set_t allowed;
static int shared;              /* -1: the threads run where they are */

static void move_to(int processor)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    sched_setaffinity(0, sizeof(one), &one);
}

static u64 draw(u64 dice, u64 thread)
{
    u64 state = dice + thread;

    return vv_below(&state, ~(u64)0);
}

/* Who has to share one differs from round to round. */
static int own_processor(u64 thread, u64 dice)
{
    const u64 mine = draw(dice, thread);
    int processor = -1;
    u64 before = 0, t, left;

    for (t = 0; t < vv_crew.n; t++) {
        before += draw(dice, t) < mine;
    }
    left = before % (u64)CPU_COUNT(&allowed) + 1;
    while (left) {
        left -= CPU_ISSET(++processor, &allowed) != 0;
    }
    return processor;
}

void vv_places_begin(void)
{
    shared = -1;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
        shared = sched_getcpu();
    }
    if (shared >= 0) {
        move_to(shared);
    }
}

void vv_place(struct vv_thread *me, const struct vv_round *round)
{
    int processor;

    if (shared < 0) {
        return;
    }
    processor = round->policy != FREE ? shared : own_processor((u64)(me - vv_crew.threads), round->dice);
    if (me->processor != processor) {
        move_to(processor);
        me->processor = processor;
    }
}

void vv_places_end(void)
{
    if (shared >= 0) {
        sched_setaffinity(0, sizeof(allowed), &allowed);
    }
}
