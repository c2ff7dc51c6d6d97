/*
 * GLib's memory and strings over the world's heap, and the small change of QEMU's osdep.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/base.h"
#include "qemu/qemu.h"
#include "steps/steps.h"
#include "vfio_verify/qemu.h"

/* ---- memory --------------------------------------------------------------------------------------- */

static void *or_die(void *pointer, size_t size)
{
    if (!pointer) {
        vv_die("g_malloc: no memory for %zu bytes", size);
    }
    return pointer;
}

/* As GLib has it, no bytes are NULL. */
static void *try_allocate(size_t n, size_t size, bool zeroed)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, size, &bytes) || bytes == 0) {
        return NULL;
    }
    return zeroed ? vv_heap_alloc(bytes, 16) : __wrap_malloc(bytes);
}

static void *allocate(size_t n, size_t size, bool zeroed)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, size, &bytes)) {
        vv_die("g_malloc: %zu times %zu bytes overflows", n, size);
    }
    return bytes ? or_die(try_allocate(1, bytes, zeroed), bytes) : NULL;
}

VV_EXPORT void *vfio_verify_malloc_n(size_t n, size_t size) { return allocate(n, size, false); }
VV_EXPORT void *vfio_verify_malloc0_n(size_t n, size_t size) { return allocate(n, size, true); }
VV_EXPORT void *vfio_verify_try_malloc_n(size_t n, size_t size) { return try_allocate(n, size, false); }
VV_EXPORT void *vfio_verify_try_malloc0_n(size_t n, size_t size) { return try_allocate(n, size, true); }
VV_EXPORT void vfio_verify_free(void *pointer) { vv_heap_free(pointer); }

VV_EXPORT void *vfio_verify_realloc_n(void *pointer, size_t n, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, size, &bytes)) {
        vv_die("g_realloc: %zu times %zu bytes overflows", n, size);
    }
    pointer = bytes ? or_die(vv_heap_realloc(pointer, bytes), bytes) : (vv_heap_free(pointer), NULL);
    return pointer;
}

VV_EXPORT void *vfio_verify_try_realloc_n(void *pointer, size_t n, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, size, &bytes)) {
        return NULL;
    }
    if (!bytes) {
        vv_heap_free(pointer);
        return NULL;
    }
    return vv_heap_realloc(pointer, bytes);
}

VV_EXPORT void *g_malloc(size_t size) { return allocate(1, size, false); }
VV_EXPORT void *g_malloc0(size_t size) { return allocate(1, size, true); }
VV_EXPORT void *g_malloc_n(size_t n, size_t size) { return allocate(n, size, false); }
VV_EXPORT void *g_malloc0_n(size_t n, size_t size) { return allocate(n, size, true); }
VV_EXPORT void *g_realloc(void *pointer, size_t size) { return vfio_verify_realloc_n(pointer, 1, size); }
VV_EXPORT void *g_try_malloc(size_t size) { return try_allocate(1, size, false); }
VV_EXPORT void *g_try_malloc0(size_t size) { return try_allocate(1, size, true); }
VV_EXPORT void *g_try_malloc_n(size_t n, size_t size) { return try_allocate(n, size, false); }
VV_EXPORT void *g_try_malloc0_n(size_t n, size_t size) { return try_allocate(n, size, true); }
VV_EXPORT void *g_try_realloc(void *pointer, size_t size) { return vfio_verify_try_realloc_n(pointer, 1, size); }
VV_EXPORT void g_free(void *pointer) { vv_heap_free(pointer); }

VV_EXPORT void *g_realloc_n(void *pointer, size_t n, size_t size)
{
    return vfio_verify_realloc_n(pointer, n, size);
}

VV_EXPORT void *g_try_realloc_n(void *pointer, size_t n, size_t size)
{
    return vfio_verify_try_realloc_n(pointer, n, size);
}

VV_EXPORT void *g_memdup2(const void *memory, size_t size)
{
    return memory && size ? memcpy(allocate(1, size, false), memory, size) : NULL;
}

VV_EXPORT void *g_memdup(const void *memory, unsigned int size)
{
    return g_memdup2(memory, size);
}

VV_EXPORT void *qemu_try_memalign(size_t alignment, size_t size)
{
    if (alignment & (alignment - 1)) {
        vv_die("qemu_memalign: an alignment of %zu is no power of two", alignment);
    }
    return __wrap_memalign(alignment < sizeof(void *) ? sizeof(void *) : alignment, size ? size : 1);
}

VV_EXPORT void *qemu_memalign(size_t alignment, size_t size)
{
    return or_die(qemu_try_memalign(alignment, size), size);
}

VV_EXPORT void qemu_vfree(void *pointer)
{
    vv_heap_free(pointer);
}

/* ---- strings -------------------------------------------------------------------------------------- */

VV_EXPORT char *g_strdup(const char *text)
{
    return text ? g_memdup2(text, strlen(text) + 1) : NULL;
}

VV_EXPORT char *g_strndup(const char *text, size_t n)
{
    /* n + 1 bytes, zero-filled, however short the text is. */
    return text ? memcpy(allocate(1, n + 1, true), text, strnlen(text, n)) : NULL;
}

VV_EXPORT char *g_strdup_vprintf(const char *format, va_list arguments)
{
    char *text;

    return __wrap_vasprintf(&text, format, arguments) < 0 ? NULL : text;
}

VV_EXPORT char *g_strdup_printf(const char *format, ...)
{
    va_list arguments;
    char *text;

    va_start(arguments, format);
    text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    return text;
}

VV_EXPORT const char *g_strerror(int error)
{
    static __thread char buffer[128];

    return strerror_r(error, buffer, sizeof(buffer));
}

VV_EXPORT int g_strcmp0(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) : (a != NULL) - (b != NULL);
}

VV_EXPORT size_t g_strlcpy(char *to, const char *from, size_t size)
{
    const size_t length = strlen(from);

    if (size) {
        const size_t kept = length < size ? length : size - 1;
        memcpy(to, from, kept);
        to[kept] = '\0';
    }
    return length;
}

/* ---- messages and the end of the process ------------------------------------------------------- */

/* Nobody reads the standard error of a worker, but what is formatted is read. */
static int say(const char *format, va_list arguments)
{
    char text[1024];

    return vsnprintf(text, sizeof(text), format, arguments);
}

#define SAY(result)                             \
    do {                                        \
        va_list arguments;                      \
        va_start(arguments, format);            \
        result say(format, arguments);          \
        va_end(arguments);                      \
    } while (0)

VV_EXPORT void error_report(const char *format, ...) { SAY(); }
VV_EXPORT void warn_report(const char *format, ...) { SAY(); }
VV_EXPORT void info_report(const char *format, ...) { SAY(); }

VV_EXPORT int error_printf(const char *format, ...)
{
    int length;

    SAY(length =);
    return length;
}

VV_EXPORT int vfio_verify_say(const char *format, ...)
{
    int length;

    SAY(length =);
    return length;
}

VV_EXPORT _Noreturn void vfio_verify_fatal(const char *format, ...)
{
    char text[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    vv_die("g_error: %s", text);
}

VV_EXPORT _Noreturn void vfio_verify_assertion_failed(const char *text, const char *file, int line,
                                                      const char *function)
{
    vv_die_of(VV_DEATH_ASSERTION, "assertion failed in %s() at %s:%d: %s", function, file, line, text);
}

VV_EXPORT _Noreturn void g_abort(void)
{
    vv_die("called g_abort()");
}

/* ---- osdep ------------------------------------------------------------------------------------------ */

VV_EXPORT uintptr_t qemu_real_host_page_size(void)
{
    return (uintptr_t)vv_host_page;
}

VV_EXPORT intptr_t qemu_real_host_page_mask(void)
{
    return -(intptr_t)qemu_real_host_page_size();
}

VV_EXPORT int qemu_dup(int fd)
{
    return vv_dup(fd);
}

VV_EXPORT int qemu_close(int fd)
{
    return vv_close(fd);
}

VV_EXPORT size_t iov_size(const struct iovec *iov, const unsigned int iov_cnt)
{
    size_t bytes = 0;
    unsigned int i;

    for (i = 0; i < iov_cnt; i++) {
        bytes += iov[i].iov_len;
    }
    return bytes;
}
