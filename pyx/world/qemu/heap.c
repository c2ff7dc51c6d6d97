/*
 * The heap of a subject: one area, reserved when the module is loaded, so that allocating changes
 * no mapping; and a record of what is left over, freed twice, or was not the subject's to free.
 *
 * Blocks are handed out one after another, and are not reused before the area is used up: a pointer
 * kept too long then meets poison rather than another block. Emptying the heap costs what was used.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "qemu/qemu.h"

#define AREA_SIZE ((size_t)64 << 20)
#define REDZONE 16                      /* at least; behind each block */
#define CANARY 0xcb
#define JUNK 0xa5                       /* what malloc() hands out */
#define POISON 0xdd                     /* a pointer read from it is no address at all */
#define MOST_FILLED ((size_t)64 << 10)  /* junk and poison: enough to be noticed, cheap for large blocks */
#define MOST_ZEROED ((size_t)256 << 10) /* beyond this the kernel is asked for fresh pages */
#define MOST_SEARCHED ((size_t)1 << 20) /* for a block that was not freed */
#define MAGIC 0x6b636f6c62207676ull

enum state { LIVE = 1, PROTECTED, HIDDEN, FREED };

struct block {
    u64 state;
    size_t size;                        /* as asked for */
    size_t room;                        /* from the first byte to the end of the redzone */
    struct block *next_freed;
    u64 at;                             /* the place in the subject that allocated it */
    u64 magic;                          /* last, where an underrun meets it first */
};
_Static_assert(sizeof(struct block) % 16 == 0, "the header must keep what follows it aligned");

static struct {
    uint8_t *area;                      /* NULL: there is none, and every allocation fails */
    size_t used;                        /* the area is zero from here on */
    struct block *freed_first, *freed_last;
    size_t n_freed;
    struct vv_heap_report report;
    u64 bad_at;                         /* the place of the first free that was none, VV_NONE if none was */
    char lock;                          /* subjects may be called from several threads */
} heap;

__attribute__((constructor)) static void reserve(void)
{
    void *area = mmap(NULL, AREA_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    heap.area = area == MAP_FAILED ? NULL : area;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static uint8_t *payload(struct block *block)
{
    return (uint8_t *)(block + 1);
}

/* The block that begins at a pointer, freed or not; NULL if none does. */
static struct block *block_at(const void *pointer)
{
    const uintptr_t at = (uintptr_t)pointer, area = (uintptr_t)heap.area;
    struct block *block;

    if (!heap.area || at % 16 || at < area + sizeof(struct block) || at > area + heap.used) {
        return NULL;
    }
    block = (struct block *)at - 1;
    return block->magic == (MAGIC ^ at) ? block : NULL;
}

static bool redzone_is_whole(struct block *block)
{
    const uint8_t *byte = payload(block) + block->size, *end = payload(block) + block->room;

    while (byte < end && *byte == CANARY) {
        byte++;
    }
    return byte == end;
}

static void put_behind(struct block *block)
{
    block->next_freed = NULL;
    if (heap.freed_last) {
        heap.freed_last->next_freed = block;
    } else {
        heap.freed_first = block;
    }
    heap.freed_last = block;
    heap.n_freed++;
}

static struct block *take_first(void)
{
    struct block *block = heap.freed_first;

    heap.freed_first = block->next_freed;
    if (!heap.freed_first) {
        heap.freed_last = NULL;
    }
    heap.n_freed--;
    return block;
}

/* Oldest first. One that does not fit goes to the end: small ones must not pile up in front. */
static struct block *reuse(size_t size, size_t align)
{
    size_t tries;

    for (tries = heap.n_freed; tries > 0; tries--) {
        struct block *block = take_first();

        if (block->room >= size + REDZONE && (uintptr_t)payload(block) % align == 0) {
            memset(payload(block), 0, size);
            return block;
        }
        put_behind(block);
    }
    return NULL;
}

static struct block *carve(size_t size, size_t align)
{
    const uintptr_t area = (uintptr_t)heap.area;
    uintptr_t at, end;
    struct block *block;

    if (!area || size > AREA_SIZE || align > AREA_SIZE) {
        return NULL;
    }
    at = (area + heap.used + sizeof(struct block) + align - 1) & ~(uintptr_t)(align - 1);
    end = (at + size + REDZONE + 15) & ~(uintptr_t)15;
    if (end > area + AREA_SIZE) {
        return reuse(size, align);
    }
    block = (struct block *)at - 1;
    block->room = end - at;
    block->magic = MAGIC ^ at;
    heap.used = end - area;
    return block;
}

/* The bytes are zero unless junk is asked for. */
static void *allocate(size_t size, size_t align, bool junk)
{
    const u64 at = vv_caller();
    struct block *block;

    vv_spin_lock(&heap.lock);
    block = carve(size, align < 16 ? 16 : align);
    if (block) {
        block->state = LIVE;
        block->size = size;
        block->at = at;
        heap.report.live++;
        heap.report.live_bytes += size;
    }
    vv_spin_unlock(&heap.lock);
    if (!block) {
        return NULL;
    }
    if (junk) {
        memset(payload(block), JUNK, least(size, MOST_FILLED));
    }
    memset(payload(block) + size, CANARY, block->room - size);
    return payload(block);
}

void *vv_heap_alloc(size_t size, size_t align)
{
    return allocate(size, align, false);
}

static void uncount(struct block *block)
{
    if (block->state == LIVE) {
        heap.report.live--;
        heap.report.live_bytes -= block->size;
    }
}

static void note_bad(u64 at)
{
    heap.bad_at = heap.bad_at == VV_NONE ? at : heap.bad_at;
}

void vv_heap_free(void *pointer)
{
    const u64 at = vv_caller();
    struct block *block;
    bool whole = true;

    if (!pointer) {
        return;
    }
    vv_spin_lock(&heap.lock);
    block = block_at(pointer);
    if (!block || block->state == FREED) {
        heap.report.bad_frees++;
        note_bad(at);
    } else if (block->state == PROTECTED) {
        heap.report.cached_frees++;
        note_bad(at);
    } else if ((whole = redzone_is_whole(block))) {
        uncount(block);
        block->state = FREED;
        memset(payload(block), POISON, least(block->size, MOST_FILLED));
        put_behind(block);
    }
    vv_spin_unlock(&heap.lock);
    if (!whole) {
        vv_die("wrote past the end of an allocation of %zu bytes", block->size);
    }
}

void *vv_heap_realloc(void *pointer, size_t size)
{
    struct block *block;
    size_t kept = 0;
    void *moved;

    if (!pointer) {
        return allocate(size, 16, true);
    }
    if (!size) {
        vv_heap_free(pointer);
        return NULL;
    }
    vv_spin_lock(&heap.lock);
    block = block_at(pointer);
    if (block && block->state != FREED) {
        kept = least(block->size, size);
    }
    vv_spin_unlock(&heap.lock);
    moved = allocate(size, 16, true);
    if (moved) {
        memcpy(moved, pointer, kept);
        vv_heap_free(pointer);          /* records one that was not to be freed */
    }
    return moved;
}

bool vv_heap_owns(const void *pointer)
{
    struct block *block;
    bool owns;

    vv_spin_lock(&heap.lock);
    block = block_at(pointer);
    owns = block && block->state != FREED;
    vv_spin_unlock(&heap.lock);
    return owns;
}

static void become(void *pointer, enum state state)
{
    struct block *block;

    vv_spin_lock(&heap.lock);
    block = block_at(pointer);
    if (block && block->state != FREED) {
        uncount(block);
        block->state = state;
    }
    vv_spin_unlock(&heap.lock);
}

void vv_heap_protect(void *pointer)
{
    become(pointer, PROTECTED);
}

void vv_heap_hide(void *pointer)
{
    become(pointer, HIDDEN);
}

void vv_heap_reset(void)
{
    if (heap.used > MOST_ZEROED) {
        madvise(heap.area, heap.used, MADV_DONTNEED);
    } else if (heap.used) {
        memset(heap.area, 0, heap.used);
    }
    heap.used = 0;
    heap.freed_first = heap.freed_last = NULL;
    heap.n_freed = 0;
    memset(&heap.report, 0, sizeof(heap.report));
    heap.bad_at = VV_NONE;
    vv_spin_unlock(&heap.lock);                           /* whatever the subject was interrupted in */
}

void vv_heap_report(struct vv_heap_report *report)
{
    vv_spin_lock(&heap.lock);
    *report = heap.report;
    vv_spin_unlock(&heap.lock);
}

u64 vv_heap_at(void)
{
    const u64 end = (u64)heap.area + least(heap.used, MOST_SEARCHED);
    u64 at;

    for (at = (u64)heap.area + sizeof(struct block); at < end; at += 16) {
        const struct block *block = block_at((const void *)at);

        if (block && block->state == LIVE) {
            return block->at;
        }
    }
    return VV_NONE;
}

u64 vv_heap_free_at(void)
{
    return heap.bad_at;
}

/* ---- libc's allocators: subjects are linked with --wrap ---------------------------------------- */

static void *or_enomem(void *pointer)
{
    if (!pointer) {
        errno = ENOMEM;
    }
    return pointer;
}

VV_EXPORT void *__wrap_malloc(size_t size)
{
    return or_enomem(allocate(size, 16, true));
}

VV_EXPORT void *__wrap_calloc(size_t n, size_t size)
{
    size_t bytes;

    return or_enomem(__builtin_mul_overflow(n, size, &bytes) ? NULL : allocate(bytes, 16, false));
}

VV_EXPORT void *__wrap_realloc(void *pointer, size_t size)
{
    void *moved = vv_heap_realloc(pointer, size);

    return pointer && !size ? NULL : or_enomem(moved);
}

VV_EXPORT void *__wrap_reallocarray(void *pointer, size_t n, size_t size)
{
    size_t bytes;

    return __builtin_mul_overflow(n, size, &bytes) ? or_enomem(NULL) : __wrap_realloc(pointer, bytes);
}

VV_EXPORT void __wrap_free(void *pointer)
{
    vv_heap_free(pointer);
}

VV_EXPORT char *__wrap_strndup(const char *text, size_t n)
{
    const size_t length = strnlen(text, n);
    char *copy = or_enomem(allocate(length + 1, 16, false));

    return copy ? memcpy(copy, text, length) : NULL;
}

VV_EXPORT char *__wrap_strdup(const char *text)
{
    return __wrap_strndup(text, strlen(text));
}

static bool is_alignment(size_t align)
{
    return align && (align & (align - 1)) == 0;
}

VV_EXPORT int __wrap_posix_memalign(void **pointer, size_t align, size_t size)
{
    void *block;

    if (!is_alignment(align) || align % sizeof(void *)) {
        return EINVAL;
    }
    block = allocate(size, align, true);
    if (!block) {
        return ENOMEM;
    }
    *pointer = block;
    return 0;
}

VV_EXPORT void *__wrap_aligned_alloc(size_t align, size_t size)
{
    if (!is_alignment(align)) {
        errno = EINVAL;
        return NULL;
    }
    return or_enomem(allocate(size, align, true));
}

VV_EXPORT void *__wrap_memalign(size_t align, size_t size)
{
    return __wrap_aligned_alloc(align, size);
}

VV_EXPORT void *__wrap_valloc(size_t size)
{
    return __wrap_aligned_alloc(4096, size);
}

VV_EXPORT int __wrap_vasprintf(char **text, const char *format, va_list arguments)
{
    va_list again;
    int length;

    va_copy(again, arguments);
    length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    *text = length < 0 ? NULL : or_enomem(allocate((size_t)length + 1, 16, false));
    return *text ? vsnprintf(*text, (size_t)length + 1, format, arguments) : -1;
}

VV_EXPORT int __wrap_asprintf(char **text, const char *format, ...)
{
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = __wrap_vasprintf(text, format, arguments);
    va_end(arguments);
    return length;
}
