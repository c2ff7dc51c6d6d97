/*
 * The subject of this process, and a process that is ready for it.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/layout.h"
#include "vfio_verify/call.h"

typedef void (*vv_entry)(struct vv_call *call);
extern vv_entry vv_subject;                     /* the subject of this process */

/* As a library has it: built once, or twice where `zeroed` is not NULL (struct vv_layout). */
void vv_subject_loaded(vv_entry entry, vv_entry zeroed);

int vv_start(void);                             /* memory, signals, progress for this process; 0 or -1 with errno */
int vv_after_fork(void);
void vv_arm_ends(void);                         /* once a worker, before its subject is loaded */
void vv_arm_signals(void);                      /* before each call, and after it: a subject may change them */

int vv_build_world(const struct vv_layout *layout, u64 align);  /* memory.h, and QEMU's objects; 0 or -1 with errno */
