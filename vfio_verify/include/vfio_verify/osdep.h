/*
 * What QEMU code finds already included and defined: the system's headers, the compiler's
 * attributes, arithmetic, alignment, page sizes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VFIO_VERIFY_OSDEP_H
#define VFIO_VERIFY_OSDEP_H

#include "vfio_verify/system.h"

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

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define QEMU_PACKED __attribute__((packed))
#define QEMU_ALIGNED(n) __attribute__((aligned(n)))
#define QEMU_NORETURN __attribute__((noreturn))
#define QEMU_WARN_UNUSED_RESULT __attribute__((warn_unused_result))
#define QEMU_SENTINEL __attribute__((sentinel))
#define QEMU_ALWAYS_INLINE __attribute__((always_inline))
#define QEMU_FALLTHROUGH __attribute__((fallthrough))
#define QEMU_BUILD_BUG_ON(condition) _Static_assert(!(condition), "not expecting: " #condition)
#define QEMU_BUILD_BUG_MSG(condition, text) _Static_assert(!(condition), text)
#define coroutine_fn
#define coroutine_mixed_fn
#define VFIO_VERIFY_PASTE(a, b) a##b
#define glue(a, b) VFIO_VERIFY_PASTE(a, b)
#define VFIO_VERIFY_STRING(...) #__VA_ARGS__
#define stringify(...) VFIO_VERIFY_STRING(__VA_ARGS__)

#define container_of(pointer, type, member) \
    ((type *)(void *)((char *)(1 ? (pointer) : &((type *)0)->member) - offsetof(type, member)))

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define qatomic_read(pointer) __atomic_load_n(pointer, __ATOMIC_RELAXED)
#define qatomic_set(pointer, value) __atomic_store_n(pointer, value, __ATOMIC_RELAXED)
#define qatomic_rcu_read(pointer) __atomic_load_n(pointer, __ATOMIC_CONSUME)

/* ---- arithmetic --------------------------------------------------------------------------- */

#define KiB (INT64_C(1) << 10)
#define MiB (INT64_C(1) << 20)
#define GiB (INT64_C(1) << 30)
#define TiB (INT64_C(1) << 40)
#define BIT(n) (1UL << (n))
#define BIT_ULL(n) (1ULL << (n))
#define MAKE_64BIT_MASK(shift, length) ((~0ULL >> (64 - (length))) << (shift))

#undef MIN
#define MIN(a, b) __extension__({          \
    __auto_type vv_min_a = (a);             \
    __auto_type vv_min_b = (b);             \
    vv_min_a < vv_min_b ? vv_min_a : vv_min_b; \
})

#undef MAX
#define MAX(a, b) __extension__({          \
    __auto_type vv_max_a = (a);             \
    __auto_type vv_max_b = (b);             \
    vv_max_a > vv_max_b ? vv_max_a : vv_max_b; \
})

#define MIN_CONST(a, b) ((a) < (b) ? (a) : (b))
#define MAX_CONST(a, b) ((a) > (b) ? (a) : (b))

#define MIN_NON_ZERO(a, b) __extension__({ \
    __auto_type vv_nz_a = (a);              \
    __auto_type vv_nz_b = (b);              \
    vv_nz_a == 0 ? vv_nz_b : (vv_nz_b == 0 || vv_nz_b > vv_nz_a) ? vv_nz_a : vv_nz_b; \
})

/* n, or the multiple of m next below or above it; m need not be a power of two here. */
#define QEMU_ALIGN_DOWN(n, m) ((n) / (m) * (m))
#define QEMU_ALIGN_UP(n, m) (((n) + (m) - 1) / (m) * (m))
#define QEMU_IS_ALIGNED(n, m) (((n) % (m)) == 0)
#define QEMU_ALIGN_PTR_DOWN(p, m) ((__typeof__(p))((uintptr_t)(p) / (m) * (m)))
#define QEMU_ALIGN_PTR_UP(p, m) ((__typeof__(p))(((uintptr_t)(p) + (m) - 1) / (m) * (m)))
#define QEMU_PTR_IS_ALIGNED(p, m) (((uintptr_t)(p) % (m)) == 0)

/* d must be a power of two here; as in QEMU the result has the wider of the two types. */
#define ROUND_DOWN(n, d) ((n) & -(0 ? (n) : (d)))
#define ROUND_UP(n, d) (((n) + (d) - 1) & -(0 ? (n) : (d)))
#define DIV_ROUND_UP(n, d) (((n) + (d) - 1) / (d))

static inline bool is_power_of_2(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static inline uint64_t pow2floor(uint64_t value)
{
    return value == 0 ? 0 : UINT64_C(1) << (63 - __builtin_clzll(value));
}

static inline uint64_t pow2ceil(uint64_t value)
{
    if (value <= 1) {
        return 1;
    }
    /* Too large to round up: 0, as QEMU has it. */
    int bits = 64 - __builtin_clzll(value - 1);
    return bits == 64 ? 0 : UINT64_C(1) << bits;
}

static inline int ctz32(uint32_t value)
{
    return value ? __builtin_ctz(value) : 32;
}

static inline int ctz64(uint64_t value)
{
    return value ? __builtin_ctzll(value) : 64;
}

static inline int clz32(uint32_t value)
{
    return value ? __builtin_clz(value) : 32;
}

static inline int clz64(uint64_t value)
{
    return value ? __builtin_clzll(value) : 64;
}

static inline int ctpop64(uint64_t value)
{
    return __builtin_popcountll(value);
}

/* Each stores the wrapped result and tells whether it wrapped. */
static inline bool uadd32_overflow(uint32_t a, uint32_t b, uint32_t *result)
{
    return __builtin_add_overflow(a, b, result);
}

static inline bool usub32_overflow(uint32_t a, uint32_t b, uint32_t *result)
{
    return __builtin_sub_overflow(a, b, result);
}

static inline bool umul32_overflow(uint32_t a, uint32_t b, uint32_t *result)
{
    return __builtin_mul_overflow(a, b, result);
}

static inline bool uadd64_overflow(uint64_t a, uint64_t b, uint64_t *result)
{
    return __builtin_add_overflow(a, b, result);
}

static inline bool usub64_overflow(uint64_t a, uint64_t b, uint64_t *result)
{
    return __builtin_sub_overflow(a, b, result);
}

static inline bool umul64_overflow(uint64_t a, uint64_t b, uint64_t *result)
{
    return __builtin_mul_overflow(a, b, result);
}

static inline bool sadd32_overflow(int32_t a, int32_t b, int32_t *result)
{
    return __builtin_add_overflow(a, b, result);
}

static inline bool ssub32_overflow(int32_t a, int32_t b, int32_t *result)
{
    return __builtin_sub_overflow(a, b, result);
}

static inline bool smul32_overflow(int32_t a, int32_t b, int32_t *result)
{
    return __builtin_mul_overflow(a, b, result);
}

static inline bool sadd64_overflow(int64_t a, int64_t b, int64_t *result)
{
    return __builtin_add_overflow(a, b, result);
}

static inline bool ssub64_overflow(int64_t a, int64_t b, int64_t *result)
{
    return __builtin_sub_overflow(a, b, result);
}

static inline bool smul64_overflow(int64_t a, int64_t b, int64_t *result)
{
    return __builtin_mul_overflow(a, b, result);
}

/* Native where QEMU's own is: a 64-bit quantity then converts and compares without help. */
typedef __int128_t Int128;

static inline __int128_t int128_make64(uint64_t value)
{
    return value;
}

static inline __int128_t int128_makes64(int64_t value)
{
    return value;
}

static inline uint64_t int128_get64(__int128_t value)
{
    assert((uint64_t)value == (__uint128_t)value);
    return (uint64_t)value;
}

static inline uint64_t int128_getlo(__int128_t value)
{
    return (uint64_t)value;
}

static inline int64_t int128_gethi(__int128_t value)
{
    return (int64_t)(value >> 64);
}

static inline __int128_t int128_zero(void)
{
    return 0;
}

static inline __int128_t int128_one(void)
{
    return 1;
}

static inline __int128_t int128_2_64(void)
{
    return (__int128_t)1 << 64;
}

static inline bool int128_nz(__int128_t value)
{
    return value != 0;
}

static inline __int128_t int128_add(__int128_t a, __int128_t b)
{
    return a + b;
}

static inline __int128_t int128_sub(__int128_t a, __int128_t b)
{
    return a - b;
}

static inline __int128_t int128_and(__int128_t a, __int128_t b)
{
    return a & b;
}

static inline __int128_t int128_or(__int128_t a, __int128_t b)
{
    return a | b;
}

static inline __int128_t int128_min(__int128_t a, __int128_t b)
{
    return a < b ? a : b;
}

static inline __int128_t int128_max(__int128_t a, __int128_t b)
{
    return a > b ? a : b;
}

static inline bool int128_eq(__int128_t a, __int128_t b)
{
    return a == b;
}

static inline bool int128_ne(__int128_t a, __int128_t b)
{
    return a != b;
}

static inline bool int128_lt(__int128_t a, __int128_t b)
{
    return a < b;
}

static inline bool int128_le(__int128_t a, __int128_t b)
{
    return a <= b;
}

static inline bool int128_gt(__int128_t a, __int128_t b)
{
    return a > b;
}

static inline bool int128_ge(__int128_t a, __int128_t b)
{
    return a >= b;
}

/* ---- pages -------------------------------------------------------------------------------- */

uintptr_t qemu_real_host_page_size(void);
intptr_t qemu_real_host_page_mask(void);

#define REAL_HOST_PAGE_ALIGN(address) ROUND_UP((address), qemu_real_host_page_size())

/* The guest is an x86 one. */
#define TARGET_PAGE_BITS 12
#define TARGET_PAGE_SIZE (1 << 12)
#define TARGET_PAGE_MASK ((int64_t)-4096)
#define TARGET_PAGE_ALIGN(address) ROUND_UP((address), (1 << 12))

static inline size_t qemu_target_page_size(void)
{
    return 4096;
}

static inline int qemu_target_page_bits(void)
{
    return 12;
}

static inline int qemu_target_page_mask(void)
{
    return -4096;
}

/* ---- a few wrappers of system calls ------------------------------------------------------- */

int qemu_dup(int fd);
int qemu_close(int fd);
void *qemu_memalign(size_t alignment, size_t size);
void *qemu_try_memalign(size_t alignment, size_t size);
void qemu_vfree(void *pointer);
size_t iov_size(const struct iovec *iov, const unsigned int iov_cnt);

#endif
