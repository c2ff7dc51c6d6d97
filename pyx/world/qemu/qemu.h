/*
 * What a subject finds of QEMU and GLib, as the world sees it.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include <stdarg.h>

#include "base/base.h"
#include "vfio_verify/call.h"

/* ---- heap.c: all memory of a subject ------------------------------------------------------------ */

/* All memory comes from one area reserved beforehand, so that allocating changes no mapping. It is emptied before each
 * run. */

void *vv_heap_alloc(size_t size, size_t align);     /* zeroed; NULL when the area is full */
void *vv_heap_realloc(void *pointer, size_t size);
void vv_heap_free(void *pointer);                   /* records double frees, foreign pointers, cached pointers */
bool vv_heap_owns(const void *pointer);
void vv_heap_protect(void *pointer);                /* belongs to a cache: freeing it is recorded, not done */
void vv_heap_hide(void *pointer);                   /* not the subject's to free (the Error object it hands out) */
void vv_heap_reset(void);

struct vv_heap_report {
    u64 live;                       /* blocks the subject allocated and did not free */
    u64 live_bytes;
    u64 cached_frees;               /* frees of what belongs to a cache */
    u64 bad_frees;                  /* double frees, and frees of what was never allocated */
};
void vv_heap_report(struct vv_heap_report *report);
u64 vv_heap_at(void);               /* the place that allocated the first block that is left, or VV_NONE */
u64 vv_heap_free_at(void);          /* the place of the first free of what was not the subject's to free, or VV_NONE */

/* What subjects call as malloc(), memalign() and vasprintf(). */
void *__wrap_malloc(size_t size);
void *__wrap_memalign(size_t align, size_t size);
int __wrap_vasprintf(char **text, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));

/* ---- error.c: the Error of the caller ----------------------------------------------------------- */

struct Error **vv_error_slot(void);             /* of the call that begins; emptied */

struct vv_error_report {
    u64 given;                      /* errp was not NULL */
    u64 left;                       /* *errp is set */
    u64 sets;                       /* how many errors reached the caller's errp, set or propagated there */
    u64 length;                     /* of the message, without NUL */
};

/*
 * Returns the message, valid until the next call, and the places where the first two errors were set, or VV_NONE.
 *
 * Errors count that were cleared again, and those that error_propagate() dropped because there was one already. One
 * that stays in a local Error does not count: it shows as a leak when it is not freed.
 */
const char *vv_error_report(const struct vv_call *call, struct vv_error_report *report, u64 at[2]);

/* ---- objects.c: around a call ------------------------------------------------------------------- */

void vv_qemu_build(void);                       /* makes QEMU's objects for vv_world.layout; may allocate */
void vv_qemu_before_call(struct vv_call *call); /* forgets caches and errors, fills vbasedev, res and errp */

/* The two halves of it, for concurrent calls. Each has its iovec, size and (in `res`) resource already. */
void vv_qemu_forget(void);
void vv_qemu_fill_call(struct vv_call *call, u64 first_block);
size_t vv_qemu_resource_size(void);
