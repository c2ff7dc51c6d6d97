/*
 * What the kernel says of the address space.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/types.h"

enum vv_vma_flags { VV_READ = 1, VV_WRITE = 2, VV_EXEC = 4, VV_SHARED = 8 };

/* A run of pages with one backing; neighbours that continue each other are merged. */
struct vv_vma {
    u64 start, end;             /* absolute here, relative to the record's base on the wire */
    u64 flags, memory, offset;
};

int vv_observe_init(void);                  /* once a process, after fork */
bool vv_observe_parses(void);               /* whether the text of /proc/self/maps is used */
void vv_observe_refresh(bool parse);        /* forget what was read; parse: use the text of /proc/self/maps */
bool vv_vma_at_or_after(u64 address, struct vv_vma *vma);    /* absolute; false: none */
u64 vv_observe_range(u64 start, u64 end, struct vv_vma *out, u64 max);  /* merged runs, absolute */
u64 vv_process_pages(void);                 /* total size of this process's mappings, in pages */
int vv_lowest_free_fd(void);

/* Through which files the process is seen; a subject may put others in their place. */
enum vv_proc { VV_PROC_MAPS, VV_PROC_STATM, VV_PROCS };
extern int vv_proc_fd[VV_PROCS];

void vv_snapshot_take(void);                /* every mapping of the process outside the arena */
u64 vv_snapshot_changes(void);              /* how many differ now */
void vv_snapshot_leave_out(struct vv_range range);  /* what the world itself changes, besides the arena */
