/*
 * The world: a case made real in this process. This header is the contract between its parts.
 *
 *   memory.c   memfd devices, stamps, the arena in which RAM blocks are mapped
 *   calls.c    the system calls of a subject: counted, recorded, failed on demand, made harmless
 *   descriptors.c  whose a descriptor is: what was open before the call, and what is after it
 *   heap.c     the allocations of a subject
 *   qemu.c     QEMU's names: look-ups, RAMBlock, VFIODevice, the Error API
 *   observe.c  what the kernel says of the address space, and what can be read there
 *   run.c      one request: one layout, several runs with a fault plan each
 *   session.c  another kind of request: calls and what happens between them, in one world
 *   threads.c  another kind of request: several calls at once, each by a thread of its own
 *   where.c    which place of the subject's code called, and where it was when its process ended
 *   progress.c what a worker says of itself while it runs, and its last words
 *   confine.c  what a worker can still do once its subject is there
 *   oversee.c  who decides on its forks
 *   kernel.c   failures that the kernel itself makes
 *   serve.c    the process that forks workers and the loop inside a worker
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VV_WORLD_H
#define VV_WORLD_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vfio_verify/call.h"

typedef uint64_t u64;

#define VV_EXPORT __attribute__((visibility("default")))
#define VV_NONE UINT64_MAX          /* "no such thing" wherever a position is expected */
#define VV_MAX_DEVICES 4
#define VV_MAX_FILES 8              /* of regions that have a file of their own */
#define VV_DEVICE_FILES (VV_MAX_DEVICES + VV_MAX_FILES)
#define VV_MAX_REGIONS 64
#define VV_MAX_AREAS 256
#define VV_MAX_BLOCKS 256
#define VV_MAX_SEGMENTS 65536

/* ---- what is counted, recorded and failed ------------------------------------------------ */

/* The order is part of the wire format; vfio_verify/worker/wire.py holds the same list. */
enum vv_step {
    VV_MMAP, VV_MUNMAP, VV_MPROTECT, VV_MREMAP, VV_DUP, VV_CLOSE, VV_OTHER_CALL,
    VV_FIND_DEVICE,                 /* vfio_device_lookup(), in all its shapes */
    VV_FIND_BLOCK,                  /* qemu_ram_block_from_host() */
    VV_FIND_INDEX,                  /* vfio_get_region_index_from_mr() */
    VV_FIND_REGION,                 /* vfio_get_region_from_mr() */
    VV_REGION_INFO,                 /* vfio_device_get_region_info() */
    VV_REGION_FD,                   /* vfio_device_get_region_fd() */
    VV_STEPS
};

enum vv_when { VV_EARLY, VV_LATE };

enum vv_event_flags {
    VV_FAULTED = 1,                 /* the fault plan failed this call */
    VV_TOOK_AWAY = 2,               /* the failure first took away what was there (a late failure) */
    VV_REFUSED = 4,                 /* not carried out: it would have damaged the harness */
    VV_OUTSIDE = 8,                 /* touches addresses outside what the subject reserved and still holds */
    VV_OWNED = 16,                  /* inside what the subject reserved and still holds */
    VV_BY_RULE = 32,                /* refused by the device's own mmap rules */
    VV_UNPLANNED = 128,             /* failed, by neither the fault plan nor the device's rules */
    VV_STARVED = 256,               /* no memory for a mapping of a size that the call could rightly ask for */
    VV_BY_KERNEL = 512,             /* the failure that the case's kernel fault is to make */
    VV_OPEN = 1 << 16,              /* not answered yet: the process ended in it */
    VV_LEFT_OPEN = 1024,            /* of no event: a second call left a descriptor open, or closed another's */
    VV_NESTED = 64,                 /* made by the world on the subject's behalf (qemu_ram_mmap) */
};

/* One call or look-up of the subject. All fields are 64 bits wide: the wire format is the memory. */
struct vv_event {
    u64 step;
    u64 flags;
    u64 arg[6];
    u64 result;
    u64 error;                      /* errno, or 0 */
    u64 caller;                     /* the place in the subject that made the call (where.c), or VV_NONE */
};

/*
 * Begin a step: count it, append it to the trace, and decide its fate. Never allocates; when the
 * trace is full the event is counted and its record dropped (the returned pointer is then a spare).
 * If the fault plan fails this step, event->error is the errno to report and VV_FAULTED is set; a
 * look-up that has no errno of its own (no RAMBlock, say) just fails.
 */
struct vv_event *vv_begin(enum vv_step step, u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5);

/* Finish it: what was returned, and the errno that goes with it (0 for success). */
void vv_end(struct vv_event *event, u64 result, int error);

/* The subject did what ends a QEMU process (abort, assertion, error set twice...). The text is
 * left for the parent, and the process dies by SIGABRT. */
_Noreturn void vv_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, for what a judge asks for. */
enum vv_death { VV_DEATH_ERROR_SET_TWICE = 1, VV_DEATH_ASSERTION = 2 };
_Noreturn void vv_die_of(enum vv_death code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- the layout of a case, as the request carries it -------------------------------------- */

struct vv_device  { u64 mmap_rule, has_region_fds; };           /* enum vv_mmap_rule */
struct vv_region {
    u64 device, index, size;
    u64 flags;                      /* VFIO_REGION_INFO_FLAG_* */
    u64 sparse;                     /* its info has the sparse capability */
    u64 memory, offset;             /* enum vv_memory, and where it begins in that file */
    u64 msix;                       /* enum vv_msix */
};
struct vv_area    { u64 region, offset, size; };                /* region: a position in regions[] */
struct vv_block {
    u64 area;                       /* a position in areas[], VV_NONE for plain RAM */
    u64 size;                       /* of whole pages, as QEMU rounds it */
    u64 touches;                    /* it begins where the block before it ends */
};
struct vv_segment { u64 block, offset, length; };               /* block: a position in blocks[], VV_NONE for nowhere */
struct vv_fault   { u64 step, nth, when, error, persistent; };  /* nth counts from 1 */

/* What a device's driver refuses to map: what lies outside a region, or outside its areas; or nothing, where the regions
 * are ordinary files. The order is part of the wire format: MMAP_RULES in vfio_verify/worker/wire.py. */
enum vv_mmap_rule { VV_BY_REGION, VV_BY_AREAS, VV_BY_NOTHING };

/* A region with the MSI-X table: QEMU cuts the table out of the areas by itself, or the region's info says that it may be
 * mapped. The order is part of the wire format: MSIX in vfio_verify/worker/wire.py. */
enum vv_msix { VV_NO_MSIX, VV_MSIX_CUT, VV_MSIX_MAPPABLE };

struct vv_layout {
    u64 n_devices, n_regions, n_areas, n_blocks, n_segments;
    const struct vv_device *devices;
    const struct vv_region *regions;
    const struct vv_area *areas;
    const struct vv_block *blocks;
    const struct vv_segment *segments;
    u64 total_size;
    u64 null_errp;                  /* pass errp == NULL */
    u64 kernel_rules;               /* enum vv_kernel_rules */
    u64 page_size;                  /* of the machine that the subject is told of */
    u64 zeroed;                     /* is the subject built with automatic variables that are zero until they are set? */
};

extern u64 vv_host_page;            /* the same, between two layouts too */

/* Where kernels differ from the newest one; class Kernel in vfio_verify/values/case.py. */
enum vv_kernel_rules {
    VV_MREMAP_UNMAPS = 1,           /* mremap of device memory to a fixed address unmaps that first, then refuses */
    VV_NO_HINTS = 2,                /* an address without MAP_FIXED is not followed */
    VV_NO_NOREPLACE = 4,            /* MAP_FIXED_NOREPLACE is ignored */
    VV_NO_LOCKS = 8,                /* MAP_LOCKED is refused with EAGAIN */
};

/* ---- what is real, once a layout is set up -------------------------------------------------- */

struct vv_world {
    struct vv_layout layout;
    int device_fd[VV_DEVICE_FILES]; /* memfds, valid for the life of the process: the devices', then those of regions */
    u64 n_files;                    /* regions of this layout that have a file of their own */
    int ram_fd;                     /* memfd behind plain RAM blocks */
    uint8_t *block_host[VV_MAX_BLOCKS];      /* where block i is mapped */
    u64 block_file_offset[VV_MAX_BLOCKS];    /* in its device's (or the RAM's) memfd */
    struct iovec *iov;              /* the segments as host addresses; restored before each call */
};
extern struct vv_world vv_world;

/* ---- heap.c: allocations of the subject ------------------------------------------------------
 * All memory comes from one area reserved beforehand, so that allocating changes no mapping.
 * The area is emptied before each run. */

void *vv_heap_alloc(size_t size, size_t align);     /* zeroed; NULL when the area is full */
void *vv_heap_realloc(void *pointer, size_t size);
void vv_heap_free(void *pointer);                   /* records double frees, foreign pointers, cached pointers */
bool vv_heap_owns(const void *pointer);
void vv_heap_protect(void *pointer, size_t size);   /* belongs to a cache: freeing it is recorded, not done */
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

/* ---- qemu.c: QEMU's names ---------------------------------------------------------------------- */

void vv_qemu_build(void);                       /* make QEMU's objects for vv_world.layout; may allocate */
void vv_qemu_before_call(struct vv_call *call); /* forget caches and errors, fill vbasedev, res and errp; no allocation */
void vv_qemu_forget(void);                      /* the first half of it, for several calls at once */
/* The other half, for the iovec, size and (in `res`) resource that the call has already. */
void vv_qemu_fill_call(struct vv_call *call, u64 first_block);
size_t vv_qemu_resource_size(void);

struct vv_error_report {
    u64 given;                      /* errp was not NULL */
    u64 left;                       /* *errp is set */
    u64 sets;                       /* how often an error was set through any Error ** */
    u64 length;                     /* of the message, without NUL */
    const char *message;            /* valid until the next call */
    u64 at[2];                      /* the places where the first two were set, or VV_NONE */
};
void vv_qemu_after_call(struct vv_call *call, struct vv_error_report *report);

/* ---- calls.c: system calls, for use by qemu.c on the subject's behalf --------------------------- */

void *vv_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
int vv_munmap(void *addr, size_t length);
int vv_mprotect(void *addr, size_t length, int prot);
void *vv_mremap(void *addr, size_t old_length, size_t new_length, int flags, void *new_addr);
int vv_dup(int fd);
int vv_close(int fd);
void vv_refer(const void *object, int change);  /* +1, -1: a reference that the subject takes or drops */
void vv_read_lock(int change);                  /* the same for RCU's read lock */
void vv_nested(int change);     /* +1: what follows is the world's doing (qemu_ram_mmap); -1: no longer */

#endif
