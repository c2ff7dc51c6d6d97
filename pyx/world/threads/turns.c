/*
 * The threads take turns: one has the baton and runs up to its next step, where the plan of the round says who goes on.
 * A thread that has the baton and sleeps, on a mutex of the subject's that another holds, loses it.
 *
 * SPDX-License-Identifier: MIT
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/base.h"
#include "confine/confine.h"
#include "run/run.h"
#include "threads/crew.h"

#define SLEEP_CHECK_NS 200000
#define MAX_CHECKS 250              /* of a thread that has the baton and comes to no step */
#define SPIN_NS 1000000             /* of processor time, after the first of these checks: it waits for another */
#define WAIT_STEPS 40               /* without a baton: how long a thread waits for another to reach a step, */
#define WAIT_NS 50000               /* and how long at most: a thread that spins takes what another yields */

static struct vv_round this_round;
static char lock;                   /* of all that follows, and of every thread's phase */
static struct vv_thread *turn;
static u64 arrived, checks, asleep;
static u64 used_before;             /* by the thread with the baton, at the first check */
static int done_word;               /* futex: changed when all are done */
static u64 n_done;
static u64 n_greetings;

static bool can_go(const struct vv_thread *thread)
{
    return thread->phase == WAITING;
}

/* Any of those that wait, but one; from a given place on. NULL: none. */
static struct vv_thread *another(const struct vv_thread *but, u64 from)
{
    u64 i;

    for (i = 0; i < vv_crew.n; i++) {
        struct vv_thread *thread = &vv_crew.threads[(from + i) % vv_crew.n];
        if (thread != but && can_go(thread)) {
            return thread;
        }
    }
    return NULL;
}

/* Who goes on; `last` had the baton, and waits or is done. */
static struct vv_thread *choose(struct vv_thread *last)
{
    struct vv_thread *victim = &vv_crew.threads[this_round.stopped], *next;
    u64 i;

    switch (this_round.policy) {
    case ONE_BY_ONE:
        if (last && can_go(last)) {
            return last;
        }
        for (i = 0; i < vv_crew.n; i++) {
            next = &vv_crew.threads[this_round.backwards ? vv_crew.n - 1 - i : i];
            if (can_go(next)) {
                return next;
            }
        }
        return NULL;
    case STOP_ONE:
        if (can_go(victim) && victim->pauses < this_round.stop_at) {
            return victim;
        }
        if (last && last != victim && can_go(last)) {
            return last;
        }
        next = another(victim, vv_below(&this_round.dice, vv_crew.n));
        return next || !can_go(victim) ? next : victim;
    case IN_TURN:
        return another(NULL, last ? (u64)(last - vv_crew.threads) + 1 : 0);
    default:
        return last && can_go(last) && vv_below(&this_round.dice, 8) < this_round.staying
               ? last : another(NULL, vv_below(&this_round.dice, vv_crew.n));
    }
}

/* With the lock held. */
static void pass_on(struct vv_thread *last)
{
    turn = choose(last);
    checks = asleep = 0;
    if (turn && turn != last) {
        vv_futex_wake(&turn->word);
    }
}

/* Whether a thread sleeps: 'S' in proc(5). Where that cannot be read, what takes long is taken for sleep. */
static bool sleeps(const struct vv_thread *thread)
{
    char text[512], *end;
    ssize_t got = thread->stat_fd < 0 ? -1 : pread(thread->stat_fd, text, sizeof(text) - 1, 0);

    if (got <= 0) {
        return checks > 10;
    }
    text[got] = 0;
    end = strrchr(text, ')');
    return end && end[1] && end[2] == 'S';
}

static u64 nanoseconds(clockid_t clock)
{
    struct timespec now = {0};

    clock_gettime(clock, &now);
    return (u64)now.tv_sec * 1000000000u + (u64)now.tv_nsec;
}

/* Nothing has come for a while: the thread with the baton may sleep outside of any step, or spin. */
static void look_after_turn(void)
{
    vv_spin_lock(&lock);
    if (!turn) {
        pass_on(NULL);
    } else if (turn->phase == WAITING) {
        vv_futex_wake(&turn->word);
    } else if (turn->phase == RUNNING) {
        const u64 used = nanoseconds(turn->clock);

        used_before = checks++ ? used_before : used;
        asleep = sleeps(turn) ? asleep + 1 : 0;
        if (asleep >= 2 || used - used_before > SPIN_NS || checks > MAX_CHECKS) {
            pass_on(turn);
        }
    }
    vv_spin_unlock(&lock);
}

static void wait_for_turn(struct vv_thread *me)
{
    for (;;) {
        const int word = __atomic_load_n(&me->word, __ATOMIC_SEQ_CST);

        vv_spin_lock(&lock);
        if (turn == me) {
            me->phase = RUNNING;
            vv_spin_unlock(&lock);
            return;
        }
        vv_spin_unlock(&lock);
        vv_futex_wait(&me->word, word, SLEEP_CHECK_NS);
        if (__atomic_load_n(&me->word, __ATOMIC_SEQ_CST) == word) {
            look_after_turn();
        }
    }
}

/* Without a baton: sometimes wait a little for another thread to reach a step too. */
static void jostle(struct vv_thread *me)
{
    static u64 at_a_step;
    u64 seed = vv_crew.log->round * 0x9e3779b97f4a7c15ull + (u64)(me - vv_crew.threads) * 77 + me->pauses, i;
    const u64 before = __atomic_add_fetch(&at_a_step, 1, __ATOMIC_SEQ_CST);

    if (vv_below(&seed, 3)) {
        const u64 began = nanoseconds(CLOCK_MONOTONIC);

        for (i = vv_below(&seed, WAIT_STEPS); i && __atomic_load_n(&at_a_step, __ATOMIC_SEQ_CST) == before
             && nanoseconds(CLOCK_MONOTONIC) - began < WAIT_NS; i--) {
            sched_yield();
        }
    }
}

static void pause_here(void)
{
    struct vv_thread *me;

    if (!vv_calls.active || vv_calls.nested) {
        return;
    }
    me = &vv_crew.threads[vv_calls.thread - 1];
    me->pauses++;
    if (this_round.policy == FREE) {
        jostle(me);
        return;
    }
    if (this_round.watched && turn == me) {
        vv_look();
        if (vv_below(&this_round.dice, 2)) {
            vv_grab(&this_round.dice);
        }
    }
    vv_spin_lock(&lock);
    me->phase = WAITING;
    if (!turn || turn == me) {
        pass_on(me);
    }
    vv_spin_unlock(&lock);
    wait_for_turn(me);
}

static u64 next_order(void)
{
    return __atomic_add_fetch(&vv_crew.order, 1, __ATOMIC_SEQ_CST);
}

static void died(void)
{
    vv_crew.log->dead = vv_calls.thread - 1;
}

const struct vv_scheduler vv_turns = {.pause = pause_here, .order = next_order, .died = died};

/* ---- a thread's life ------------------------------------------------------------------------------------- */

/* The round begins when all threads stand at its line. */
static void start_line(struct vv_thread *me)
{
    vv_spin_lock(&lock);
    me->phase = WAITING;
    if (++arrived == vv_crew.n && this_round.policy != FREE) {
        pass_on(NULL);
    }
    vv_spin_unlock(&lock);
    if (this_round.policy != FREE) {
        wait_for_turn(me);
        return;
    }
    while (__atomic_load_n(&arrived, __ATOMIC_SEQ_CST) < vv_crew.n) {
        sched_yield();
    }
    me->phase = RUNNING;
}

static void finish_line(struct vv_thread *me)
{
    u64 done;

    vv_spin_lock(&lock);
    me->phase = DONE;
    if (this_round.policy != FREE && (!turn || turn == me)) {
        pass_on(me);
    }
    done = ++n_done;
    vv_spin_unlock(&lock);
    if (done == vv_crew.n) {
        vv_futex_wake(&done_word);
    }
}

void *vv_thread_live(void *argument)
{
    struct vv_thread *me = argument;
    const stack_t signals = {.ss_sp = me->room + VV_STACK_BYTES, .ss_size = VV_SIGNAL_STACK_BYTES};
    const pid_t process = getpid();
    int seen = __atomic_load_n(&me->rounds, __ATOMIC_SEQ_CST), now;

    sigaltstack(&signals, NULL);
    me->tid = (pid_t)syscall(SYS_gettid);
    me->processor = -1;
    pthread_getcpuclockid(pthread_self(), &me->clock);
    me->stat_fd = vv_oversee_stat(me->tid);
    vv_call_state = &me->state;
    __atomic_add_fetch(&n_greetings, 1, __ATOMIC_SEQ_CST);
    for (;;) {
        while ((now = __atomic_load_n(&me->rounds, __ATOMIC_SEQ_CST)) == seen) {
            vv_futex_wait(&me->rounds, seen, 1000000000);
        }
        seen = now;
        vv_place(me, &this_round);
        start_line(me);
        vv_calls.active = true;
        vv_subject(&me->call);
        if (getpid() != process) {
            _exit(0);           /* a child that the subject forked: only its parent answers */
        }
        vv_calls.active = false;
        finish_line(me);
    }
    return NULL;
}

/* ---- a round, for the thread that waits for it -------------------------------------------------------------- */

void vv_turns_begin(const struct vv_round *next)
{
    this_round = *next;
    arrived = n_done = checks = asleep = 0;
    turn = NULL;
    vv_crew.order = 0;
}

void vv_turns_wait(void)
{
    for (;;) {
        const int word = __atomic_load_n(&done_word, __ATOMIC_SEQ_CST);

        if (__atomic_load_n(&n_done, __ATOMIC_SEQ_CST) == vv_crew.n) {
            return;
        }
        vv_futex_wait(&done_word, word, 10000000);
        if (this_round.policy != FREE && arrived == vv_crew.n
            && __atomic_load_n(&n_done, __ATOMIC_SEQ_CST) != vv_crew.n) {
            look_after_turn();      /* nobody else may be waiting */
        }
    }
}

void vv_turns_greeted(u64 n)
{
    while (__atomic_load_n(&n_greetings, __ATOMIC_SEQ_CST) < n) {
        sched_yield();
    }
}

void vv_turns_init(void)
{
    n_greetings = 0;
}
