/*
 * The other threads of the process: one that looks, one that grabs. Two things are tried that any other thread of QEMU
 * could do: to see a hole in what a call has reserved (by msync(MS_ASYNC), which does nothing but tell), and to get an
 * address inside it (by mmap).
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>

#include "threads/crew.h"

#define PIECES 4
#define MOST_GRABBED (64ull << 20)

static struct { uint8_t *at; u64 bytes; } pieces[PIECES];
static u64 next_piece;

static void saw_hole(const struct vv_thread *thread, u64 start, u64 end)
{
    u64 low = start, high = end;

    if (__atomic_fetch_add(&vv_crew.log->holes, 1, __ATOMIC_SEQ_CST)) {
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
    vv_crew.log->hole_thread = (u64)(thread - vv_crew.threads);
    vv_crew.log->hole_start = start;
    vv_crew.log->hole_end = end;
    vv_crew.log->hole_at = low;
    vv_crew.log->hole_order = __atomic_load_n(&vv_crew.order, __ATOMIC_SEQ_CST);
}

void vv_look(void)
{
    u64 t, i;

    for (t = 0; t < vv_crew.n; t++) {
        struct vv_call_state *state = &vv_crew.threads[t].state;

        vv_spin_lock(&state->lock);
        for (i = 0; i < state->n_owned && !state->holed; i++) {
            const struct vv_range range = state->owned[i];
            if (msync((void *)range.start, range.end - range.start, MS_ASYNC) < 0 && errno == ENOMEM) {
                saw_hole(&vv_crew.threads[t], range.start, range.end);
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
        vv_crew.log->clobbered++;
    }
    vv_raw_munmap(pieces[slot].at, pieces[slot].bytes);
    pieces[slot].at = NULL;
}

static struct vv_range some_reservation(u64 *state)
{
    struct vv_range range = {0, 0};
    u64 t = vv_below(state, vv_crew.n), i;

    for (i = 0; i < vv_crew.n && !range.end; i++, t++) {
        struct vv_call_state *calls = &vv_crew.threads[t % vv_crew.n].state;

        vv_spin_lock(&calls->lock);
        if (calls->n_owned && !calls->holed) {
            range = calls->owned[vv_below(state, calls->n_owned)];
        }
        vv_spin_unlock(&calls->lock);
    }
    return range;
}

enum lies { APART, TORN, RESERVED };

/* Where [start, end) lies, which the kernel has just given us. With all threads' locks held. */
static enum lies lies(u64 start, u64 end)
{
    enum lies found = APART;
    u64 t, i;

    for (t = 0; t < vv_crew.n; t++) {
        const struct vv_call_state *state = &vv_crew.threads[t].state;

        for (i = 0; i < state->n_owned; i++) {
            const struct vv_range range = state->owned[i];

            if (start >= range.end || range.start >= end) {
                continue;
            }
            if (state->holed) {
                found = TORN;
                continue;
            }
            if (!__atomic_fetch_add(&vv_crew.log->grabs, 1, __ATOMIC_SEQ_CST)) {
                vv_crew.log->grab_thread = t;
                vv_crew.log->grab_start = range.start;
                vv_crew.log->grab_end = range.end;
                vv_crew.log->grab_at = start;
                vv_crew.log->grab_bytes = end - start;
                vv_crew.log->grab_order = __atomic_load_n(&vv_crew.order, __ATOMIC_SEQ_CST);
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

    for (t = 0; t < vv_crew.n; t++) {
        if (held) {
            vv_spin_lock(&vv_crew.threads[t].state.lock);
        } else {
            vv_spin_unlock(&vv_crew.threads[t].state.lock);
        }
    }
}

/* Small pieces and ones as large as a reservation, anywhere and just inside one; kept for a while. What lies in a
 * reservation is given back at once: it is the call's to overlay, and, torn by the kernel, to unmap as a whole. */
void vv_grab(u64 *state)
{
    const struct vv_range range = some_reservation(state);
    u64 bytes = vv_page_size, hint = 0;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    const u64 way = vv_below(state, 4);
    uint8_t *got;
    u64 slot;

    if (range.end) {
        if (way >= 2) {
            hint = range.start + vv_page_size * vv_below(state, (range.end - range.start) / vv_page_size);
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

void vv_rivals_init(void)
{
    watching = 0;
    n_at_work = 0;
}

void vv_rivals_begin(void)
{
    vv_futex_wake(&watching);
}

void *vv_rival(void *grabs)
{
    u64 state = (u64)getpid();

    for (;;) {
        const int now = __atomic_load_n(&watching, __ATOMIC_SEQ_CST);

        if (!(now & 1)) {
            vv_futex_wait(&watching, now, 1000000000);
            continue;
        }
        __atomic_add_fetch(&n_at_work, 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&watching, __ATOMIC_SEQ_CST) == now) {
            if (grabs) {
                vv_grab(&state);
            } else {
                vv_look();
            }
            sched_yield();
        }
        __atomic_sub_fetch(&n_at_work, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

void vv_rivals_end(void)
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
