/*
 * Steps of the subject: counted, recorded, failed.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/call_state.h"

/*
 * Begins a step: count it, append it to the trace, and decide its fate. Never allocates; when the
 * trace is full the event is counted and its record dropped (the returned pointer is then a spare).
 * If the fault plan fails this step, event->error is the errno to report and VV_FAULTED is set; a
 * look-up that has no errno of its own (no RAMBlock, say) just fails.
 */
struct vv_event *vv_begin(enum vv_step step, u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5);

/* Finishes it: what was returned, and the errno that goes with it (0 for success). */
void vv_end(struct vv_event *event, u64 result, int error);
int vv_finish(struct vv_event *event, int result, int error);    /* the same, with errno left; returns the result */

void vv_calls_begin(struct vv_event *events, u64 max_events, const struct vv_fault *faults, u64 n_faults);
void vv_calls_again(void);      /* a second call in the same run: keep what is held, no faults, no trace */

void vv_refer(const void *object, int change);  /* +1, -1: a reference that the subject takes or drops */
void vv_read_lock(int change);                  /* the same for RCU's read lock */
void vv_nested(int change);     /* +1: what follows is the world's doing (qemu_ram_mmap); -1: no longer */
