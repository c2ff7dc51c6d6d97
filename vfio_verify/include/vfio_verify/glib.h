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

#ifndef VFIO_VERIFY_SOURCE_DEFINES_gboolean
typedef int gboolean;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_gchar
typedef char gchar;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_guchar
typedef unsigned char guchar;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_gint
typedef int gint;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_guint
typedef unsigned int guint;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_gshort
typedef short gshort;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_gushort
typedef unsigned short gushort;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_glong
typedef long glong;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_gulong
typedef unsigned long gulong;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_gfloat
typedef float gfloat;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_gdouble
typedef double gdouble;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_gint8
typedef int8_t gint8;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_guint8
typedef uint8_t guint8;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_gint16
typedef int16_t gint16;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_guint16
typedef uint16_t guint16;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_gint32
typedef int32_t gint32;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_guint32
typedef uint32_t guint32;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_gint64
typedef int64_t gint64;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_guint64
typedef uint64_t guint64;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_gsize
typedef size_t gsize;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_gssize
typedef ssize_t gssize;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_goffset
typedef int64_t goffset;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_gintptr
typedef intptr_t gintptr;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_guintptr
typedef uintptr_t guintptr;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_gpointer
typedef void *gpointer;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_gconstpointer
typedef const void *gconstpointer;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_GDestroyNotify
typedef void (*GDestroyNotify)(void *data);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_GFunc
typedef void (*GFunc)(void *data, void *user_data);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_TRUE
#undef TRUE
#define TRUE 1
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_FALSE
#undef FALSE
#define FALSE 0
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_MAXINT
#define G_MAXINT INT_MAX
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_MININT
#define G_MININT INT_MIN
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_MAXUINT
#define G_MAXUINT UINT_MAX
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_MAXLONG
#define G_MAXLONG LONG_MAX
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_MAXULONG
#define G_MAXULONG ULONG_MAX
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_MAXSIZE
#define G_MAXSIZE SIZE_MAX
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_MAXSSIZE
#define G_MAXSSIZE SSIZE_MAX
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_MAXINT32
#define G_MAXINT32 INT32_MAX
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_MAXUINT32
#define G_MAXUINT32 UINT32_MAX
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_MAXINT64
#define G_MAXINT64 INT64_MAX
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_MAXUINT64
#define G_MAXUINT64 UINT64_MAX
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_GINT_TO_POINTER
#define GINT_TO_POINTER(i) ((void *)(intptr_t)(i))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_GPOINTER_TO_INT
#define GPOINTER_TO_INT(p) ((int)(intptr_t)(p))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_GUINT_TO_POINTER
#define GUINT_TO_POINTER(i) ((void *)(uintptr_t)(i))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_GPOINTER_TO_UINT
#define GPOINTER_TO_UINT(p) ((unsigned int)(uintptr_t)(p))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_GSIZE_TO_POINTER
#define GSIZE_TO_POINTER(i) ((void *)(uintptr_t)(i))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_GPOINTER_TO_SIZE
#define GPOINTER_TO_SIZE(p) ((size_t)(uintptr_t)(p))
#endif

/* ---- the compiler ------------------------------------------------------------------------- */

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_GNUC_UNUSED
#define G_GNUC_UNUSED __attribute__((unused))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_GNUC_PRINTF
#define G_GNUC_PRINTF(text, first) __attribute__((format(printf, text, first)))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_GNUC_WARN_UNUSED_RESULT
#define G_GNUC_WARN_UNUSED_RESULT __attribute__((warn_unused_result))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_GNUC_NORETURN
#define G_GNUC_NORETURN __attribute__((noreturn))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_NORETURN
#define G_NORETURN __attribute__((noreturn))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_GNUC_FALLTHROUGH
#define G_GNUC_FALLTHROUGH __attribute__((fallthrough))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_LIKELY
#define G_LIKELY(x) __builtin_expect(!!(x), 1)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_UNLIKELY
#define G_UNLIKELY(x) __builtin_expect(!!(x), 0)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_N_ELEMENTS
#define G_N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_STATIC_ASSERT
#define G_STATIC_ASSERT(condition) _Static_assert(condition, #condition)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_STRFUNC
#define G_STRFUNC ((const char *)__func__)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_STRUCT_OFFSET
#define G_STRUCT_OFFSET(type, member) offsetof(type, member)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_size_checked_add
#define g_size_checked_add(result, a, b) (!__builtin_add_overflow((size_t)(a), (size_t)(b), (size_t *)(result)))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_size_checked_mul
#define g_size_checked_mul(result, a, b) (!__builtin_mul_overflow((size_t)(a), (size_t)(b), (size_t *)(result)))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_uint64_checked_add
#define g_uint64_checked_add(result, a, b) \
    (!__builtin_add_overflow((uint64_t)(a), (uint64_t)(b), (uint64_t *)(result)))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_uint64_checked_mul
#define g_uint64_checked_mul(result, a, b) \
    (!__builtin_mul_overflow((uint64_t)(a), (uint64_t)(b), (uint64_t *)(result)))
#endif

/* ---- memory: the g_malloc() family ends the process when there is none left ----------------- */

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_malloc
void *g_malloc(size_t size) __attribute__((malloc));
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_malloc0
void *g_malloc0(size_t size) __attribute__((malloc));
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_malloc_n
void *g_malloc_n(size_t n, size_t size) __attribute__((malloc));
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_malloc0_n
void *g_malloc0_n(size_t n, size_t size) __attribute__((malloc));
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_realloc
void *g_realloc(void *pointer, size_t size);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_realloc_n
void *g_realloc_n(void *pointer, size_t n, size_t size);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_try_malloc
void *g_try_malloc(size_t size) __attribute__((malloc));
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_try_malloc0
void *g_try_malloc0(size_t size) __attribute__((malloc));
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_try_malloc_n
void *g_try_malloc_n(size_t n, size_t size) __attribute__((malloc));
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_try_malloc0_n
void *g_try_malloc0_n(size_t n, size_t size) __attribute__((malloc));
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_try_realloc
void *g_try_realloc(void *pointer, size_t size);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_try_realloc_n
void *g_try_realloc_n(void *pointer, size_t n, size_t size);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_free
void g_free(void *pointer);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_memdup2
void *g_memdup2(const void *memory, size_t size);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_memdup
void *g_memdup(const void *memory, unsigned int size);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_new
#define g_new(type, n) ((type *)vfio_verify_malloc_n((n), sizeof(type)))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_new0
#define g_new0(type, n) ((type *)vfio_verify_malloc0_n((n), sizeof(type)))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_renew
#define g_renew(type, pointer, n) ((type *)vfio_verify_realloc_n((pointer), (n), sizeof(type)))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_try_new
#define g_try_new(type, n) ((type *)vfio_verify_try_malloc_n((n), sizeof(type)))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_try_new0
#define g_try_new0(type, n) ((type *)vfio_verify_try_malloc0_n((n), sizeof(type)))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_try_renew
#define g_try_renew(type, pointer, n) ((type *)vfio_verify_try_realloc_n((pointer), (n), sizeof(type)))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_steal_pointer
#define g_steal_pointer(address) ((__typeof__(*(address)))vfio_verify_steal_pointer(address))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_clear_pointer
#define g_clear_pointer(address, destroy) do {              \
    __typeof__((address)) vv_clear_address = (address);      \
    __typeof__(*(address)) vv_cleared = *vv_clear_address;   \
    *vv_clear_address = NULL;                               \
    if (vv_cleared) {                                       \
        (destroy)(vv_cleared);                              \
    }                                                       \
} while (0)
#endif

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

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_autofree
#define g_autofree __attribute__((cleanup(vfio_verify_autofree)))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_autoptr
#define g_autoptr(type) __attribute__((cleanup(vfio_verify_autoptr_##type))) vfio_verify_pointer_##type
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_auto
#define g_auto(type) __attribute__((cleanup(vfio_verify_auto_##type))) type
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_DEFINE_AUTOPTR_CLEANUP_FUNC
#define G_DEFINE_AUTOPTR_CLEANUP_FUNC(type, destroy)                                        \
    typedef type *vfio_verify_pointer_##type;                                               \
    static inline __attribute__((unused)) void vfio_verify_autoptr_##type(type **address)   \
    {                                                                                       \
        if (*address) {                                                                     \
            (destroy)(*address);                                                            \
        }                                                                                   \
    }
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC
#define G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(type, clear)                                       \
    static inline __attribute__((unused)) void vfio_verify_auto_##type(type *address)       \
    {                                                                                       \
        (clear)(address);                                                                   \
    }
#endif

/* ---- strings ---------------------------------------------------------------------------------- */

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_strdup
char *g_strdup(const char *text);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_strndup
char *g_strndup(const char *text, size_t n);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_strdup_printf
char *g_strdup_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_strdup_vprintf
char *g_strdup_vprintf(const char *format, va_list arguments) __attribute__((format(printf, 1, 0)));
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_strerror
const char *g_strerror(int error);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_strcmp0
int g_strcmp0(const char *a, const char *b);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_str_equal
#define g_str_equal(a, b) (strcmp((const char *)(a), (const char *)(b)) == 0)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_str_has_prefix
static inline int g_str_has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_strlcpy
size_t g_strlcpy(char *to, const char *from, size_t size);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_snprintf
#define g_snprintf snprintf
#endif

/* ---- assertions and messages: what ends a QEMU process ends this one ------------------------- */

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_assert
#define g_assert(expression) \
    ((expression) ? (void)0 : vfio_verify_assertion_failed(#expression, __FILE__, __LINE__, __func__))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_assert_not_reached
#define g_assert_not_reached() vfio_verify_assertion_failed("not reached", __FILE__, __LINE__, __func__)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_assert_true
#define g_assert_true(expression) \
    ((expression) ? (void)0 : vfio_verify_assertion_failed(#expression, __FILE__, __LINE__, __func__))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_assert_false
#define g_assert_false(expression) \
    ((expression) ? vfio_verify_assertion_failed("not " #expression, __FILE__, __LINE__, __func__) : (void)0)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_assert_null
#define g_assert_null(pointer) \
    ((pointer) ? vfio_verify_assertion_failed(#pointer " is NULL", __FILE__, __LINE__, __func__) : (void)0)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_assert_nonnull
#define g_assert_nonnull(pointer) \
    ((pointer) ? (void)0 : vfio_verify_assertion_failed(#pointer " is not NULL", __FILE__, __LINE__, __func__))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_assert_cmpint
#define g_assert_cmpint(a, op, b) \
    ((a) op (b) ? (void)0 : vfio_verify_assertion_failed(#a " " #op " " #b, __FILE__, __LINE__, __func__))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_assert_cmpuint
#define g_assert_cmpuint(a, op, b) \
    ((a) op (b) ? (void)0 : vfio_verify_assertion_failed(#a " " #op " " #b, __FILE__, __LINE__, __func__))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_return_if_fail
#define g_return_if_fail(expression) do { if (!(expression)) { return; } } while (0)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_return_val_if_fail
#define g_return_val_if_fail(expression, value) do { if (!(expression)) { return (value); } } while (0)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_warn_if_fail
#define g_warn_if_fail(expression) ((void)(expression))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_warn_if_reached
#define g_warn_if_reached() ((void)0)
#endif

/* Formatted, so that a bad argument shows, and not printed. */
int vfio_verify_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void vfio_verify_fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_error
#define g_error(...) vfio_verify_fatal(__VA_ARGS__)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_print
#define g_print(...) ((void)vfio_verify_say(__VA_ARGS__))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_printerr
#define g_printerr(...) ((void)vfio_verify_say(__VA_ARGS__))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_debug
#define g_debug(...) ((void)vfio_verify_say(__VA_ARGS__))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_info
#define g_info(...) ((void)vfio_verify_say(__VA_ARGS__))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_message
#define g_message(...) ((void)vfio_verify_say(__VA_ARGS__))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_warning
#define g_warning(...) ((void)vfio_verify_say(__VA_ARGS__))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_critical
#define g_critical(...) ((void)vfio_verify_say(__VA_ARGS__))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_g_abort
_Noreturn void g_abort(void);
#endif

#endif
