/*
 * What QEMU code finds already included and defined: the system's headers, the compiler's
 * attributes, arithmetic, alignment, page sizes.
 *
 * Everything here that has a QEMU or GLib name is left out when the given sources define that name
 * themselves: the build then defines VFIO_VERIFY_SOURCE_DEFINES_<name> before this header.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VFIO_VERIFY_OSDEP_H
#define VFIO_VERIFY_OSDEP_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <linux/types.h>
#if defined(__has_include)
#if __has_include(<linux/vfio.h>)
#include <linux/vfio.h>
#define VFIO_VERIFY_HAVE_LINUX_VFIO_H 1
#endif
#endif

/* For GLib's assertions; the C library's own assert() is caught when a subject is linked. */
_Noreturn void vfio_verify_assertion_failed(const char *text, const char *file, int line, const char *function);

/*
 * Tracepoints are generated in QEMU, so none is known here by name. Whoever compiles a subject can
 * define each trace_<name> that it finds as this, which uses the arguments and does nothing.
 */
#define VFIO_VERIFY_TRACEPOINT(...) vfio_verify_tracepoint(0, ##__VA_ARGS__)
static inline void vfio_verify_tracepoint(int unused, ...)
{
    (void)unused;
}

/* ---- the compiler ------------------------------------------------------------------------- */

#ifndef VFIO_VERIFY_SOURCE_DEFINES_likely
#define likely(x) __builtin_expect(!!(x), 1)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_unlikely
#define unlikely(x) __builtin_expect(!!(x), 0)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_PACKED
#define QEMU_PACKED __attribute__((packed))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_ALIGNED
#define QEMU_ALIGNED(n) __attribute__((aligned(n)))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_NORETURN
#define QEMU_NORETURN __attribute__((noreturn))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_WARN_UNUSED_RESULT
#define QEMU_WARN_UNUSED_RESULT __attribute__((warn_unused_result))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_SENTINEL
#define QEMU_SENTINEL __attribute__((sentinel))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_ALWAYS_INLINE
#define QEMU_ALWAYS_INLINE __attribute__((always_inline))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_FALLTHROUGH
#define QEMU_FALLTHROUGH __attribute__((fallthrough))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_BUILD_BUG_ON
#define QEMU_BUILD_BUG_ON(condition) _Static_assert(!(condition), "not expecting: " #condition)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_BUILD_BUG_MSG
#define QEMU_BUILD_BUG_MSG(condition, text) _Static_assert(!(condition), text)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_coroutine_fn
#define coroutine_fn
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_coroutine_mixed_fn
#define coroutine_mixed_fn
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_glue
#define VFIO_VERIFY_PASTE(a, b) a##b
#define glue(a, b) VFIO_VERIFY_PASTE(a, b)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_stringify
#define VFIO_VERIFY_STRING(...) #__VA_ARGS__
#define stringify(...) VFIO_VERIFY_STRING(__VA_ARGS__)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_container_of
#define container_of(pointer, type, member) \
    ((type *)(void *)((char *)(1 ? (pointer) : &((type *)0)->member) - offsetof(type, member)))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_ARRAY_SIZE
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qatomic_read
#define qatomic_read(pointer) __atomic_load_n(pointer, __ATOMIC_RELAXED)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qatomic_set
#define qatomic_set(pointer, value) __atomic_store_n(pointer, value, __ATOMIC_RELAXED)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qatomic_rcu_read
#define qatomic_rcu_read(pointer) __atomic_load_n(pointer, __ATOMIC_CONSUME)
#endif

/* ---- arithmetic --------------------------------------------------------------------------- */

#ifndef VFIO_VERIFY_SOURCE_DEFINES_KiB
#define KiB (INT64_C(1) << 10)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_MiB
#define MiB (INT64_C(1) << 20)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_GiB
#define GiB (INT64_C(1) << 30)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_TiB
#define TiB (INT64_C(1) << 40)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_BIT
#define BIT(n) (1UL << (n))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_BIT_ULL
#define BIT_ULL(n) (1ULL << (n))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_MAKE_64BIT_MASK
#define MAKE_64BIT_MASK(shift, length) ((~0ULL >> (64 - (length))) << (shift))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_MIN
#undef MIN
#define MIN(a, b) __extension__({          \
    __auto_type vv_min_a = (a);             \
    __auto_type vv_min_b = (b);             \
    vv_min_a < vv_min_b ? vv_min_a : vv_min_b; \
})
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_MAX
#undef MAX
#define MAX(a, b) __extension__({          \
    __auto_type vv_max_a = (a);             \
    __auto_type vv_max_b = (b);             \
    vv_max_a > vv_max_b ? vv_max_a : vv_max_b; \
})
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_MIN_CONST
#define MIN_CONST(a, b) ((a) < (b) ? (a) : (b))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_MAX_CONST
#define MAX_CONST(a, b) ((a) > (b) ? (a) : (b))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_MIN_NON_ZERO
#define MIN_NON_ZERO(a, b) __extension__({ \
    __auto_type vv_nz_a = (a);              \
    __auto_type vv_nz_b = (b);              \
    vv_nz_a == 0 ? vv_nz_b : (vv_nz_b == 0 || vv_nz_b > vv_nz_a) ? vv_nz_a : vv_nz_b; \
})
#endif

/* n, or the multiple of m next below or above it; m need not be a power of two here. */
#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_ALIGN_DOWN
#define QEMU_ALIGN_DOWN(n, m) ((n) / (m) * (m))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_ALIGN_UP
#define QEMU_ALIGN_UP(n, m) (((n) + (m) - 1) / (m) * (m))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_IS_ALIGNED
#define QEMU_IS_ALIGNED(n, m) (((n) % (m)) == 0)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_ALIGN_PTR_DOWN
#define QEMU_ALIGN_PTR_DOWN(p, m) ((__typeof__(p))((uintptr_t)(p) / (m) * (m)))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_ALIGN_PTR_UP
#define QEMU_ALIGN_PTR_UP(p, m) ((__typeof__(p))(((uintptr_t)(p) + (m) - 1) / (m) * (m)))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_PTR_IS_ALIGNED
#define QEMU_PTR_IS_ALIGNED(p, m) (((uintptr_t)(p) % (m)) == 0)
#endif

/* d must be a power of two here; as in QEMU the result has the wider of the two types. */
#ifndef VFIO_VERIFY_SOURCE_DEFINES_ROUND_DOWN
#define ROUND_DOWN(n, d) ((n) & -(0 ? (n) : (d)))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_ROUND_UP
#define ROUND_UP(n, d) (((n) + (d) - 1) & -(0 ? (n) : (d)))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_DIV_ROUND_UP
#define DIV_ROUND_UP(n, d) (((n) + (d) - 1) / (d))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_is_power_of_2
static inline bool is_power_of_2(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_pow2floor
static inline uint64_t pow2floor(uint64_t value)
{
    return value == 0 ? 0 : UINT64_C(1) << (63 - __builtin_clzll(value));
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_pow2ceil
static inline uint64_t pow2ceil(uint64_t value)
{
    if (value <= 1) {
        return 1;
    }
    /* Too large to round up: 0, as QEMU has it. */
    int bits = 64 - __builtin_clzll(value - 1);
    return bits == 64 ? 0 : UINT64_C(1) << bits;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_ctz32
static inline int ctz32(uint32_t value)
{
    return value ? __builtin_ctz(value) : 32;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_ctz64
static inline int ctz64(uint64_t value)
{
    return value ? __builtin_ctzll(value) : 64;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_clz32
static inline int clz32(uint32_t value)
{
    return value ? __builtin_clz(value) : 32;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_clz64
static inline int clz64(uint64_t value)
{
    return value ? __builtin_clzll(value) : 64;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_ctpop64
static inline int ctpop64(uint64_t value)
{
    return __builtin_popcountll(value);
}
#endif

/* Each stores the wrapped result and tells whether it wrapped. */
#ifndef VFIO_VERIFY_SOURCE_DEFINES_uadd32_overflow
static inline bool uadd32_overflow(uint32_t a, uint32_t b, uint32_t *result)
{
    return __builtin_add_overflow(a, b, result);
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_usub32_overflow
static inline bool usub32_overflow(uint32_t a, uint32_t b, uint32_t *result)
{
    return __builtin_sub_overflow(a, b, result);
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_umul32_overflow
static inline bool umul32_overflow(uint32_t a, uint32_t b, uint32_t *result)
{
    return __builtin_mul_overflow(a, b, result);
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_uadd64_overflow
static inline bool uadd64_overflow(uint64_t a, uint64_t b, uint64_t *result)
{
    return __builtin_add_overflow(a, b, result);
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_usub64_overflow
static inline bool usub64_overflow(uint64_t a, uint64_t b, uint64_t *result)
{
    return __builtin_sub_overflow(a, b, result);
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_umul64_overflow
static inline bool umul64_overflow(uint64_t a, uint64_t b, uint64_t *result)
{
    return __builtin_mul_overflow(a, b, result);
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_sadd32_overflow
static inline bool sadd32_overflow(int32_t a, int32_t b, int32_t *result)
{
    return __builtin_add_overflow(a, b, result);
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_ssub32_overflow
static inline bool ssub32_overflow(int32_t a, int32_t b, int32_t *result)
{
    return __builtin_sub_overflow(a, b, result);
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_smul32_overflow
static inline bool smul32_overflow(int32_t a, int32_t b, int32_t *result)
{
    return __builtin_mul_overflow(a, b, result);
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_sadd64_overflow
static inline bool sadd64_overflow(int64_t a, int64_t b, int64_t *result)
{
    return __builtin_add_overflow(a, b, result);
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_ssub64_overflow
static inline bool ssub64_overflow(int64_t a, int64_t b, int64_t *result)
{
    return __builtin_sub_overflow(a, b, result);
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_smul64_overflow
static inline bool smul64_overflow(int64_t a, int64_t b, int64_t *result)
{
    return __builtin_mul_overflow(a, b, result);
}
#endif

/* Native where QEMU's own is: a 64-bit quantity then converts and compares without help. */
#ifndef VFIO_VERIFY_SOURCE_DEFINES_Int128
typedef __int128_t Int128;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_make64
static inline __int128_t int128_make64(uint64_t value)
{
    return value;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_makes64
static inline __int128_t int128_makes64(int64_t value)
{
    return value;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_get64
static inline uint64_t int128_get64(__int128_t value)
{
    assert((uint64_t)value == (__uint128_t)value);
    return (uint64_t)value;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_getlo
static inline uint64_t int128_getlo(__int128_t value)
{
    return (uint64_t)value;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_gethi
static inline int64_t int128_gethi(__int128_t value)
{
    return (int64_t)(value >> 64);
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_zero
static inline __int128_t int128_zero(void)
{
    return 0;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_one
static inline __int128_t int128_one(void)
{
    return 1;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_2_64
static inline __int128_t int128_2_64(void)
{
    return (__int128_t)1 << 64;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_nz
static inline bool int128_nz(__int128_t value)
{
    return value != 0;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_add
static inline __int128_t int128_add(__int128_t a, __int128_t b)
{
    return a + b;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_sub
static inline __int128_t int128_sub(__int128_t a, __int128_t b)
{
    return a - b;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_and
static inline __int128_t int128_and(__int128_t a, __int128_t b)
{
    return a & b;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_or
static inline __int128_t int128_or(__int128_t a, __int128_t b)
{
    return a | b;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_min
static inline __int128_t int128_min(__int128_t a, __int128_t b)
{
    return a < b ? a : b;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_max
static inline __int128_t int128_max(__int128_t a, __int128_t b)
{
    return a > b ? a : b;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_eq
static inline bool int128_eq(__int128_t a, __int128_t b)
{
    return a == b;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_ne
static inline bool int128_ne(__int128_t a, __int128_t b)
{
    return a != b;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_lt
static inline bool int128_lt(__int128_t a, __int128_t b)
{
    return a < b;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_le
static inline bool int128_le(__int128_t a, __int128_t b)
{
    return a <= b;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_gt
static inline bool int128_gt(__int128_t a, __int128_t b)
{
    return a > b;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_int128_ge
static inline bool int128_ge(__int128_t a, __int128_t b)
{
    return a >= b;
}
#endif

/* ---- pages -------------------------------------------------------------------------------- */

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_real_host_page_size
uintptr_t qemu_real_host_page_size(void);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_real_host_page_mask
intptr_t qemu_real_host_page_mask(void);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_REAL_HOST_PAGE_ALIGN
#define REAL_HOST_PAGE_ALIGN(address) ROUND_UP((address), qemu_real_host_page_size())
#endif

/* The guest is an x86 one. */
#ifndef VFIO_VERIFY_SOURCE_DEFINES_TARGET_PAGE_BITS
#define TARGET_PAGE_BITS 12
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_TARGET_PAGE_SIZE
#define TARGET_PAGE_SIZE (1 << 12)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_TARGET_PAGE_MASK
#define TARGET_PAGE_MASK ((int64_t)-4096)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_TARGET_PAGE_ALIGN
#define TARGET_PAGE_ALIGN(address) ROUND_UP((address), (1 << 12))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_target_page_size
static inline size_t qemu_target_page_size(void)
{
    return 4096;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_target_page_bits
static inline int qemu_target_page_bits(void)
{
    return 12;
}
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_target_page_mask
static inline int qemu_target_page_mask(void)
{
    return -4096;
}
#endif

/* ---- a few wrappers of system calls ------------------------------------------------------- */

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_dup
int qemu_dup(int fd);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_close
int qemu_close(int fd);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_memalign
void *qemu_memalign(size_t alignment, size_t size);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_try_memalign
void *qemu_try_memalign(size_t alignment, size_t size);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_vfree
void qemu_vfree(void *pointer);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_iov_size
size_t iov_size(const struct iovec *iov, const unsigned int iov_cnt);
#endif

#endif
