/*
 * What of a process outlives a call besides its memory.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include <pthread.h>
#include "base/types.h"

/* What a call leaves behind in the process, besides memory and descriptors. */
enum vv_left { VV_LEFT_THREAD = 1, VV_LEFT_CHILD = 2, VV_LEFT_TIMER = 4 };

/* What a worker says of its process after a request. */
enum vv_state { VV_STATE_CHANGED = 1, VV_STATE_BLIND = 2 };     /* another than it was; /proc is not seen any more */

int vv_state_open(void);                    /* once a worker, before it is confined; 0 or -1 */
void vv_state_take(void);                   /* when the subject is loaded */
void vv_state_threads_made(void);           /* by the world, and they stay */
u64 vv_state_left(void);                    /* enum vv_left */
u64 vv_state_changes(void);                 /* enum vv_state */
void vv_state_flush_stacks(void);
int vv_start_thread(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);
