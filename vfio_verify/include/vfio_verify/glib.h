/*
 * The part of GLib that QEMU helpers use. Memory comes from the world's heap, which knows what is
 * left over. GLib's lists, hash tables and strings are not here.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VFIO_VERIFY_GLIB_H
#define VFIO_VERIFY_GLIB_H

#include "vfio_verify/osdep.h"

/* ---- types ---------------------------------------------------------------------------------- */

typedef int gboolean;
typedef char gchar;
typedef unsigned char guchar;
typedef int gint;
typedef unsigned int guint;
typedef short gshort;
typedef unsigned short gushort;
typedef long glong;
typedef unsigned long gulong;
typedef float gfloat;
typedef double gdouble;
typedef int8_t gint8;
typedef uint8_t guint8;
typedef int16_t gint16;
typedef uint16_t guint16;
typedef int32_t gint32;
typedef uint32_t guint32;
typedef int64_t gint64;
typedef uint64_t guint64;
typedef size_t gsize;
typedef ssize_t gssize;
typedef int64_t goffset;
typedef intptr_t gintptr;
typedef uintptr_t guintptr;
typedef void *gpointer;
typedef const void *gconstpointer;
typedef void (*GDestroyNotify)(void *data);
typedef void (*GFunc)(void *data, void *user_data);

#undef TRUE
#undef FALSE
#define TRUE 1
#define FALSE 0
#define G_MAXINT INT_MAX
#define G_MININT INT_MIN
#define G_MAXUINT UINT_MAX
#define G_MAXLONG LONG_MAX
#define G_MAXULONG ULONG_MAX
#define G_MAXSIZE SIZE_MAX
#define G_MAXSSIZE SSIZE_MAX
#define G_MAXINT32 INT32_MAX
#define G_MAXUINT32 UINT32_MAX
#define G_MAXINT64 INT64_MAX
#define G_MAXUINT64 UINT64_MAX
#define GINT_TO_POINTER(i) ((void *)(intptr_t)(i))
#define GPOINTER_TO_INT(p) ((int)(intptr_t)(p))
#define GUINT_TO_POINTER(i) ((void *)(uintptr_t)(i))
#define GPOINTER_TO_UINT(p) ((unsigned int)(uintptr_t)(p))
#define GSIZE_TO_POINTER(i) ((void *)(uintptr_t)(i))
#define GPOINTER_TO_SIZE(p) ((size_t)(uintptr_t)(p))

/* ---- the compiler ------------------------------------------------------------------------- */

#define G_GNUC_UNUSED __attribute__((unused))
#define G_GNUC_PRINTF(text, first) __attribute__((format(printf, text, first)))
#define G_GNUC_WARN_UNUSED_RESULT __attribute__((warn_unused_result))
#define G_GNUC_NORETURN __attribute__((noreturn))
#define G_NORETURN __attribute__((noreturn))
#define G_GNUC_FALLTHROUGH __attribute__((fallthrough))
#define G_LIKELY(x) __builtin_expect(!!(x), 1)
#define G_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define G_N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))
#define G_STATIC_ASSERT(condition) _Static_assert(condition, #condition)
#define G_STRFUNC ((const char *)__func__)
#define G_STRUCT_OFFSET(type, member) offsetof(type, member)
#define g_size_checked_add(result, a, b) (!__builtin_add_overflow((size_t)(a), (size_t)(b), (size_t *)(result)))
#define g_size_checked_mul(result, a, b) (!__builtin_mul_overflow((size_t)(a), (size_t)(b), (size_t *)(result)))

#define g_uint64_checked_add(result, a, b) \
    (!__builtin_add_overflow((uint64_t)(a), (uint64_t)(b), (uint64_t *)(result)))

#define g_uint64_checked_mul(result, a, b) \
    (!__builtin_mul_overflow((uint64_t)(a), (uint64_t)(b), (uint64_t *)(result)))

/* ---- memory: the g_malloc() family ends the process when there is none left ----------------- */

void *g_malloc(size_t size) __attribute__((malloc));
void *g_malloc0(size_t size) __attribute__((malloc));
void *g_malloc_n(size_t n, size_t size) __attribute__((malloc));
void *g_malloc0_n(size_t n, size_t size) __attribute__((malloc));
void *g_realloc(void *pointer, size_t size);
void *g_realloc_n(void *pointer, size_t n, size_t size);
void *g_try_malloc(size_t size) __attribute__((malloc));
void *g_try_malloc0(size_t size) __attribute__((malloc));
void *g_try_malloc_n(size_t n, size_t size) __attribute__((malloc));
void *g_try_malloc0_n(size_t n, size_t size) __attribute__((malloc));
void *g_try_realloc(void *pointer, size_t size);
void *g_try_realloc_n(void *pointer, size_t n, size_t size);
void g_free(void *pointer);
void *g_memdup2(const void *memory, size_t size);
void *g_memdup(const void *memory, unsigned int size);

#define g_new(type, n) ((type *)vfio_verify_malloc_n((n), sizeof(type)))
#define g_new0(type, n) ((type *)vfio_verify_malloc0_n((n), sizeof(type)))
#define g_renew(type, pointer, n) ((type *)vfio_verify_realloc_n((pointer), (n), sizeof(type)))
#define g_try_new(type, n) ((type *)vfio_verify_try_malloc_n((n), sizeof(type)))
#define g_try_new0(type, n) ((type *)vfio_verify_try_malloc0_n((n), sizeof(type)))
#define g_try_renew(type, pointer, n) ((type *)vfio_verify_try_realloc_n((pointer), (n), sizeof(type)))
#define g_steal_pointer(address) ((__typeof__(*(address)))vfio_verify_steal_pointer(address))

#define g_clear_pointer(address, destroy) do {              \
    __typeof__((address)) vv_clear_address = (address);      \
    __typeof__(*(address)) vv_cleared = *vv_clear_address;   \
    *vv_clear_address = NULL;                               \
    if (vv_cleared) {                                       \
        (destroy)(vv_cleared);                              \
    }                                                       \
} while (0)

/* The macros above use these names, which no source takes away. */
void *vfio_verify_malloc_n(size_t n, size_t size);
void *vfio_verify_malloc0_n(size_t n, size_t size);
void *vfio_verify_realloc_n(void *pointer, size_t n, size_t size);
void *vfio_verify_try_malloc_n(size_t n, size_t size);
void *vfio_verify_try_malloc0_n(size_t n, size_t size);
void *vfio_verify_try_realloc_n(void *pointer, size_t n, size_t size);
void vfio_verify_free(void *pointer);

static inline void *vfio_verify_steal_pointer(void *address)
{
    void **slot = address;
    void *pointer = *slot;

    *slot = NULL;
    return pointer;
}

static inline void vfio_verify_autofree(void *address)
{
    vfio_verify_free(*(void **)address);
}

/* ---- cleanup at the end of a scope ------------------------------------------------------------ */

#define g_autofree __attribute__((cleanup(vfio_verify_autofree)))
#define g_autoptr(type) __attribute__((cleanup(vfio_verify_autoptr_##type))) vfio_verify_pointer_##type
#define g_auto(type) __attribute__((cleanup(vfio_verify_auto_##type))) type

#define G_DEFINE_AUTOPTR_CLEANUP_FUNC(type, destroy)                                        \
    typedef type *vfio_verify_pointer_##type;                                               \
    static inline __attribute__((unused)) void vfio_verify_autoptr_##type(type **address)   \
    {                                                                                       \
        if (*address) {                                                                     \
            (destroy)(*address);                                                            \
        }                                                                                   \
    }

#define G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(type, clear)                                       \
    static inline __attribute__((unused)) void vfio_verify_auto_##type(type *address)       \
    {                                                                                       \
        (clear)(address);                                                                   \
    }

/* ---- strings ---------------------------------------------------------------------------------- */

char *g_strdup(const char *text);
char *g_strndup(const char *text, size_t n);
char *g_strdup_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *g_strdup_vprintf(const char *format, va_list arguments) __attribute__((format(printf, 1, 0)));
const char *g_strerror(int error);
int g_strcmp0(const char *a, const char *b);

#define g_str_equal(a, b) (strcmp((const char *)(a), (const char *)(b)) == 0)

static inline int g_str_has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

size_t g_strlcpy(char *to, const char *from, size_t size);

#define g_snprintf snprintf

/* ---- assertions and messages: what ends a QEMU process ends this one ------------------------- */

#define g_assert(expression) \
    ((expression) ? (void)0 : vfio_verify_assertion_failed(#expression, __FILE__, __LINE__, __func__))

#define g_assert_not_reached() vfio_verify_assertion_failed("not reached", __FILE__, __LINE__, __func__)

#define g_assert_true(expression) \
    ((expression) ? (void)0 : vfio_verify_assertion_failed(#expression, __FILE__, __LINE__, __func__))

#define g_assert_false(expression) \
    ((expression) ? vfio_verify_assertion_failed("not " #expression, __FILE__, __LINE__, __func__) : (void)0)

#define g_assert_null(pointer) \
    ((pointer) ? vfio_verify_assertion_failed(#pointer " is NULL", __FILE__, __LINE__, __func__) : (void)0)

#define g_assert_nonnull(pointer) \
    ((pointer) ? (void)0 : vfio_verify_assertion_failed(#pointer " is not NULL", __FILE__, __LINE__, __func__))

#define g_assert_cmpint(a, op, b) \
    ((a) op (b) ? (void)0 : vfio_verify_assertion_failed(#a " " #op " " #b, __FILE__, __LINE__, __func__))

#define g_assert_cmpuint(a, op, b) \
    ((a) op (b) ? (void)0 : vfio_verify_assertion_failed(#a " " #op " " #b, __FILE__, __LINE__, __func__))

#define g_return_if_fail(expression) do { if (!(expression)) { return; } } while (0)
#define g_return_val_if_fail(expression, value) do { if (!(expression)) { return (value); } } while (0)
#define g_warn_if_fail(expression) ((void)(expression))
#define g_warn_if_reached() ((void)0)

/* Formatted, so that a bad argument shows, and not printed. */
int vfio_verify_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void vfio_verify_fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define g_error(...) vfio_verify_fatal(__VA_ARGS__)
#define g_print(...) ((void)vfio_verify_say(__VA_ARGS__))
#define g_printerr(...) ((void)vfio_verify_say(__VA_ARGS__))
#define g_debug(...) ((void)vfio_verify_say(__VA_ARGS__))
#define g_info(...) ((void)vfio_verify_say(__VA_ARGS__))
#define g_message(...) ((void)vfio_verify_say(__VA_ARGS__))
#define g_warning(...) ((void)vfio_verify_say(__VA_ARGS__))
#define g_critical(...) ((void)vfio_verify_say(__VA_ARGS__))

_Noreturn void g_abort(void);

#endif
