/*
 * What is told of a call. vfio_verify/worker/wire.py mirrors it.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/step.h"
#include "observe/contents.h"
#include "observe/maps.h"
#include "qemu/error.h"
#include "qemu/heap.h"
#include "vfio_verify/call.h"

#define VV_MAX_VMAS (VV_MAX_SEGMENTS + 16)
#define VV_MAX_STRAYS 64
#define VV_MAX_DIFFERENCES 32
#define VV_MESSAGE_BYTES 4096

struct vv_record {
    u64 bytes;                  /* of the whole record, arrays included */
    u64 mapped, address;        /* what the subject answered */
    u64 base;                   /* to which the vmas, strays and changes are relative */
    struct vv_error_report error;
    u64 pages_before, pages_after, pages_end;    /* of the process: before, after, when all was released */
    u64 lowest_fd_before, lowest_fd_after;
    struct vv_heap_report heap;
    u64 n_events, n_vmas, n_strays, n_differences, events_dropped;
    u64 pages_compared, pages_total;
    u64 flags_union;            /* of all events */
    u64 counts[VV_STEPS];       /* steps begun in the first call */
    u64 second_called, second_mapped, second_address;
    u64 second_like_first, second_differences, first_whole_after, first_differences_after;
    u64 second_flags_union;
    u64 left;                   /* enum vv_left */
    u64 error_at[2];            /* places in the subject: where the caller's errors were set, VV_NONE if nowhere */
    u64 heap_at;                /* and where the first block was allocated that is not freed */
    u64 free_at;                /* and where what is not the subject's to free was freed */
    u64 fds_left, fds_gone;     /* descriptors that were not open before, and others' that are not open any more */
    u64 references_kept, references_dropped, read_locks;    /* of objects; dropped: that were not the subject's */
    u64 reference_at;           /* and where the first of them was taken, or dropped */
    /* followed by events, vmas, strays, differences, message (padded to 8) */
};

/* What is looked at after a call. */
struct vv_scope {
    const struct vv_iovec *iovec;
    const struct vv_range *kept;        /* mappings of earlier calls that the caller still has */
    u64 n_kept, max_runs;
    bool bare, compare;                 /* bare: nothing but the outcome; compare: contents, too */
};

int vv_record_init(void);               /* once a process; 0 or -1 */

/* Where the part of [at, end) that begins at `at` ends: with a mapping that the caller has, which is `own` or one of
 * those kept, or before the next one. */
u64 vv_part_end(u64 at, u64 end, struct vv_range own, const struct vv_scope *scope, bool *returned);

u64 vv_visible_bytes(u64 address, u64 total);   /* that are looked at: the total, unless the address is no address */

/* The record of a call that has returned, but for what is counted in the whole process. Its events are at record + 1
 * already, or are copied there. Returns how many runs the mapping has, left in vv_first_runs. */
u64 vv_record_call(struct vv_record *record, struct vv_call *call, const struct vv_scope *scope);
extern struct vv_vma *vv_first_runs;
extern struct vv_vma *vv_second_runs;   /* room for another mapping's */
