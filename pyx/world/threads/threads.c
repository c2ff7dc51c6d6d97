/*
 * Several calls at once, each by a thread of its own, in one layout.
 *
 * Left to themselves, two calls of a few microseconds hardly ever meet, and never on a machine with one core. So the
 * threads take turns: one has the baton and runs up to its next step (a system call, a look-up, an error that is
 * set), where a plan says who goes on. Each round has another plan, made from the request's seed: one call is stopped
 * at its n-th step while the others run to their ends; strict turns; turns at random, long and short. A thread that has the baton and
 * sleeps, on a mutex of the subject's that another holds, loses it. In every sixth round there is no baton, only a
 * start line: what happens between two steps can be seen there alone, and needs two cores.
 *
 * The first two rounds are controls: the same calls, one after the other, in either order. A later round whose calls
 * end as in the first is forgotten; one that differs is put into the reply, and is the last.
 *
 * At each step of the baton's rounds, and all the time in the others, two things are tried that any other thread of
 * QEMU could do: to see a hole in what a call has reserved (by msync(MS_ASYNC), which does nothing but tell), and to
 * get an address inside it (by mmap).
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "run/core_subject.h"
#include "internal.h"
#include "confine/oversee.h"

#define MAX_THREADS 64
#define CONTROLS 2
#define STACK_BYTES ((size_t)2 << 20)
#define SIGNAL_STACK_BYTES ((size_t)64 << 10)
#define RESOURCE_BYTES 1024
#define IOV_BYTES (VV_MAX_SEGMENTS * sizeof(struct iovec))
#define COMPARED_PAGES 131072       /* of all calls: half of what memory.c can remember as stamped */
#define SLEEP_CHECK_NS 200000
#define MAX_CHECKS 250              /* of a thread that has the baton and comes to no step */
#define WAIT_STEPS 40               /* without a baton: how long a thread waits for another to reach a step */
#define PIECES 4
#define MOST_GRABBED (64ull << 20)
#define LOG_WORDS 32

_Static_assert(MAX_THREADS < VV_CORE_THREADS, "each thread needs an object of the core");

enum phase { IDLE, RUNNING, WAITING, DONE };
enum policy { ONE_BY_ONE, STOP_ONE, IN_TURN, AT_RANDOM, FREE };

struct thread {
    struct vv_call_state state;
    struct vv_call call;
    struct iovec *iov;
    uint8_t *iov_end;               /* where an unreadable page begins */
    const struct vv_segment *segments;
    u64 n_segments, total_size;
    enum phase phase;
    bool lost;                      /* it had the baton, and sleeps */
    int word;                       /* futex: changed when the baton comes */
    int rounds;                     /* futex: changed when a round begins in which this thread has a call */
    pid_t tid;
    int stat_fd;                    /* of /proc/self/task/TID/stat; -1: cannot be opened */
    u64 pauses, control_pauses;     /* places where it could be stopped, in this round and in the control */
    uint8_t *room;                  /* stack, signal stack, resource, iovec */
    uint8_t resource[RESOURCE_BYTES] __attribute__((aligned(16)));
};

/* What the parent reads besides the records, also when this process has died. In the second half of the reply; the
 * threads' orders and events follow. vfio_verify/worker/thread_wire.py mirrors it. */
struct log {
    u64 n_threads, round, policy, dead;         /* dead: the thread that ended the process */
    u64 slice, max_events;                      /* bytes and events of each thread */
    u64 holes, hole_thread, hole_start, hole_end, hole_at, hole_order;
    u64 grabs, grab_thread, grab_start, grab_end, grab_at, grab_bytes, grab_order;
    u64 clobbered;                              /* pieces of the greedy thread that a call overwrote */
};
_Static_assert(sizeof(struct log) <= LOG_WORDS * sizeof(u64), "the log's head has room for it");

struct request { u64 magic, rounds, seed, n_calls; };           /* then an ordinary request, then the other calls */
struct other_call { u64 n_segments, total_size; };              /* followed by its segments */
struct reply { u64 n_threads, rounds, differs, n_records; };    /* differs: the round that does, or VV_NONE */

static struct thread *threads;
static u64 n_made, n_threads;
static pid_t made_by;

static struct log *plan_log;
static struct log unwatched;
static u64 order;
static enum policy policy;
static u64 stopped, stop_at;            /* STOP_ONE: which thread, at which of its pauses */
static bool backwards;                  /* ONE_BY_ONE */
static u64 staying;                     /* AT_RANDOM: in how many of eight steps the same thread goes on */
static u64 dice;
static char lock;                       /* of all that follows, and of every thread's phase */
static struct thread *turn;
static u64 arrived, checks, asleep;
static int done_word;                   /* futex: changed when all are done */
static u64 n_done;
static cpu_set_t anywhere, here;
static bool watched;                    /* are holes looked for and addresses grabbed in this round? */

/* ---- small tools ---------------------------------------------------------------------------------- */

void vv_spin_lock(char *held)
{
    while (__atomic_test_and_set(held, __ATOMIC_ACQUIRE)) {
        sched_yield();
    }
}

void vv_spin_unlock(char *held)
{
    __atomic_clear(held, __ATOMIC_RELEASE);
}

static void futex_wait(int *word, int value, u64 ns)
{
    const struct timespec timeout = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};

    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &timeout, NULL, 0);
}

static void futex_wake(int *word)
{
    __atomic_add_fetch(word, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static u64 mix(u64 x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static u64 below(u64 *state, u64 n)
{
    *state += 0x9e3779b97f4a7c15ull;
    return n ? mix(*state) % n : 0;
}

u64 vv_threads_order(void)
{
    return __atomic_add_fetch(&order, 1, __ATOMIC_SEQ_CST);
}

void vv_threads_died(void)
{
    if (vv_calls.at_once) {
        plan_log->dead = vv_calls.thread - 1;
    }
}

/* ---- the other threads of the process: one that looks, one that grabs ------------------------------- */

static struct { uint8_t *at; u64 bytes; } pieces[PIECES];
static u64 next_piece;

static void saw_hole(const struct thread *thread, u64 start, u64 end)
{
    u64 low = start, high = end;

    if (__atomic_fetch_add(&plan_log->holes, 1, __ATOMIC_SEQ_CST)) {
        return;
    }
    while (high - low > vv_page_size) {         /* where; it may be gone meanwhile */
        const u64 middle = own_page_down(low + (high - low) / 2);
        if (msync((void *)low, middle - low, MS_ASYNC) < 0) {
            high = middle;
        } else {
            low = middle;
        }
    }
    plan_log->hole_thread = (u64)(thread - threads);
    plan_log->hole_start = start;
    plan_log->hole_end = end;
    plan_log->hole_at = low;
    plan_log->hole_order = __atomic_load_n(&order, __ATOMIC_SEQ_CST);
}

static void look(void)
{
    u64 t, i;

    for (t = 0; t < n_threads; t++) {
        struct vv_call_state *state = &threads[t].state;

        vv_spin_lock(&state->lock);
        for (i = 0; i < state->n_owned && !state->holed; i++) {
            const struct vv_range range = state->owned[i];
            if (msync((void *)range.start, range.end - range.start, MS_ASYNC) < 0 && errno == ENOMEM) {
                saw_hole(&threads[t], range.start, range.end);
            }
        }
        vv_spin_unlock(&state->lock);
    }
}

static void let_go(u64 slot)
{
    u64 seen = 0, mark = (u64)pieces[slot].at;
    struct iovec to = {&seen, sizeof(seen)}, from = {pieces[slot].at, sizeof(seen)};

    if (!pieces[slot].at) {
        return;
    }
    /* Not read as it is: what lies there now may be unreadable. */
    if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != sizeof(seen) ? errno == EFAULT : seen != mark) {
        plan_log->clobbered++;
    }
    vv_raw_munmap(pieces[slot].at, pieces[slot].bytes);
    pieces[slot].at = NULL;
}

static struct vv_range some_reservation(u64 *state)
{
    struct vv_range range = {0, 0};
    u64 t = below(state, n_threads), i;

    for (i = 0; i < n_threads && !range.end; i++, t++) {
        struct vv_call_state *calls = &threads[t % n_threads].state;

        vv_spin_lock(&calls->lock);
        if (calls->n_owned && !calls->holed) {
            range = calls->owned[below(state, calls->n_owned)];
        }
        vv_spin_unlock(&calls->lock);
    }
    return range;
}

enum lies { APART, TORN, RESERVED };

/* Where does [start, end) lie, which the kernel has just given us? With all threads' locks held. */
static enum lies lies(u64 start, u64 end)
{
    enum lies found = APART;
    u64 t, i;

    for (t = 0; t < n_threads; t++) {
        const struct vv_call_state *state = &threads[t].state;

        for (i = 0; i < state->n_owned; i++) {
            const struct vv_range range = state->owned[i];

            if (start >= range.end || range.start >= end) {
                continue;
            }
            if (state->holed) {
                found = TORN;
                continue;
            }
            if (!__atomic_fetch_add(&plan_log->grabs, 1, __ATOMIC_SEQ_CST)) {
                plan_log->grab_thread = t;
                plan_log->grab_start = range.start;
                plan_log->grab_end = range.end;
                plan_log->grab_at = start;
                plan_log->grab_bytes = end - start;
                plan_log->grab_order = __atomic_load_n(&order, __ATOMIC_SEQ_CST);
            }
            return RESERVED;
        }
    }
    return found;
}

/* Nothing is disowned, and so nothing unmapped, while all are held. */
static void lock_all(bool held)
{
    u64 t;

    for (t = 0; t < n_threads; t++) {
        if (held) {
            vv_spin_lock(&threads[t].state.lock);
        } else {
            vv_spin_unlock(&threads[t].state.lock);
        }
    }
}

/* Small pieces and ones as large as a reservation, anywhere and just inside one; kept for a while. What lies in a
 * reservation is given back at once: it is the call's to overlay, and, torn by the kernel, to unmap as a whole. */
static void grab(u64 *state)
{
    const struct vv_range range = some_reservation(state);
    u64 bytes = vv_page_size, hint = 0;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    const u64 way = below(state, 4);
    uint8_t *got;
    u64 slot;

    if (range.end) {
        if (way >= 2) {
            hint = range.start + vv_page_size * below(state, (range.end - range.start) / vv_page_size);
            flags |= way == 3 ? MAP_FIXED_NOREPLACE : 0;
        } else if (way == 1 && range.end - range.start <= MOST_GRABBED) {
            bytes = range.end - range.start;
        }
    }
    /* A thread that lost the baton while it waited for a processor may be here as well. */
    lock_all(true);
    slot = next_piece % PIECES;
    let_go(slot);
    got = vv_raw_mmap((void *)hint, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if ((void *)got != MAP_FAILED) {
        if (lies((u64)got, (u64)got + bytes) != APART) {
            vv_raw_munmap(got, bytes);
        } else {
            *(u64 *)(void *)got = (u64)got;
            pieces[slot].at = got;
            pieces[slot].bytes = bytes;
            next_piece++;
        }
    }
    lock_all(false);
}

static int watching;                    /* futex: odd while the two threads are at work */
static u64 n_at_work;

static void *watch(void *grabs)
{
    u64 state = (u64)getpid();

    for (;;) {
        const int now = __atomic_load_n(&watching, __ATOMIC_SEQ_CST);

        if (!(now & 1)) {
            futex_wait(&watching, now, 1000000000);
            continue;
        }
        __atomic_add_fetch(&n_at_work, 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&watching, __ATOMIC_SEQ_CST) == now) {
            if (grabs) {
                grab(&state);
            } else {
                look();
            }
            sched_yield();
        }
        __atomic_sub_fetch(&n_at_work, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

static void end_watching(void)
{
    u64 i;

    if (watching & 1) {
        __atomic_add_fetch(&watching, 1, __ATOMIC_SEQ_CST);
    }
    while (__atomic_load_n(&n_at_work, __ATOMIC_SEQ_CST)) {
        sched_yield();
    }
    for (i = 0; i < PIECES; i++) {
        let_go(i);
    }
}

/* ---- the baton ---------------------------------------------------------------------------------------- */

static bool can_go(const struct thread *thread)
{
    return thread->phase == WAITING;
}

/* Any of those that wait, but one; from a given place on. NULL: none. */
static struct thread *another(const struct thread *but, u64 from)
{
    u64 i;

    for (i = 0; i < n_threads; i++) {
        struct thread *thread = &threads[(from + i) % n_threads];
        if (thread != but && can_go(thread)) {
            return thread;
        }
    }
    return NULL;
}

/* Who goes on; `last` had the baton, and waits or is done. */
static struct thread *choose(struct thread *last)
{
    struct thread *victim = &threads[stopped], *next;
    u64 i;

    switch (policy) {
    case ONE_BY_ONE:
        if (last && can_go(last)) {
            return last;
        }
        for (i = 0; i < n_threads; i++) {
            next = &threads[backwards ? n_threads - 1 - i : i];
            if (can_go(next)) {
                return next;
            }
        }
        return NULL;
    case STOP_ONE:
        if (can_go(victim) && victim->pauses < stop_at) {
            return victim;
        }
        if (last && last != victim && can_go(last)) {
            return last;
        }
        next = another(victim, below(&dice, n_threads));
        return next || !can_go(victim) ? next : victim;
    case IN_TURN:
        return another(NULL, last ? (u64)(last - threads) + 1 : 0);
    default:
        return last && can_go(last) && below(&dice, 8) < staying ? last : another(NULL, below(&dice, n_threads));
    }
}

/* With the lock held. */
static void pass_on(struct thread *last)
{
    turn = choose(last);
    checks = asleep = 0;
    if (turn && turn != last) {
        futex_wake(&turn->word);
    }
}

/* Does a thread sleep? 'S' in proc(5). Where that cannot be read, what takes long is taken for sleep. */
static bool sleeps(const struct thread *thread)
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

/* Nothing has come for a while: has the thread with the baton gone to sleep outside of any step? */
static void look_after_turn(void)
{
    vv_spin_lock(&lock);
    if (!turn) {
        pass_on(NULL);
    } else if (turn->phase == WAITING) {
        futex_wake(&turn->word);
    } else if (turn->phase == RUNNING) {
        checks++;
        asleep = sleeps(turn) ? asleep + 1 : 0;
        if (asleep >= 2 || checks > MAX_CHECKS) {
            turn->lost = true;
            pass_on(turn);
        }
    }
    vv_spin_unlock(&lock);
}

static void wait_for_turn(struct thread *me)
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
        futex_wait(&me->word, word, SLEEP_CHECK_NS);
        if (__atomic_load_n(&me->word, __ATOMIC_SEQ_CST) == word) {
            look_after_turn();
        }
    }
}

/* Without a baton: sometimes wait a little for another thread to reach a step too. */
static void jostle(struct thread *me)
{
    static u64 at_a_step;
    u64 seed = plan_log->round * 0x9e3779b97f4a7c15ull + (u64)(me - threads) * 77 + me->pauses, i;
    const u64 before = __atomic_add_fetch(&at_a_step, 1, __ATOMIC_SEQ_CST);

    if (below(&seed, 3)) {
        for (i = below(&seed, WAIT_STEPS); i && __atomic_load_n(&at_a_step, __ATOMIC_SEQ_CST) == before; i--) {
            sched_yield();
        }
    }
}

void vv_threads_pause(void)
{
    struct thread *me;

    if (!vv_calls.at_once || !vv_calls.active || vv_calls.nested) {
        return;
    }
    me = &threads[vv_calls.thread - 1];
    me->pauses++;
    if (policy == FREE) {
        jostle(me);
        return;
    }
    if (watched && turn == me) {
        look();
        if (below(&dice, 2)) {
            grab(&dice);
        }
    }
    vv_spin_lock(&lock);
    me->phase = WAITING;
    me->lost = false;
    if (!turn || turn == me) {
        pass_on(me);
    }
    vv_spin_unlock(&lock);
    wait_for_turn(me);
}

/* ---- a thread's life ------------------------------------------------------------------------------------- */

/* The round begins when all threads stand at its line. */
static void start_line(struct thread *me)
{
    vv_spin_lock(&lock);
    me->phase = WAITING;
    if (++arrived == n_threads && policy != FREE) {
        pass_on(NULL);
    }
    vv_spin_unlock(&lock);
    if (policy != FREE) {
        wait_for_turn(me);
        return;
    }
    while (__atomic_load_n(&arrived, __ATOMIC_SEQ_CST) < n_threads) {
        sched_yield();
    }
    me->phase = RUNNING;
}

static void finish_line(struct thread *me)
{
    u64 done;

    vv_spin_lock(&lock);
    me->phase = DONE;
    if (policy != FREE && (!turn || turn == me)) {
        pass_on(me);
    }
    done = ++n_done;
    vv_spin_unlock(&lock);
    if (done == n_threads) {
        futex_wake(&done_word);
    }
}

static void *live(void *argument)
{
    struct thread *me = argument;
    const stack_t signals = {.ss_sp = me->room + STACK_BYTES, .ss_size = SIGNAL_STACK_BYTES};
    const pid_t process = getpid();
    int seen = __atomic_load_n(&me->rounds, __ATOMIC_SEQ_CST), now;

    sigaltstack(&signals, NULL);
    me->tid = (pid_t)syscall(SYS_gettid);
    me->stat_fd = vv_oversee_stat(me->tid);
    vv_call_state = &me->state;
    finish_line(me);
    for (;;) {
        while ((now = __atomic_load_n(&me->rounds, __ATOMIC_SEQ_CST)) == seen) {
            futex_wait(&me->rounds, seen, 1000000000);
        }
        seen = now;
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

static void wait_for_all(u64 wanted)
{
    for (;;) {
        const int word = __atomic_load_n(&done_word, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&n_done, __ATOMIC_SEQ_CST) == wanted) {
            return;
        }
        futex_wait(&done_word, word, 10000000);
        if (policy != FREE && arrived == n_threads && __atomic_load_n(&n_done, __ATOMIC_SEQ_CST) != wanted) {
            look_after_turn();      /* nobody else may be waiting */
        }
    }
}

static int start_thread(void *(*run)(void *), void *argument, void *stack)
{
    pthread_attr_t attributes;
    pthread_t unused;
    int error;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstack(&attributes, stack, STACK_BYTES);
    error = vv_start_thread(&unused, &attributes, run, argument);
    pthread_attr_destroy(&attributes);
    return error;
}

static int make_thread(struct thread *thread)
{
    const size_t guard = vv_page_size;
    const size_t bytes = guard + STACK_BYTES + SIGNAL_STACK_BYTES + IOV_BYTES + guard;
    uint8_t *room = vv_room(bytes);

    if (!room || mprotect(room, guard, PROT_NONE) < 0 || mprotect(room + bytes - guard, guard, PROT_NONE) < 0) {
        return -1;
    }
    thread->room = room + guard;
    thread->iov_end = room + bytes - guard;
    thread->state.thread = (u64)(thread - threads) + 1;
    thread->state.at_once = true;
    errno = start_thread(live, thread, thread->room);
    return errno ? -1 : 0;
}

/* Threads are made once, and kept: nothing of theirs is mapped while calls are looked at. */
static int make_threads(u64 wanted)
{
    const u64 before = n_made;
    uint8_t *stacks;

    if (made_by != getpid()) {          /* threads do not survive a fork */
        made_by = getpid();
        n_made = 0;
        threads = vv_room(MAX_THREADS * sizeof(*threads));
        stacks = vv_room(2 * STACK_BYTES);
        if (!threads || !stacks || vv_qemu_resource_size() > RESOURCE_BYTES) {
            return -1;
        }
        mallopt(M_ARENA_MAX, 1);        /* a thread's first malloc() would map an arena of its own */
        n_at_work = 0;
        watching = 0;
        if ((errno = start_thread(watch, NULL, stacks)) || (errno = start_thread(watch, stacks, stacks + STACK_BYTES))) {
            return -1;
        }
    }
    n_done = 0;
    policy = FREE;
    n_threads = MAX_THREADS + 1;        /* greetings are no round's end */
    for (; n_made < wanted; n_made++) {
        if (make_thread(&threads[n_made]) < 0) {
            return -1;
        }
    }
    while (before < n_made && __atomic_load_n(&n_done, __ATOMIC_SEQ_CST) < n_made - before) {
        sched_yield();
    }
    if (before < n_made) {
        vv_state_threads_made();
    }
    return 0;
}

/* ---- rounds --------------------------------------------------------------------------------------------------- */

static void fill_iov(struct thread *thread)
{
    const struct vv_layout layout = vv_world.layout;
    struct iovec *iov = vv_world.iov;

    vv_world.layout.segments = thread->segments;
    vv_world.layout.n_segments = thread->n_segments;
    vv_world.iov = thread->iov;
    vv_fill_iov();
    vv_world.iov = iov;
    vv_world.layout = layout;
}

static void prepare(struct thread *thread, struct vv_event *events, u64 *orders, u64 max_events)
{
    struct vv_call_state *first = vv_call_state;

    memset(orders, 0, (thread->state.n_events + 1 < max_events ? thread->state.n_events + 1 : max_events) * sizeof(u64));
    vv_call_state = &thread->state;
    vv_calls_begin(events, max_events - 1, NULL, 0);    /* an order of 0 ends the list */
    vv_calls.order = orders;
    thread->iov = (struct iovec *)(void *)thread->iov_end - thread->n_segments;
    fill_iov(thread);
    thread->call = (struct vv_call){
        .iov = thread->iov,
        .iov_cnt = (unsigned int)thread->n_segments,
        .total_size = thread->total_size,
        .res = (struct virtio_gpu_simple_resource *)(void *)thread->resource,
    };
    vv_qemu_fill_call(&thread->call, thread->n_segments ? thread->segments[0].block : VV_NONE);
    thread->phase = IDLE;
    thread->lost = false;
    thread->pauses = 0;
    vv_call_state = first;
}

/* Which round has which plan. */
static void plan_round(u64 round, u64 seed)
{
    u64 total = 0, at, t;

    dice = seed + round * 0x2545f4914f6cdd1dull;
    backwards = round == 1;
    watched = round >= CONTROLS;
    if (round < CONTROLS) {
        policy = ONE_BY_ONE;
        return;
    }
    round -= CONTROLS;
    policy = (enum policy[]){STOP_ONE, AT_RANDOM, STOP_ONE, AT_RANDOM, IN_TURN, FREE}[round % 6];
    staying = 2 + 2 * below(&dice, 3);
    if (policy != STOP_ONE) {
        return;
    }
    for (t = 0; t < n_threads; t++) {
        total += threads[t].control_pauses;
    }
    /* By the golden ratio, so that few rounds are spread well over all places. */
    at = total ? (seed + (round / 6 * 2 + round % 6 / 2) * (total * 618 / 1000 | 1)) % total : 0;
    for (stopped = 0; stopped + 1 < n_threads && at >= threads[stopped].control_pauses; stopped++) {
        at -= threads[stopped].control_pauses;
    }
    stop_at = at + 1;
}

/* The baton goes from one thread to the next many times faster where they share a processor. */
static void stay(const cpu_set_t *where)
{
    u64 t;

    for (t = 0; t < n_threads; t++) {
        sched_setaffinity(threads[t].tid, sizeof(*where), where);
    }
    sched_setaffinity(0, sizeof(*where), where);
}

static void run_calls(void)
{
    u64 t;

    vv_progress->in_subject = 1;
    arrived = n_done = checks = asleep = 0;
    turn = NULL;
    order = 0;
    if (policy == FREE) {
        stay(&anywhere);
        futex_wake(&watching);
    }
    for (t = 0; t < n_threads; t++) {
        futex_wake(&threads[t].rounds);
    }
    wait_for_all(n_threads);
    end_watching();
    if (policy == FREE) {
        stay(&here);
    }
    vv_progress->in_subject = 0;
}

/* One record for each thread; what is of the whole process goes into the first. Returns where they end. */
static uint8_t *record_round(uint8_t *at, u64 max_runs, const u64 *compared, u64 fd_before, u64 fd_after)
{
    struct vv_call_state *main_state = vv_call_state;
    const struct vv_layout layout = vv_world.layout;
    struct vv_record *first = (struct vv_record *)(void *)at;
    u64 t;
    struct vv_heap_report heap;

    for (t = 0; t < n_threads; t++) {
        struct thread *thread = &threads[t];
        struct vv_record *record = (struct vv_record *)(void *)at;

        memset(record, 0, sizeof(*record));
        vv_call_state = &thread->state;
        vv_world.layout.segments = thread->segments;
        vv_world.layout.n_segments = thread->n_segments;
        vv_world.layout.total_size = thread->total_size;
        vv_record_call(record, &thread->call, max_runs, false, compared[t]);
        record->pages_after = record->mapped ? page_up(thread->total_size) / vv_page_size : 0;
        record->pages_end = 0;
        record->lowest_fd_before = record->lowest_fd_after = fd_before;
        at += record->bytes;
    }
    vv_world.layout = layout;
    vv_call_state = main_state;
    vv_heap_report(&heap);
    first->heap_live = heap.live;
    first->heap_live_bytes = heap.live_bytes;
    first->cached_frees = heap.cached_frees;
    first->bad_frees = heap.bad_frees;
    first->lowest_fd_after = fd_after;
    first->fds_left = vv_fds_left(&first->fds_gone);
    /* The process's pages are counted where calls are made one by one: here others come and go. */
    return at;
}

static struct vv_record *next_record(struct vv_record *record)
{
    return (struct vv_record *)(void *)((uint8_t *)record + record->bytes);
}

static const void *runs_of(const struct vv_record *record)
{
    return (const struct vv_event *)(record + 1) + record->n_events;
}

static bool overlap(const struct vv_record *a, const struct vv_record *b, u64 bytes_a, u64 bytes_b)
{
    return a->mapped && b->mapped && a->address < b->address + bytes_b && b->address < a->address + bytes_a;
}

/* Did every call end as in the control? What is not compared here is the judge's to ask of the control as well. */
static bool as_before(struct vv_record *control, struct vv_record *now)
{
    const u64 astray = VV_OUTSIDE | VV_REFUSED;
    struct vv_record *one = now, *other;
    u64 t, i;

    for (t = 0; t < n_threads; t++, control = next_record(control), now = next_record(now)) {
        if (control->mapped != now->mapped || control->error_left != now->error_left
            || control->error_sets != now->error_sets || control->pages_after != now->pages_after
            || control->n_vmas != now->n_vmas || control->n_strays != now->n_strays
            || control->n_differences != now->n_differences
            || (control->flags_union & astray) != (now->flags_union & astray)
            || control->fds_left != now->fds_left || control->fds_gone != now->fds_gone || control->heap_live != now->heap_live
            || control->cached_frees != now->cached_frees || control->bad_frees != now->bad_frees
            || memcmp(runs_of(control), runs_of(now), now->n_vmas * sizeof(struct vv_vma)) != 0) {
            return false;
        }
    }
    for (t = 0; t < n_threads; t++, one = next_record(one)) {
        for (i = t + 1, other = next_record(one); i < n_threads; i++, other = next_record(other)) {
            if (overlap(one, other, threads[t].total_size, threads[i].total_size)) {
                return false;
            }
        }
    }
    return true;
}

static void release_all(void)
{
    struct vv_call_state *main_state = vv_call_state;
    u64 t;

    for (t = 0; t < n_threads; t++) {
        vv_call_state = &threads[t].state;
        vv_calls_release();
    }
    vv_call_state = main_state;
    vv_fds_release();
}

static bool read_calls(const struct request *request, struct vv_cursor *cursor, struct vv_layout *layout)
{
    const struct vv_request *ordinary = vv_take(cursor, 1, sizeof(*ordinary));
    u64 t, i;

    errno = EBADMSG;
    if (!ordinary || !request->n_calls || request->n_calls > MAX_THREADS || !vv_read_layout(ordinary, cursor, layout)) {
        return false;
    }
    if (make_threads(request->n_calls) < 0) {
        return false;           /* with an errno of its own: there may be no more threads */
    }
    errno = EBADMSG;
    threads[0].segments = layout->segments;
    threads[0].n_segments = layout->n_segments;
    threads[0].total_size = layout->total_size;
    for (t = 1; t < request->n_calls; t++) {
        const struct other_call *call = vv_take(cursor, 1, sizeof(*call));

        if (!call || call->n_segments > VV_MAX_SEGMENTS
            || !(threads[t].segments = vv_take(cursor, call->n_segments, sizeof(struct vv_segment)))) {
            return false;
        }
        threads[t].n_segments = call->n_segments;
        threads[t].total_size = call->total_size;
        for (i = 0; i < call->n_segments; i++) {
            if (threads[t].segments[i].block != VV_NONE && threads[t].segments[i].block >= layout->n_blocks) {
                return false;
            }
        }
    }
    n_threads = request->n_calls;
    return true;
}

/* Stamps what is compared, and says of which calls that is. */
static void stamp_calls(u64 *compared)
{
    const struct vv_layout layout = vv_world.layout;
    u64 t, pages = 0;

    for (t = 0; t < n_threads; t++) {
        vv_world.layout.segments = threads[t].segments;
        vv_world.layout.n_segments = threads[t].n_segments;
        compared[t] = pages < COMPARED_PAGES && vv_comparable(&vv_world.layout);
        pages += compared[t] ? vv_stamp_layout() : 0;
    }
    vv_world.layout = layout;
}

int64_t vv_run_threads(const u64 *bytes, u64 request_bytes, uint8_t *reply, u64 capacity)
{
    struct vv_cursor cursor = {bytes, bytes + request_bytes / sizeof(u64)};
    const struct request *request = vv_take(&cursor, 1, sizeof(*request));
    const u64 half = capacity / 2 & ~(u64)4095;
    uint8_t *logs = reply + half, *at = reply, *controls, *rest;
    struct vv_layout layout;
    struct reply *head;
    u64 compared[MAX_THREADS], t, round, max_runs, slice, max_events, most;

    vv_progress_begin();
    plan_log = &unwatched;
    errno = EBADMSG;
    if (!request || !read_calls(request, &cursor, &layout)) {
        return -1;
    }
    if (vv_memory_build(&layout) < 0) {
        return -1;
    }
    vv_qemu_build();
    stamp_calls(compared);
    for (most = 0, t = 0; t < n_threads; t++) {
        most = threads[t].total_size > most ? threads[t].total_size : most;
    }
    vv_world.layout.total_size = most;      /* what a mapping may rightly ask for */

    at += vv_put_head((u64 *)(void *)reply, &layout);
    head = (struct reply *)(void *)at;
    at += sizeof(*head);
    *head = (struct reply){n_threads, 0, VV_NONE, 0};
    plan_log = (struct log *)(void *)logs;
    slice = (half - LOG_WORDS * sizeof(u64)) / n_threads & ~(u64)7;
    max_events = slice / (sizeof(struct vv_event) + sizeof(u64));
    /* At most twice the events, and twice the runs, of each call go into the records. */
    max_events = max_events < half / n_threads / 4 / sizeof(struct vv_event)
                 ? max_events : half / n_threads / 4 / sizeof(struct vv_event);
    max_runs = half / n_threads / 8 / sizeof(struct vv_vma);
    *plan_log = (struct log){.n_threads = n_threads, .dead = VV_NONE, .slice = slice, .max_events = max_events};
    vv_snapshot_take();
    controls = at;
    if (sched_getaffinity(0, sizeof(anywhere), &anywhere) < 0 || sched_getcpu() < 0) {
        return -1;
    }
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    stay(&here);

    for (t = 0; t < n_threads; t++) {
        threads[t].state.n_events = max_events;     /* all orders are to be cleared */
        threads[t].control_pauses = 0;
    }
    for (round = 0; round < request->rounds + CONTROLS; round++) {
        u64 pages_before, fd_before, fd_after;
        struct vv_record *first = (struct vv_record *)(void *)controls;
        bool same;

        plan_round(round, request->seed);
        plan_log->round = vv_progress->plan = round;
        plan_log->policy = policy;
        vv_heap_reset();
        vv_qemu_forget();
        for (t = 0; t < n_threads; t++) {
            u64 *orders = (u64 *)(void *)(logs + LOG_WORDS * sizeof(u64) + t * slice);
            prepare(&threads[t], (struct vv_event *)(void *)(orders + max_events), orders, max_events);
        }
        vv_arm_signals();
        vv_observe_refresh(((const struct vv_request *)(const void *)(request + 1))->flags & VV_PARSE_MAPS);
        fd_before = (u64)vv_lowest_free_fd();
        vv_fds_begin();
        pages_before = vv_process_pages();
        run_calls();
        fd_after = (u64)vv_lowest_free_fd();
        vv_arm_signals();
        vv_observe_refresh(false);
        rest = record_round(at, max_runs, compared, fd_before, fd_after);
        same = round == 0 || as_before(first, (struct vv_record *)(void *)at);
        release_all();
        ((struct vv_record *)(void *)at)->pages_end = vv_process_pages() - pages_before;
        head->rounds = round + 1;
        if (round == 0 || !same) {
            at = rest;
            head->n_records += n_threads;
        }
        if (round == 0) {
            for (t = 0; t < n_threads; t++) {
                threads[t].control_pauses = threads[t].pauses;
            }
        }
        if (!same || plan_log->holes || plan_log->grabs || plan_log->clobbered) {
            head->differs = round;
            break;
        }
    }
    stay(&anywhere);
    vv_progress->finished = 1;
    vv_progress->reply_bytes = (u64)(at - reply);
    vv_progress->changes = vv_snapshot_changes();
    return at - reply;
}
