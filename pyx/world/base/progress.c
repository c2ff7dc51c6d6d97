/*
 * What a worker says of itself while it runs.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/progress.h"

static struct vv_progress own;              /* when no parent watches */
struct vv_progress *vv_progress = &own;

void vv_progress_begin(void)
{
    vv_progress->plan = vv_progress->finished = vv_progress->reply_bytes = 0;
    vv_progress->in_subject = vv_progress->signal = vv_progress->note_bytes = vv_progress->changes = 0;
    vv_progress->frames_told = vv_progress->n_frames = 0;
    vv_progress->error_at[0] = vv_progress->error_at[1] = VV_NONE;
}
