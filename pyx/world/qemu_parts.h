/*
 * What heap.c, qemu.c, qemu_error.c and qemu_glib.c share among themselves.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VV_QEMU_PARTS_H
#define VV_QEMU_PARTS_H

#include "world.h"

/* heap.c: what subjects call as malloc() and vasprintf() */
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *pointer, size_t size);
void *__wrap_reallocarray(void *pointer, size_t n, size_t size);
void __wrap_free(void *pointer);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t n);
int __wrap_posix_memalign(void **pointer, size_t align, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
void *__wrap_memalign(size_t align, size_t size);
void *__wrap_valloc(size_t size);
int __wrap_asprintf(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap_vasprintf(char **text, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));

/* qemu_error.c: the Error * of the caller, emptied */
struct Error **vv_error_slot(void);

#endif
