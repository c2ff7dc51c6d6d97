/*
 * What is the process's own, and each thread's.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/base.h"

u64 vv_page_size, vv_host_page;

static struct vv_call_state first_thread;
_Thread_local struct vv_call_state *vv_call_state = &first_thread;

static struct vv_progress own;              /* when no parent watches */
struct vv_progress *vv_progress = &own;

void vv_progress_begin(void)
{
    vv_progress->plan = vv_progress->finished = vv_progress->reply_bytes = 0;
    vv_progress->in_subject = vv_progress->signal = vv_progress->note_bytes = vv_progress->changes = 0;
    vv_progress->frames_told = vv_progress->n_frames = 0;
    vv_progress->error_at[0] = vv_progress->error_at[1] = VV_NONE;
}
