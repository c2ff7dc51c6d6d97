/*
 * One run: a call of the subject under a fault plan, and its record.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "run/record.h"

struct vv_plan {
    const struct vv_fault *faults;
    u64 n_faults;
    bool twice;                 /* call again after a success without faults (REPEATABLE) */
    bool keep;                  /* what the call maps lives on: a session's */
    struct vv_scope scope;
};

void vv_run_plan(struct vv_record *record, u64 capacity, const struct vv_plan *plan);
void vv_unmap_as_caller(u64 address, u64 bytes);        /* what of it is not the subject's is left alone */
