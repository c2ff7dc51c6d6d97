/*
 * What a worker says of itself while it runs.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/types.h"

#define VV_FRAMES 24

/* Written by the worker, read by the parent when the worker is gone. */
struct vv_progress {
    u64 pid;
    u64 plan;                   /* being run */
    u64 finished;               /* records complete in the reply */
    u64 reply_bytes;
    u64 in_subject;             /* 1 first call, 2 second call, 0 elsewhere */
    u64 signal, signal_address;
    u64 n_events, reservation;  /* of the run that is not finished */
    u64 iov_end;                /* where the unreadable page after the iovec begins */
    u64 changes;                /* mappings of the harness that changed during the request */
    u64 note_bytes;
    char note[936];
    u64 error_at[2];            /* of the run that is not finished */
    u64 frames_told;            /* the parent's question is answered */
    u64 n_frames;
    u64 frames[VV_FRAMES];      /* places in the subject where the process ended, innermost first */
    u64 code;                   /* enum vv_death of base/die.h */
};
extern struct vv_progress *vv_progress;
void vv_progress_begin(void);   /* a request begins: nothing of it is done */
