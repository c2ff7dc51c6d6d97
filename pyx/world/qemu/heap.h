/*
 * The heap of a subject.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include <stdarg.h>

#include "base/types.h"

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
