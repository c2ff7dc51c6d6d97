/*
 * Each step of a subject is counted, recorded, and failed if the fault plan says so. Nothing here allocates.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "steps/steps.h"

void vv_calls_begin(struct vv_event *events, u64 max_events, const struct vv_fault *faults, u64 n_faults)
{
    memset(vv_calls.counts, 0, sizeof(vv_calls.counts));
    vv_calls.events = events;
    vv_calls.max_events = max_events;
    vv_calls.n_events = vv_calls.dropped = vv_calls.flags_union = 0;
    vv_calls.faults = faults;
    vv_calls.n_faults = n_faults;
    vv_calls.n_owned = 0;
    vv_calls.first_reservation = 0;
    vv_calls.nested = 0;
    vv_calls.n_references = vv_calls.read_locks = 0;
    vv_calls.holed = false;
}

void vv_calls_again(void)
{
    vv_calls.max_events = 0;
    vv_calls.n_faults = 0;
    vv_calls.flags_union = 0;
}

static u64 planned_fault(enum vv_step step, u64 nth, u64 *when)
{
    u64 i;

    for (i = 0; i < vv_calls.n_faults; i++) {
        const struct vv_fault *fault = &vv_calls.faults[i];

        if (fault->step == step && (fault->nth == nth || (fault->persistent && nth > fault->nth))) {
            *when = fault->when;
            return fault->error ? fault->error : EINVAL;
        }
    }
    return 0;
}

struct vv_event *vv_begin(enum vv_step step, u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)
{
    struct vv_event *event = &vv_calls.spare;
    u64 when = VV_EARLY;

    vv_pause();
    if (vv_calls.n_events < vv_calls.max_events) {
        if (vv_calls.order) {
            vv_calls.order[vv_calls.n_events] = vv_calls.scheduler->order();
        }
        event = &vv_calls.events[vv_calls.n_events++];
    } else if (vv_calls.max_events) {
        vv_calls.dropped++;
    }
    vv_progress->n_events = vv_calls.n_events;
    *event = (struct vv_event){.step = step, .flags = VV_OPEN | (vv_calls.nested ? VV_NESTED : 0),
                               .arg = {a0, a1, a2, a3, a4, a5},
                               .caller = vv_caller()};
    event->error = planned_fault(step, ++vv_calls.counts[step], &when);
    if (event->error) {
        event->flags |= VV_FAULTED | (when == VV_LATE ? VV_TOOK_AWAY : 0);
    }
    return event;
}

void vv_end(struct vv_event *event, u64 result, int error)
{
    event->flags &= ~(u64)VV_OPEN;
    event->result = result;
    event->error = (u64)error;
    if (error && !(event->flags & (VV_FAULTED | VV_BY_RULE))) {
        event->flags |= VV_UNPLANNED | (vv_kernel_made(event->step, error) ? VV_BY_KERNEL : 0);
    }
    vv_calls.flags_union |= event->flags;
}

int vv_finish(struct vv_event *event, int result, int error)
{
    vv_end(event, (u64)(int64_t)result, error);
    if (error) {
        errno = error;
    }
    return result;
}

/* ---- references ------------------------------------------------------------------------------------- */

void vv_refer(const void *object, int change)
{
    const u64 most = sizeof(vv_calls.references) / sizeof(*vv_calls.references);
    struct vv_reference *reference;
    u64 i;

    if (!vv_calls.active || !object) {
        return;
    }
    for (i = 0; i < vv_calls.n_references && vv_calls.references[i].object != object; i++) {
    }
    if (i == most) {
        vv_die("the subject holds references to more than %zu objects", (size_t)most);
    }
    reference = &vv_calls.references[i];
    if (i == vv_calls.n_references) {
        vv_calls.n_references++;
        *reference = (struct vv_reference){.object = object, .taken_at = VV_NONE, .dropped_at = VV_NONE};
    }
    reference->count += change;
    if (change > 0) {
        reference->taken_at = vv_caller();
    } else if (reference->count < reference->lowest) {
        reference->lowest = reference->count;
        reference->dropped_at = reference->dropped_at == VV_NONE ? vv_caller() : reference->dropped_at;
    }
}

void vv_read_lock(int change)
{
    if (!vv_calls.active) {
        return;
    }
    if (change < 0 && !vv_calls.read_locks) {
        vv_die("rcu_read_unlock() without rcu_read_lock()");
    }
    vv_calls.read_locks += (u64)(int64_t)change;
}
