/*
 * One run: a call of the subject under a fault plan, and its record.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include <stddef.h>

#include "base/base.h"
#include "observe/observe.h"
#include "qemu/qemu.h"
#include "vfio_verify/call.h"

/* ---- subject.c: the subject of this process, and a process that is ready for it ----------------- */

typedef void (*vv_entry)(struct vv_call *call);
extern vv_entry vv_subject;                     /* the subject of this process */

/* As a library has it: built once, or twice where `zeroed` is not NULL (struct vv_layout). */
void vv_subject_loaded(vv_entry entry, vv_entry zeroed);

int vv_start(void);                             /* memory, signals, progress for this process; 0 or -1 with errno */
int vv_after_fork(void);
void vv_take_over(void);                        /* once a worker, when the one before has ended */
void vv_arm_ends(void);                         /* once a worker, before its subject is loaded */
void vv_fill_holes(void);                       /* once a worker, when its subject is loaded */
void vv_arm_signals(void);                      /* before a request, and after each call: a subject may change them */

int vv_build_world(const struct vv_layout *layout, u64 align);  /* its memory, and QEMU's objects; 0 or -1 with errno */

/* ---- wire.c: requests read, and the head of a reply written ------------------------------------- */

/* All fields are 64 bits wide; vfio_verify/worker/native.py mirrors them. */
#define VV_REQUEST_MAGIC 0x3171657276696676ull      /* "vfivreq1" */
#define VV_SESSION_MAGIC 0x3173736573766676ull      /* "vfvsess1" */
#define VV_THREADS_MAGIC 0x3171726874696676ull      /* "vfithrq1" */

enum vv_request_flags {
    VV_TWICE = 1,               /* call again after a success without faults (REPEATABLE) */
    VV_PARSE_MAPS = 2,          /* do not use PROCMAP_QUERY, even where the kernel has it */
    VV_ZEROED = 16,             /* the subject whose automatic variables are zero until they are set */
};

struct vv_request {
    u64 magic, flags;
    u64 n_devices, n_regions, n_areas, n_blocks, n_segments, n_plans;
    u64 total_size, null_errp;
    u64 kernel_kind, kernel_at;     /* enum vv_kernel_kind; before which mmap, 0: before the call */
    u64 kernel_rules;               /* enum vv_kernel_rules */
    u64 page_size;                  /* the subject's */
    u64 conventions;                /* enum vv_conventions */
    /* followed by the arrays in that order, then each plan: its number of faults, its faults */
};

struct vv_cursor { const u64 *at, *end; };

const void *vv_take(struct vv_cursor *cursor, u64 count, size_t size);      /* NULL: the request is shorter */
bool vv_read_layout(const struct vv_request *request, struct vv_cursor *cursor, struct vv_layout *layout);
bool vv_read_iovec(struct vv_cursor *cursor, u64 n_blocks, u64 n, u64 total_size, struct vv_iovec *iovec);

/* Whether the segments can be overlaid exactly, so that their contents can be told. */
bool vv_comparable(const struct vv_layout *layout, const struct vv_iovec *iovec);

/* What addresses and descriptors mean: the number of RAM blocks, the descriptors of the devices, of regions that
 * have one of their own and of plain RAM, and the blocks' addresses. Returns its bytes, which vv_head_bytes() tells
 * beforehand. */
u64 vv_put_head(u64 *reply);
static inline u64 vv_head_bytes(u64 n_blocks) { return (2 + VV_DEVICE_FILES + n_blocks) * sizeof(u64); }

/* ---- record.c: what is told of a call; vfio_verify/worker/native.py mirrors it -------------------- */

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
    bool compare;                       /* contents, too */
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

/* ---- run.c -------------------------------------------------------------------------------------- */

struct vv_plan {
    const struct vv_fault *faults;
    u64 n_faults;
    bool twice;                 /* call again after a success without faults (REPEATABLE) */
    bool keep;                  /* what the call maps lives on: a session's */
    struct vv_scope scope;
};

void vv_run_plan(struct vv_record *record, u64 capacity, const struct vv_plan *plan);
void vv_unmap_as_caller(u64 address, u64 bytes);        /* what of it is not the subject's is left alone */

/* ---- core_subject.c: the core as the subject ---------------------------------------------------- */

#define VV_CORE_THREADS 65          /* the process's first thread, and those of threads/ */

/* What vfio_verify._core exports, and an object of its class Placeholder for each thread to work on. */
struct vv_core {
    int (*map)(void *placeholder, const void *calls, const void *iov, unsigned int iov_cnt, size_t total_size);
    void *(*detach)(void *placeholder);
    const char *(*message)(void *placeholder);
    void *placeholders[VV_CORE_THREADS];
};

void vv_use_core(const struct vv_core *functions);
