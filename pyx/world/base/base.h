/*
 * What all else stands on: words, the layout of a case, steps, the state of a call, and what a process says of itself.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- words and pages ---------------------------------------------------------------------------- */

typedef uint64_t u64;

#define VV_EXPORT __attribute__((visibility("default")))
#define VV_NONE UINT64_MAX          /* "no such thing" wherever a position is expected */

struct vv_range { u64 start, end; };

extern u64 vv_page_size;            /* this machine's */
extern u64 vv_host_page;            /* the subject's, which may be larger */

static inline u64 page_up(u64 bytes) { return (bytes + vv_host_page - 1) & ~(vv_host_page - 1); }
static inline u64 own_page_up(u64 bytes) { return (bytes + vv_page_size - 1) & ~(vv_page_size - 1); }
static inline u64 own_page_down(u64 bytes) { return bytes & ~(vv_page_size - 1); }

/* ---- a layout, as the request carries it -------------------------------------------------------- */

#define VV_MAX_DEVICES 4
#define VV_MAX_FILES 8              /* of regions that have a file of their own */
#define VV_DEVICE_FILES (VV_MAX_DEVICES + VV_MAX_FILES)
#define VV_MAX_REGIONS 64
#define VV_MAX_AREAS 256
#define VV_MAX_BLOCKS 256
#define VV_MAX_SEGMENTS 65536

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

/* What one call is to map. */
struct vv_iovec {
    const struct vv_segment *segments;
    u64 n, total_size;              /* total_size: what the caller says that the lengths add up to */
};

/* What a device's driver refuses to map: what lies outside a region, or outside its areas; or nothing, where the
 * regions are ordinary files. The order is part of the wire format: MMAP_RULES in vfio_verify/worker/native.py. */
enum vv_mmap_rule { VV_BY_REGION, VV_BY_AREAS, VV_BY_NOTHING };

/* A region with the MSI-X table: QEMU cuts the table out of the areas by itself, or the region's info says that it
 * may be mapped. The order is part of the wire format: MSIX in vfio_verify/worker/native.py. */
enum vv_msix { VV_NO_MSIX, VV_MSIX_CUT, VV_MSIX_MAPPABLE };

struct vv_layout {
    u64 n_devices, n_regions, n_areas, n_blocks;
    const struct vv_device *devices;
    const struct vv_region *regions;
    const struct vv_area *areas;
    const struct vv_block *blocks;
    struct vv_iovec iovec;          /* of the call at hand */
    u64 null_errp;                  /* pass errp == NULL */
    u64 kernel_rules;               /* enum vv_kernel_rules */
    u64 page_size;                  /* of the machine that the subject is told of */
    u64 zeroed;                     /* call the subject whose automatic variables are zero until they are set */
    u64 conventions;                /* enum vv_conventions */
};

/* Where kernels differ from the newest one; class Kernel in vfio_verify/values/case.py. */
enum vv_kernel_rules {
    VV_MREMAP_UNMAPS = 1,           /* mremap of device memory to a fixed address unmaps that first, then refuses */
    VV_NO_HINTS = 2,                /* an address without MAP_FIXED is not followed */
    VV_NO_NOREPLACE = 4,            /* MAP_FIXED_NOREPLACE is ignored */
    VV_NO_LOCKS = 8,                /* MAP_LOCKED is refused with EAGAIN */
};

/* Where the world does as some code takes QEMU to do. specs/conventions.toml words them, and names them in CONVENTIONS
 * of vfio_verify/worker/native.py. */
enum vv_conventions {
    VV_REGION_INFO_IS_TRUE = 1,     /* vfio_device_get_region_info() returns true on success, false on failure */
    VV_LOOKUP_IS_0 = 2,             /* vfio_device_lookup() returns 0 on success, true on failure */
    VV_BLOCK_HAS_FD = 4,            /* a RAMBlock of a device's memory has the device's descriptor, and its offset in it */
};

/* Below VV_MEM_RAM: the file of the device of that number. From VV_MEM_FILE on: that of a region that has one of its
 * own, VV_MAX_FILES at most. */
enum vv_memory { VV_MEM_RAM = 15, VV_MEM_FILE = 16, VV_MEM_OTHER = 100, VV_MEM_ANONYMOUS = 101 };

static inline bool vv_is_device_memory(u64 memory)
{
    return memory < VV_MAX_DEVICES || (memory >= VV_MEM_FILE && memory < VV_MEM_FILE + VV_MAX_FILES);
}

/* ---- a step, and the fault that fails it -------------------------------------------------------- */

/* The order is part of the wire format; Step in vfio_verify/values/case.py is the same list. */
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
    u64 caller;                     /* the place in the subject that made the call (vv_caller()), or VV_NONE */
};

struct vv_fault   { u64 step, nth, when, error, persistent; };  /* nth counts from 1 */

/* ---- raw system calls, memory and locks of the world's own -------------------------------------- */

static inline void *vv_raw_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
    return (void *)syscall(SYS_mmap, addr, length, prot, flags, fd, offset);
}

static inline int vv_raw_munmap(void *addr, size_t length)
{
    return (int)syscall(SYS_munmap, addr, length);
}

/* Memory of the world's own, which stays; NULL if there is none. */
static inline void *vv_room(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

static inline void vv_spin_lock(char *lock)
{
    while (__atomic_test_and_set(lock, __ATOMIC_ACQUIRE)) {
        sched_yield();
    }
}

static inline void vv_spin_unlock(char *lock)
{
    __atomic_clear(lock, __ATOMIC_RELEASE);
}

/* ---- the state of a call, of which each thread has its own -------------------------------------- */

/* References that a call took of an object and has not dropped; below 0, it dropped those of others. */
struct vv_reference {
    const void *object;
    int64_t count, lowest;
    u64 taken_at, dropped_at;   /* places: where the last one was taken, and the first of others' dropped */
};

/* Who goes on where several threads call the subject. */
struct vv_scheduler {
    void (*pause)(void);        /* at a step, another thread's call may go on instead of this one */
    u64 (*order)(void);         /* the next place in the order of the steps of all threads */
    void (*died)(void);         /* this thread ends the process */
};

struct vv_call_state {
    bool active;                /* inside a call of the subject */
    const struct vv_scheduler *scheduler;       /* of concurrent calls; NULL: no other thread calls the subject */
    bool holed;                 /* a driver's or the kernel's refusal may have torn what is owned */
    char lock;                  /* of owned, for other threads that read it; taken in concurrent calls only */
    int nested;                 /* above 0: the world acts on the subject's behalf (qemu_ram_mmap) */
    u64 thread;                 /* 0: the process's first */
    const struct vv_fault *faults;
    u64 n_faults;
    u64 counts[VV_STEPS];
    struct vv_event *events;
    u64 *order;                 /* beside each event: its place among the steps of all threads; NULL: not kept */
    struct vv_event spare;
    u64 n_events, max_events, dropped, flags_union;
    struct Error *callers_error;        /* what errp points to */
    u64 error_sets;             /* errors that reached it, kept or not */
    u64 error_at[2];            /* the places where the first two were set */
    struct vv_range owned[512]; /* what the subject reserved and still holds */
    u64 n_owned;
    u64 first_reservation;      /* address, 0 before */
    struct vv_reference references[64];
    u64 n_references;
    u64 read_locks;             /* of RCU, held */
};
/* That of this thread. A pointer, since a module that is loaded late gets little room for thread-local variables
 * that are reached as fast as any others. Threads that a subject starts itself share that of the first thread. */
extern _Thread_local struct vv_call_state *vv_call_state __attribute__((tls_model("initial-exec")));
#define vv_calls (*vv_call_state)

static inline void vv_pause(void)
{
    if (vv_calls.scheduler) {
        vv_calls.scheduler->pause();
    }
}

/* Locks that a call on its own does not need. */
static inline void vv_lock_concurrent(char *lock)
{
    if (vv_calls.scheduler) {
        vv_spin_lock(lock);
    }
}

static inline void vv_unlock_concurrent(char *lock)
{
    if (vv_calls.scheduler) {
        vv_spin_unlock(lock);
    }
}

/* ---- what a worker says of itself while it runs ------------------------------------------------- */

#define VV_FRAMES 24

/* Written by the worker, read by the parent when the worker is gone. */
struct vv_progress {
    u64 pid;
    u64 plan;                   /* being run */
    u64 finished;               /* records complete in the reply */
    u64 reply_bytes;
    u64 in_subject;             /* 1 first call, 2 second call, 0 elsewhere */
    u64 signal, signal_address;
    u64 n_events, reservation;  /* of the run that is not finished */
    u64 iov_end;                /* where the unreadable page after the iovec begins */
    u64 changes;                /* mappings of the harness that changed during the request */
    u64 note_bytes;
    char note[936];
    u64 error_at[2];            /* of the run that is not finished */
    u64 frames_told;            /* the parent's question is answered */
    u64 n_frames;
    u64 frames[VV_FRAMES];      /* places in the subject where the process ended, innermost first */
    u64 code;                   /* enum vv_death */
};
extern struct vv_progress *vv_progress;
void vv_progress_begin(void);   /* a request begins: nothing of it is done */

/* ---- where.c: places in the subject's code, relative to its library ----------------------------- */

void vv_where_loaded(const void *entry);     /* the subject, by its entry */

/* Signals that end a process, or ask where it is; once a worker, before its subject is loaded. */
void vv_where_arm(void (*on_end)(int, siginfo_t *, void *));

#define VV_COVERED_BYTES (1u << 20)          /* of a subject's library: a byte for each place, behind the replies */
extern uint8_t *vv_covered;                  /* NULL: nobody wants to know */

u64 vv_caller(void);                         /* the place that called the world; VV_NONE if it is not known */
void vv_where_ended(const void *context);    /* leaves the frames for the parent; the context of a signal, or NULL */
void vv_where_give_up(void);                 /* in a signal's handler; does not return where that raised it */

/* ---- die.c -------------------------------------------------------------------------------------- */

void vv_ends(const void *context);  /* leaves for the parent where this process ends; a signal's context, or NULL */

/* The subject did what ends a QEMU process (abort, assertion, error set twice...). The text is left for the parent, and
 * the process dies by SIGABRT. */
_Noreturn void vv_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, for what a judge asks for. */
enum vv_death { VV_DEATH_ERROR_SET_TWICE = 1, VV_DEATH_ASSERTION = 2 };
_Noreturn void vv_die_of(enum vv_death code, const char *format, ...) __attribute__((format(printf, 2, 3)));
