/*
 * Concurrent calls in one layout, each by a thread of its own.
 *
 * Left to themselves, two calls of a few microseconds hardly ever meet, and never on a machine with one core. So the
 * threads take turns: one has the baton and runs up to its next step (a system call, a look-up, an error that is set),
 * where a plan says who goes on. Each round has another plan, made from the request's seed: one call is stopped at its
 * n-th step while the others run to their ends; strict turns; turns at random, long and short. A thread that has the
 * baton and sleeps, on a mutex of the subject's that another holds, loses it. In every sixth round there is no baton,
 * only a start line: what happens between two steps can be seen there alone, and needs two cores.
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
#include <malloc.h>
#include <string.h>

#include "base/base.h"
#include "memory/memory.h"
#include "observe/observe.h"
#include "qemu/qemu.h"
#include "run/run.h"
#include "steps/steps.h"
#include "threads/crew.h"
#include "threads/threads.h"

#define MAX_THREADS 64
#define CONTROLS 2
#define IOV_BYTES (VV_MAX_SEGMENTS * sizeof(struct iovec))
#define COMPARED_PAGES 131072       /* of all calls: half of what stamps.c can remember */
#define LOG_WORDS 32

_Static_assert(MAX_THREADS < VV_CORE_THREADS, "each thread needs an object of the core");
_Static_assert(sizeof(struct vv_thread_log) <= LOG_WORDS * sizeof(u64), "the log's head has room for it");

struct request { u64 magic, rounds, seed, n_calls; };           /* then an ordinary request, then the other calls */
struct other_call { u64 n_segments, total_size; };              /* followed by its segments */
struct reply { u64 n_threads, rounds, differs, n_records; };    /* differs: the round that does, or VV_NONE */

static u64 n_made;
static pid_t made_by;

/* ---- making threads -------------------------------------------------------------------------------------------- */

static int start_thread(void *(*run)(void *), void *argument, void *stack)
{
    pthread_attr_t attributes;
    pthread_t unused;
    int error;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstack(&attributes, stack, VV_STACK_BYTES);
    error = vv_start_thread(&unused, &attributes, run, argument);
    pthread_attr_destroy(&attributes);
    return error;
}

static int make_thread(struct vv_thread *thread)
{
    const size_t guard = vv_page_size;
    const size_t bytes = guard + VV_STACK_BYTES + VV_SIGNAL_STACK_BYTES + IOV_BYTES + guard;
    uint8_t *room = vv_room(bytes);

    if (!room || mprotect(room, guard, PROT_NONE) < 0 || mprotect(room + bytes - guard, guard, PROT_NONE) < 0) {
        return -1;
    }
    thread->room = room + guard;
    thread->iov_end = room + bytes - guard;
    thread->state.thread = (u64)(thread - vv_crew.threads) + 1;
    thread->state.scheduler = &vv_turns;
    errno = start_thread(vv_thread_live, thread, thread->room);
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
        vv_crew.threads = vv_room(MAX_THREADS * sizeof(*vv_crew.threads));
        stacks = vv_room(2 * VV_STACK_BYTES);
        if (!vv_crew.threads || !stacks || vv_qemu_resource_size() > VV_RESOURCE_BYTES) {
            return -1;
        }
        mallopt(M_ARENA_MAX, 1);        /* a thread's first malloc() would map an arena of its own */
        vv_rivals_init();
        vv_turns_init();
        if ((errno = start_thread(vv_rival, NULL, stacks))
            || (errno = start_thread(vv_rival, stacks, stacks + VV_STACK_BYTES))) {
            return -1;
        }
    }
    for (; n_made < wanted; n_made++) {
        if (make_thread(&vv_crew.threads[n_made]) < 0) {
            return -1;
        }
    }
    if (before < n_made) {
        vv_turns_greeted(n_made);
        vv_state_threads_made();
    }
    return 0;
}

/* ---- rounds --------------------------------------------------------------------------------------------------- */

static void prepare(struct vv_thread *thread, struct vv_event *events, u64 *orders, u64 max_events)
{
    struct vv_call_state *first = vv_call_state;
    const u64 used = thread->state.n_events + 1;

    memset(orders, 0, (used < max_events ? used : max_events) * sizeof(u64));
    vv_call_state = &thread->state;
    vv_calls_begin(events, max_events - 1, NULL, 0);    /* an order of 0 ends the list */
    vv_calls.order = orders;
    thread->call = (struct vv_call){
        .iov = (struct iovec *)(void *)thread->iov_end - thread->iovec.n,
        .iov_cnt = (unsigned int)thread->iovec.n,
        .total_size = thread->iovec.total_size,
        .res = (struct virtio_gpu_simple_resource *)(void *)thread->resource,
    };
    vv_fill_iov(thread->call.iov, &thread->iovec);
    vv_qemu_fill_call(&thread->call, thread->iovec.n ? thread->iovec.segments[0].block : VV_NONE);
    thread->phase = IDLE;
    thread->pauses = 0;
    vv_call_state = first;
}

static struct vv_round plan_round(u64 round, u64 seed)
{
    struct vv_round plan = {
        .policy = ONE_BY_ONE,
        .dice = seed + round * 0x2545f4914f6cdd1dull,
        .backwards = round == 1,
        .watched = round >= CONTROLS,
    };
    u64 total = 0, at, t;

    if (round < CONTROLS) {
        return plan;
    }
    round -= CONTROLS;
    plan.policy = (enum vv_policy[]){STOP_ONE, AT_RANDOM, STOP_ONE, AT_RANDOM, IN_TURN, FREE}[round % 6];
    plan.staying = 2 + 2 * vv_below(&plan.dice, 3);
    if (plan.policy != STOP_ONE) {
        return plan;
    }
    for (t = 0; t < vv_crew.n; t++) {
        total += vv_crew.threads[t].control_pauses;
    }
    /* By the golden ratio, so that few rounds are spread well over all places. */
    at = total ? (seed + (round / 6 * 2 + round % 6 / 2) * (total * 618 / 1000 | 1)) % total : 0;
    while (plan.stopped + 1 < vv_crew.n && at >= vv_crew.threads[plan.stopped].control_pauses) {
        at -= vv_crew.threads[plan.stopped++].control_pauses;
    }
    plan.stop_at = at + 1;
    return plan;
}

static void run_calls(const struct vv_round *round)
{
    u64 t;

    vv_progress->in_subject = 1;
    vv_turns_begin(round);
    if (round->policy == FREE) {
        vv_rivals_begin();
    }
    for (t = 0; t < vv_crew.n; t++) {
        vv_futex_wake(&vv_crew.threads[t].rounds);
    }
    vv_turns_wait();
    vv_rivals_end();
    vv_progress->in_subject = 0;
}

/* One record for each thread; what is of the whole process goes into the first. Returns where they end. */
static uint8_t *record_round(uint8_t *at, u64 max_runs, const bool *compared)
{
    struct vv_call_state *main_state = vv_call_state;
    struct vv_record *first = (struct vv_record *)(void *)at;
    u64 t;

    for (t = 0; t < vv_crew.n; t++) {
        struct vv_thread *thread = &vv_crew.threads[t];
        struct vv_record *record = (struct vv_record *)(void *)at;
        const struct vv_scope scope = {.iovec = &thread->iovec, .max_runs = max_runs, .compare = compared[t]};

        memset(record, 0, sizeof(*record));
        vv_call_state = &thread->state;
        vv_record_call(record, &thread->call, &scope);
        /* The process's pages are counted where calls are made one by one: here others come and go. */
        record->pages_after = record->mapped ? page_up(thread->iovec.total_size) / vv_page_size : 0;
        at += record->bytes;
    }
    vv_call_state = main_state;
    vv_heap_report(&first->heap);
    first->fds_left = vv_fds_left(&first->fds_gone);
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

/* Whether every call ended as in the control. What is not compared here is the judge's to ask of the control as
 * well. */
static bool as_before(struct vv_record *control, struct vv_record *now)
{
    const u64 astray = VV_OUTSIDE | VV_REFUSED;
    struct vv_record *one = now, *other;
    u64 t, i;

    for (t = 0; t < vv_crew.n; t++, control = next_record(control), now = next_record(now)) {
        if (control->mapped != now->mapped || control->error.left != now->error.left
            || control->error.sets != now->error.sets || control->pages_after != now->pages_after
            || control->n_vmas != now->n_vmas || control->n_strays != now->n_strays
            || control->n_differences != now->n_differences
            || (control->flags_union & astray) != (now->flags_union & astray)
            || control->fds_left != now->fds_left || control->fds_gone != now->fds_gone
            || control->heap.live != now->heap.live
            || control->heap.cached_frees != now->heap.cached_frees || control->heap.bad_frees != now->heap.bad_frees
            || memcmp(runs_of(control), runs_of(now), now->n_vmas * sizeof(struct vv_vma)) != 0) {
            return false;
        }
    }
    for (t = 0; t < vv_crew.n; t++, one = next_record(one)) {
        for (i = t + 1, other = next_record(one); i < vv_crew.n; i++, other = next_record(other)) {
            if (overlap(one, other, vv_crew.threads[t].iovec.total_size, vv_crew.threads[i].iovec.total_size)) {
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

    for (t = 0; t < vv_crew.n; t++) {
        vv_call_state = &vv_crew.threads[t].state;
        vv_release_owned();
    }
    vv_call_state = main_state;
    vv_fds_release();
}

static bool read_calls(const struct request *request, struct vv_cursor *cursor, struct vv_layout *layout)
{
    const struct vv_request *ordinary = vv_take(cursor, 1, sizeof(*ordinary));
    u64 t;

    errno = EBADMSG;
    if (!ordinary || !request->n_calls || request->n_calls > MAX_THREADS || !vv_read_layout(ordinary, cursor, layout)) {
        return false;
    }
    if (make_threads(request->n_calls) < 0) {
        return false;           /* with an errno of its own: there may be no more threads */
    }
    errno = EBADMSG;
    vv_crew.threads[0].iovec = layout->iovec;
    for (t = 1; t < request->n_calls; t++) {
        const struct other_call *call = vv_take(cursor, 1, sizeof(*call));

        if (!call || !vv_read_iovec(cursor, layout->n_blocks, call->n_segments, call->total_size,
                                    &vv_crew.threads[t].iovec)) {
            return false;
        }
    }
    vv_crew.n = request->n_calls;
    return true;
}

/* Stamps what is compared, and says of which calls that is. */
static void stamp_calls(bool *compared)
{
    u64 t, pages = 0;

    for (t = 0; t < vv_crew.n; t++) {
        const struct vv_iovec *iovec = &vv_crew.threads[t].iovec;

        compared[t] = pages < COMPARED_PAGES && vv_comparable(&vv_world.layout, iovec);
        pages += compared[t] ? vv_stamp_iovec(iovec) : 0;
    }
}

int64_t vv_run_threads(const u64 *bytes, u64 request_bytes, uint8_t *reply, u64 capacity)
{
    struct vv_cursor cursor = {bytes, bytes + request_bytes / sizeof(u64)};
    const struct request *request = vv_take(&cursor, 1, sizeof(*request));
    const u64 half = capacity / 2 & ~(u64)4095;
    uint8_t *logs = reply + half, *at = reply, *controls, *rest;
    struct vv_layout layout;
    struct reply *head;
    bool compared[MAX_THREADS];
    u64 t, round, max_runs, slice, max_events, most;

    vv_progress_begin();
    errno = EBADMSG;
    if (!request || !read_calls(request, &cursor, &layout)) {
        return -1;
    }
    if (vv_build_world(&layout, layout.page_size) < 0) {
        return -1;
    }
    stamp_calls(compared);
    for (most = 0, t = 0; t < vv_crew.n; t++) {
        most = vv_crew.threads[t].iovec.total_size > most ? vv_crew.threads[t].iovec.total_size : most;
    }
    vv_world.layout.iovec.total_size = most;      /* what a mapping may rightly ask for */

    at += vv_put_head((u64 *)(void *)reply);
    head = (struct reply *)(void *)at;
    at += sizeof(*head);
    *head = (struct reply){vv_crew.n, 0, VV_NONE, 0};
    vv_crew.log = (struct vv_thread_log *)(void *)logs;
    slice = (half - LOG_WORDS * sizeof(u64)) / vv_crew.n & ~(u64)7;
    max_events = slice / (sizeof(struct vv_event) + sizeof(u64));
    /* At most twice the events, and twice the runs, of each call go into the records. */
    max_events = max_events < half / vv_crew.n / 4 / sizeof(struct vv_event)
                 ? max_events : half / vv_crew.n / 4 / sizeof(struct vv_event);
    max_runs = half / vv_crew.n / 8 / sizeof(struct vv_vma);
    *vv_crew.log = (struct vv_thread_log){
        .n_threads = vv_crew.n, .dead = VV_NONE, .slice = slice, .max_events = max_events,
    };
    vv_snapshot_take();
    controls = at;
    vv_places_begin();
    for (t = 0; t < vv_crew.n; t++) {
        vv_crew.threads[t].state.n_events = max_events;     /* all orders are to be cleared */
        vv_crew.threads[t].control_pauses = 0;
    }
    for (round = 0; round < request->rounds + CONTROLS; round++) {
        u64 pages_before;
        struct vv_record *first = (struct vv_record *)(void *)controls;
        const struct vv_round plan = plan_round(round, request->seed);
        bool same;

        vv_crew.log->round = vv_progress->plan = round;
        vv_crew.log->policy = plan.policy;
        vv_heap_reset();
        vv_qemu_forget();
        for (t = 0; t < vv_crew.n; t++) {
            u64 *orders = (u64 *)(void *)(logs + LOG_WORDS * sizeof(u64) + t * slice);
            prepare(&vv_crew.threads[t], (struct vv_event *)(void *)(orders + max_events), orders, max_events);
        }
        vv_arm_signals();
        vv_observe_refresh(((const struct vv_request *)(const void *)(request + 1))->flags & VV_PARSE_MAPS);
        vv_fds_begin();
        pages_before = vv_process_pages();
        run_calls(&plan);
        vv_arm_signals();
        vv_observe_refresh(false);
        rest = record_round(at, max_runs, compared);
        same = round == 0 || as_before(first, (struct vv_record *)(void *)at);
        release_all();
        ((struct vv_record *)(void *)at)->pages_end = vv_process_pages() - pages_before;
        head->rounds = round + 1;
        if (round == 0 || !same) {
            at = rest;
            head->n_records += vv_crew.n;
        }
        if (round == 0) {
            for (t = 0; t < vv_crew.n; t++) {
                vv_crew.threads[t].control_pauses = vv_crew.threads[t].pauses;
            }
        }
        if (!same || vv_crew.log->holes || vv_crew.log->grabs || vv_crew.log->clobbered) {
            head->differs = round;
            break;
        }
    }
    vv_places_end();
    vv_progress->finished = 1;
    vv_progress->reply_bytes = (u64)(at - reply);
    vv_progress->changes = vv_snapshot_changes();
    return at - reply;
}
