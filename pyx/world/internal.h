/*
 * What the parts of the world share among themselves, and not with QEMU's names.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VV_INTERNAL_H
#define VV_INTERNAL_H

#include <setjmp.h>
#include <signal.h>

#include "world.h"

extern u64 vv_page_size;

static inline u64 page_up(u64 bytes) { return (bytes + vv_page_size - 1) & ~(vv_page_size - 1); }
static inline u64 page_down(u64 bytes) { return bytes & ~(vv_page_size - 1); }

/* ---- the wire: all fields are 64 bits wide; vfio_verify/wire.py mirrors it --------------------- */

#define VV_REQUEST_MAGIC 0x3171657276696676ull      /* "vfivreq1" */

enum vv_request_flags {
    VV_TWICE = 1,               /* call again after a success without faults (REPEATABLE) */
    VV_PARSE_MAPS = 2,          /* do not use PROCMAP_QUERY, even where the kernel has it */
    VV_BARE = 4,                /* observe nothing but the outcome (for benchmarks) */
};

struct vv_request {
    u64 magic, flags;
    u64 n_devices, n_regions, n_areas, n_blocks, n_segments, n_plans;
    u64 total_size, null_errp;
    u64 kernel_kind, kernel_at;     /* enum vv_kernel_kind; before which mmap, 0: before the call */
    /* followed by the arrays in that order, then each plan: its number of faults, its faults */
};

enum vv_memory { VV_MEM_RAM = 15, VV_MEM_OTHER = 100, VV_MEM_ANONYMOUS = 101 };  /* below: a device's number */
enum vv_vma_flags { VV_READ = 1, VV_WRITE = 2, VV_EXEC = 4, VV_SHARED = 8 };

/* A run of pages with one backing; neighbours that continue each other are merged. */
struct vv_vma {
    u64 start, end;             /* absolute in observe.c, relative to the record's base on the wire */
    u64 flags, memory, offset;
};

enum vv_difference_kind {
    VV_UNEQUAL = 1,             /* what is read differs from the memory the segment names */
    VV_DEVICE_UNSEEN,           /* a change made through the device is not seen */
    VV_GUEST_UNSEEN,            /* a change made through the guest's mapping is not seen */
    VV_UNREADABLE,              /* reading raised a signal */
    VV_STILL_READABLE,          /* the device's memory is gone, and this can be read */
};

struct vv_difference { u64 kind, segment, offset, expected, seen; };

struct vv_record {
    u64 bytes;                  /* of the whole record, arrays included */
    u64 mapped, address;        /* what the subject answered */
    u64 base;                   /* to which the vmas, strays and changes are relative */
    u64 error_given, error_left, error_sets, message_bytes;
    u64 pages_before, pages_after, pages_end;    /* of the process: before, after, when all was released */
    u64 lowest_fd_before, lowest_fd_after;
    u64 heap_live, heap_live_bytes, cached_frees, bad_frees;
    u64 n_events, n_vmas, n_strays, n_differences, events_dropped;
    u64 pages_compared, pages_total;
    u64 flags_union;            /* of all events */
    u64 counts[VV_STEPS];       /* steps begun in the first call */
    u64 second_called, second_mapped, second_address;
    u64 second_like_first, second_differences, first_whole_after, first_differences_after;
    u64 second_flags_union;
    /* followed by events, vmas, strays, differences, message (padded to 8) */
};

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
};
extern struct vv_progress *vv_progress;      /* progress.c */

/* ---- memory.c ------------------------------------------------------------------------------------ */

#define VV_MEMFD_BYTES (1ull << 60)
#define VV_HUGE_BYTES (2ull << 20)

int vv_memory_init(void);                            /* once a process tree; 0 or -1 with errno */
int vv_memory_build(const struct vv_layout *layout); /* map the RAM blocks of a layout */
void vv_memory_of_inode(u64 dev, u64 inode, u64 *memory);
bool vv_memory_in_arena(u64 address);
u64 vv_stamp(u64 memory, u64 file_offset);           /* what the 8-byte word at this place holds */
int vv_stamp_pages(u64 memory, u64 file_offset, u64 n_pages);
int vv_memory_fd(u64 memory);
u64 vv_segment_file_offset(u64 segment, u64 *memory);   /* of its first byte; VV_NONE if in no block */
void vv_fill_iov(void);
void vv_forget_stamps(void);                         /* give back every page of every memfd */
int vv_memory_use(u64 device, int fd);               /* another memfd behind a device's descriptor number */

/* ---- calls.c ------------------------------------------------------------------------------------- */

struct vv_range { u64 start, end; };

struct vv_calls {
    bool active;                /* inside a call of the subject */
    const struct vv_fault *faults;
    u64 n_faults;
    u64 counts[VV_STEPS];
    struct vv_event *events;
    u64 n_events, max_events, dropped, flags_union;
    struct vv_range owned[512]; /* what the subject reserved and still holds */
    u64 n_owned;
    u64 first_reservation;      /* address, 0 before */
    int fds[256];               /* what the subject opened and still holds */
    u64 n_fds;
};
extern struct vv_calls vv_calls;

void vv_calls_begin(struct vv_event *events, u64 max_events, const struct vv_fault *faults, u64 n_faults);
void vv_calls_again(void);      /* a second call in the same run: keep what is held, no faults, no trace */
void vv_calls_release(void);    /* unmap and close all that the subject still holds */

void *vv_raw_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
int vv_raw_munmap(void *addr, size_t length);

/* ---- observe.c ----------------------------------------------------------------------------------- */

int vv_observe_init(void);                  /* once a process, after fork */
bool vv_observe_parses(void);               /* is the text of /proc/self/maps used? */
void vv_observe_refresh(bool parse);        /* forget what was read; parse: use the text of /proc/self/maps */
bool vv_vma_at_or_after(u64 address, struct vv_vma *vma);    /* absolute; false: none */
u64 vv_observe_range(u64 start, u64 end, struct vv_vma *out, u64 max);  /* merged runs, absolute */
u64 vv_process_pages(void);                 /* total size of this process's mappings, in pages */
int vv_lowest_free_fd(void);

struct vv_contents {
    struct vv_difference *out;
    u64 max, n;                 /* differences kept; n may exceed max */
    u64 pages_compared, pages_total;
};
void vv_stamp_layout(void);                 /* stamp the pages that vv_compare_contents() looks at */
void vv_compare_contents(u64 address, bool probe_aliases, struct vv_contents *contents);

void vv_compare_gone(u64 address, struct vv_contents *contents);    /* nothing of the device can be read */

void vv_snapshot_take(void);                /* every mapping of the process outside the arena */
u64 vv_snapshot_changes(void);              /* how many differ now */

/* ---- kernel.c: failures that the kernel itself makes ------------------------------------------------- */

/* The order is part of the wire format: KernelFaultKind in vfio_verify/case.py, from 1. */
enum vv_kernel_kind {
    VV_ADDRESS_SPACE = 1, VV_MAP_COUNT, VV_CLOSED_DESCRIPTOR, VV_READ_ONLY_DESCRIPTOR, VV_WRITE_ONLY_DESCRIPTOR,
    VV_SEALED, VV_TRUNCATED, VV_SECCOMP, VV_HUGETLB, VV_KERNEL_KINDS
};

struct vv_kernel {
    u64 kind, at;               /* kind 0: none */
    bool armed;                 /* it is set up now */
    int error;                  /* errno of a setting up or taking away that failed */
};
extern struct vv_kernel vv_kernel;

void vv_kernel_init(void);      /* once a process, after fork; makes all the descriptors that are needed later */
int vv_kernel_prepare(u64 kind, u64 at, u64 n_segments);    /* before a layout is built; 0 or -1 with errno */
void vv_kernel_before_call(void);
void vv_kernel_before_mmap(u64 nth);        /* the subject's nth, which is counted already */
void vv_kernel_after_call(void);            /* takes away what can be, before anything is looked at */
int vv_kernel_finish(void);                 /* after a request; 0, or -1 with errno if any of it failed */
bool vv_kernel_refuses(int fd);             /* does a descriptor not even get as far as the device's rules? */
bool vv_kernel_made(enum vv_step step, int error);  /* is this the failure that was set up? */
bool vv_kernel_fills(u64 address, u64 *end);        /* in the area that fills the map count, which ends there */

/* ---- run.c, serve.c ---------------------------------------------------------------------------- */

typedef void (*vv_entry)(struct vv_call *call);
extern vv_entry vv_subject;                 /* the subject of this process */
extern sigjmp_buf vv_probe_escape;          /* where a signal while reading contents goes */
extern volatile sig_atomic_t vv_probing;

int vv_start(void);                         /* memory, signals, progress for this process; 0 or -1 with errno */
int vv_after_fork(void);
int64_t vv_run_request(const u64 *request, u64 request_bytes, uint8_t *reply, u64 reply_capacity);
int vv_serve(int control, int data, void *shared, u64 request_capacity, u64 reply_capacity, const char *library);

#endif
