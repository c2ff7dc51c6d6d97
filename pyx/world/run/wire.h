/*
 * Requests read, and the head of a reply written.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/layout.h"

/* All fields are 64 bits wide; vfio_verify/worker/wire.py mirrors them. */
#define VV_REQUEST_MAGIC 0x3171657276696676ull      /* "vfivreq1" */
#define VV_SESSION_MAGIC 0x3173736573766676ull      /* "vfvsess1" */
#define VV_THREADS_MAGIC 0x3171726874696676ull      /* "vfithrq1" */

enum vv_request_flags {
    VV_TWICE = 1,               /* call again after a success without faults (REPEATABLE) */
    VV_PARSE_MAPS = 2,          /* do not use PROCMAP_QUERY, even where the kernel has it */
    VV_BARE = 4,                /* observe nothing but the outcome (for benchmarks) */
    VV_ZEROED = 16,             /* the subject as it is built with automatic variables that are zero until they are set */
};

struct vv_request {
    u64 magic, flags;
    u64 n_devices, n_regions, n_areas, n_blocks, n_segments, n_plans;
    u64 total_size, null_errp;
    u64 kernel_kind, kernel_at;     /* enum vv_kernel_kind; before which mmap, 0: before the call */
    u64 kernel_rules;               /* enum vv_kernel_rules */
    u64 page_size;                  /* the subject's */
    /* followed by the arrays in that order, then each plan: its number of faults, its faults */
};

struct vv_cursor { const u64 *at, *end; };

const void *vv_take(struct vv_cursor *cursor, u64 count, size_t size);      /* NULL: the request is shorter */
bool vv_read_layout(const struct vv_request *request, struct vv_cursor *cursor, struct vv_layout *layout);
bool vv_read_iovec(struct vv_cursor *cursor, u64 n_blocks, u64 n, u64 total_size, struct vv_iovec *iovec);

/* Whether the segments can be overlaid exactly, so that their contents can be told. */
bool vv_comparable(const struct vv_layout *layout, const struct vv_iovec *iovec);

/* What addresses and descriptors mean: the number of RAM blocks, the descriptors of the devices, of regions that have one
 * of their own and of plain RAM, and the blocks' addresses. Returns its bytes, which vv_head_bytes() tells beforehand. */
u64 vv_put_head(u64 *reply);
static inline u64 vv_head_bytes(u64 n_blocks) { return (2 + VV_DEVICE_FILES + n_blocks) * sizeof(u64); }
