/*
 * What the parts of the world share among themselves, and not with QEMU's names.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VV_INTERNAL_H
#define VV_INTERNAL_H

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/types.h>

#include "world.h"

extern u64 vv_page_size;            /* this machine's; vv_host_page is the subject's, which may be larger */

/* As the subject's kernel rounds, and as this one does. */
static inline u64 page_up(u64 bytes) { return (bytes + vv_host_page - 1) & ~(vv_host_page - 1); }
static inline u64 own_page_up(u64 bytes) { return (bytes + vv_page_size - 1) & ~(vv_page_size - 1); }
static inline u64 own_page_down(u64 bytes) { return bytes & ~(vv_page_size - 1); }

/* ---- the wire: all fields are 64 bits wide; vfio_verify/worker/wire.py mirrors it --------------------- */

#define VV_REQUEST_MAGIC 0x3171657276696676ull      /* "vfivreq1" */
#define VV_THREADS_MAGIC 0x3171726874696676ull      /* "vfithrq1" */

enum vv_request_flags {
    VV_TWICE = 1,               /* call again after a success without faults (REPEATABLE) */
    VV_PARSE_MAPS = 2,          /* do not use PROCMAP_QUERY, even where the kernel has it */
    VV_BARE = 4,                /* observe nothing but the outcome (for benchmarks) */
    VV_KEEP = 8,                /* what the call maps lives on (a session's) */
    VV_ZEROED = 16,             /* the subject as it is built with automatic variables that are zero until they are set */
};

struct vv_request {
    u64 magic, flags;
    u64 n_devices, n_regions, n_areas, n_blocks, n_segments, n_plans;
    u64 total_size, null_errp;
    u64 kernel_kind, kernel_at;     /* enum vv_kernel_kind; before which mmap, 0: before the call */
    u64 kernel_rules;               /* enum vv_kernel_rules */
    u64 page_size;                  /* the subject's */
    /* followed by the arrays in that order, then each plan: its number of faults, its faults */
};

/* Below VV_MEM_RAM: the file of the device of that number. From VV_MEM_FILE on: that of a region that has one of its own,
 * VV_MAX_FILES at most. */
enum vv_memory { VV_MEM_RAM = 15, VV_MEM_FILE = 16, VV_MEM_OTHER = 100, VV_MEM_ANONYMOUS = 101 };

static inline bool vv_is_device_memory(u64 memory)
{
    return memory < VV_MAX_DEVICES || (memory >= VV_MEM_FILE && memory < VV_MEM_FILE + VV_MAX_FILES);
}

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
    u64 left;                   /* enum vv_left */
    u64 error_at[2];            /* places in the subject: where the caller's errors were set, VV_NONE if nowhere */
    u64 heap_at;                /* and where the first block was allocated that is not freed */
    u64 free_at;                /* and where what is not the subject's to free was freed */
    u64 fds_left, fds_gone;     /* descriptors that were not open before, and others' that are not open any more */
    u64 references_kept, references_dropped, read_locks;    /* of objects; dropped: that were not the subject's */
    u64 reference_at;           /* and where the first of them was taken, or dropped */
    /* followed by events, vmas, strays, differences, message (padded to 8) */
};

/* What a call leaves behind in the process, besides memory and descriptors. */
enum vv_left { VV_LEFT_THREAD = 1, VV_LEFT_CHILD = 2, VV_LEFT_TIMER = 4 };

/* ---- sessions: calls and what happens between them, in one world whose mappings live on ---------- */

#define VV_SESSION_MAGIC 0x3173736573766676ull      /* "vfvsess1" */

enum vv_session_flags {
    VV_FIRST = 1 << 16,         /* begin: make the layout real */
    VV_LAST = 2 << 16,          /* end: release everything after these actions */
};

/* A session's request is a struct vv_request of its own magic, without segments, whose n_plans counts the
 * actions that follow. Without VV_FIRST there is no layout in it, and the session that is open goes on. */
enum vv_action_kind { VV_CALL, VV_END, VV_CHANGE, VV_DROP, VV_FORK };

/* call: segments, total, faults, then the arrays. end: the call. change: block, offset. drop: block. */
struct vv_action { u64 kind, a, b, c; };

/* The address space after an action. A call's struct vv_record stands before it. */
struct vv_look {
    u64 bytes;                  /* of this struct and all that follows it */
    u64 done;                   /* 0: there was nothing to do it to, or it was refused */
    u64 error;                  /* errno of what was refused */
    u64 left;                   /* runs of pages where a mapping was ended */
    u64 child;                  /* what a forked child found: 0 every mapping whole, else 1 + the call of one that is not */
    u64 pages, lowest_fd;       /* of the process */
    u64 n_mappings;
    /* for each mapping: */
};

struct vv_mapping_look {
    u64 call, address, n_vmas, n_differences, pages_compared, pages_total;
    /* followed by vmas, relative to the address, and differences */
};

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
extern struct vv_progress *vv_progress;      /* progress.c */
void vv_progress_begin(void);                /* a request: nothing of it is done */

/* ---- where.c: places in the subject's code, relative to its library ---------------------------------- */

void vv_where_loaded(const void *entry);     /* the subject, by its entry */
void vv_where_arm(void (*on_end)(int, siginfo_t *, void *));
#define VV_COVERED_BYTES (1u << 20)          /* of a subject's library: a byte for each place, behind the replies */
extern uint8_t *vv_covered;                  /* NULL: nobody wants to know */

u64 vv_caller(void);                         /* the place that called the world; VV_NONE if it is not known */
void vv_where_ended(const void *context);    /* leaves the frames for the parent; the context of a signal, or NULL */
bool vv_where_unwinding(void);               /* a signal now is of vv_where_ended() itself, */
_Noreturn void vv_where_give_up(void);       /* and ends it */

/* ---- memory.c ------------------------------------------------------------------------------------ */

#define VV_MEMFD_BYTES (1ull << 60)
#define VV_HUGE_BYTES (2ull << 20)

int vv_memory_init(void);                            /* once a process tree; 0 or -1 with errno */
void vv_memory_reopen(void);                         /* the memfds with their first flags */
int vv_memory_build(const struct vv_layout *layout); /* map the RAM blocks of a layout */
void *vv_room(size_t bytes);                         /* memory of the world's own, which stays; NULL if there is none */
void vv_memory_of_inode(u64 dev, u64 inode, u64 *memory);
bool vv_memory_in_arena(u64 address);
u64 vv_stamp(u64 memory, u64 file_offset);           /* what the 8-byte word at this place holds */
int vv_stamp_pages(u64 memory, u64 file_offset, u64 n_pages);
int vv_memory_fd(u64 memory);
u64 vv_segment_file_offset(u64 segment, u64 *memory);   /* of its first byte; VV_NONE if in no block */
void vv_fill_iov(void);
void vv_forget_stamps(void);                         /* give back every page of every memfd */
bool vv_room_for_stamps(u64 pages);
void vv_take_segments(const struct vv_segment *segments, u64 n, u64 total_size);    /* another call in the same world */
int vv_drop_block(u64 block);                        /* nothing is mapped at its host address any more */
int vv_memory_use(u64 slot, int fd);                 /* another memfd behind a descriptor number of vv_world.device_fd */
bool vv_slot_in_use(u64 slot);                       /* does the layout have this device, or region with a file? */
u64 vv_block_memory(u64 block);                      /* enum vv_memory */

/* ---- calls.c ------------------------------------------------------------------------------------- */

struct vv_range { u64 start, end; };

/* References that a call took of an object and did not drop yet; less than 0: it dropped other people's. */
struct vv_reference {
    const void *object;
    int64_t count, lowest;
    u64 taken_at, dropped_at;   /* places in the subject: where the last one was taken, and the first of others' dropped */
};

struct vv_call_state {
    bool active;                /* inside a call of the subject */
    bool at_once;               /* other threads call the subject too */
    bool holed;                 /* a driver's or the kernel's refusal may have torn what is owned */
    char lock;                  /* of owned, taken while at_once: threads.c reads it */
    int nested;                 /* what follows is the world's doing */
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

void vv_calls_begin(struct vv_event *events, u64 max_events, const struct vv_fault *faults, u64 n_faults);
void vv_calls_again(void);      /* a second call in the same run: keep what is held, no faults, no trace */
void vv_calls_release(void);    /* unmap all that the subject still holds */

void *vv_raw_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
int vv_raw_munmap(void *addr, size_t length);

/* ---- descriptors.c --------------------------------------------------------------------------- */

void vv_fds_begin(void);                    /* what is open now is not the subject's, until this is called again */
void vv_fds_before_call(void);
u64 vv_fds_left(u64 *gone);                 /* how many are open that were not before the call, and how many are gone */
void vv_fds_release(void);                  /* close all that is the subject's */
u64 vv_fds_open_from(u64 first);            /* the next open one; VV_NONE */
bool vv_fd_is_foreign(int fd);              /* open before, or opened by another thread's call */
int vv_fd_opened(int fd);                   /* by this thread's call; returns it */
void vv_fd_closed(int fd);
void vv_fd_lend(int fd);                    /* the world closes one of its own: the subject may get its number */
void vv_fd_take_back(int fd);               /* before it is open again: what the subject has there moves away */

/* ---- observe.c ----------------------------------------------------------------------------------- */

int vv_observe_init(void);                  /* once a process, after fork */
bool vv_observe_parses(void);               /* is the text of /proc/self/maps used? */
void vv_observe_refresh(bool parse);        /* forget what was read; parse: use the text of /proc/self/maps */
bool vv_vma_at_or_after(u64 address, struct vv_vma *vma);    /* absolute; false: none */
u64 vv_observe_range(u64 start, u64 end, struct vv_vma *out, u64 max);  /* merged runs, absolute */
u64 vv_process_pages(void);                 /* total size of this process's mappings, in pages */
int vv_lowest_free_fd(void);
void vv_observe_files(dev_t *maps_device, ino_t *maps_inode, dev_t *statm_device, ino_t *statm_inode);

#define VV_COMPARED_PAGES 32768             /* at most, in one look at a mapping */
#define VV_MAX_CHANGES 64

struct vv_contents {
    struct vv_difference *out;
    u64 max, n;                 /* differences kept; n may exceed max */
    u64 pages_compared, pages_total;
};
u64 vv_stamp_layout(void);                  /* stamp the pages that vv_compare_contents() looks at; their number */
void vv_compare_contents(u64 address, bool probe_aliases, struct vv_contents *contents);

bool vv_change_word(u64 memory, u64 file_offset);   /* the device changes it: its stamp no longer holds */
void vv_restore_words(void);                        /* all words as stamped again */
void vv_compare_gone(u64 address, struct vv_contents *contents);    /* nothing of the device can be read */

void vv_snapshot_take(void);                /* every mapping of the process outside the arena */
u64 vv_snapshot_changes(void);              /* how many differ now */

/* ---- state.c ------------------------------------------------------------------------------------ */

/* What a worker says of its process after a request. */
enum vv_state { VV_STATE_CHANGED = 1, VV_STATE_BLIND = 2 };     /* another than it was; /proc is not seen any more */

int vv_state_open(void);                    /* once a worker, before it is confined; 0 or -1 */
void vv_state_take(void);                   /* when the subject is loaded */
void vv_state_threads_made(void);           /* by the world, and they stay */
u64 vv_state_left(void);                    /* enum vv_left */
u64 vv_state_changes(void);                 /* enum vv_state */
void vv_state_flush_stacks(void);
int vv_start_thread(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);

/* ---- session.c ----------------------------------------------------------------------------------- */

/* Where the part of [at, end) that begins at `at` ends: with a mapping that was returned, which is `own` or one
 * of the session's, or before the next one. */
u64 vv_part_end(u64 at, u64 end, struct vv_range own, bool *returned);

int64_t vv_session_request(const u64 *request, u64 request_bytes, uint8_t *reply, u64 reply_capacity);
void vv_session_end(void);                  /* release what an open session holds, if there is one */

/* ---- run.c, for all kinds of requests ------------------------------------------------------------ */

struct vv_cursor { const u64 *at, *end; };

const void *vv_take(struct vv_cursor *cursor, u64 count, size_t size);      /* NULL: the request is shorter */
bool vv_read_layout(const struct vv_request *request, struct vv_cursor *cursor, struct vv_layout *layout);
bool vv_comparable(const struct vv_layout *layout);
u64 vv_put_head(u64 *reply, const struct vv_layout *layout);
void vv_arm_signals(void);
void vv_arm_ends(void);                     /* once a worker, before its subject is loaded */

/* The record of a call that has returned, but for what is counted in the whole process. Its events are at
 * record + 1 already, or are copied there. Returns how many runs the mapping has, left in vv_first_runs. */
u64 vv_record_call(struct vv_record *record, struct vv_call *call, u64 max_runs, bool bare, bool compare);
extern struct vv_vma *vv_first_runs;

/* ---- threads.c ----------------------------------------------------------------------------------- */

void vv_threads_pause(void);                /* a place where another thread's call may go on instead; if at_once */
u64 vv_threads_order(void);                 /* the next place in the order of all steps */
void vv_threads_died(void);                 /* this thread ends the process */
void vv_spin_lock(char *lock);
void vv_spin_unlock(char *lock);
int64_t vv_run_threads(const u64 *request, u64 request_bytes, uint8_t *reply, u64 reply_capacity);

/* ---- kernel.c: failures that the kernel itself makes ------------------------------------------------- */

/* The order is part of the wire format: KernelFaultKind in vfio_verify/values/case.py, from 1. */
enum vv_kernel_kind {
    VV_ADDRESS_SPACE = 1, VV_MAP_COUNT, VV_CLOSED_DESCRIPTOR, VV_READ_ONLY_DESCRIPTOR, VV_WRITE_ONLY_DESCRIPTOR,
    VV_SEALED, VV_TRUNCATED, VV_KERNEL_SECCOMP, VV_HUGETLB, VV_KERNEL_KINDS
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
extern vv_entry vv_subject_patterned, vv_subject_zeroed;   /* it, as it is built twice; NULL where it is not */
extern sigjmp_buf vv_probe_escape;          /* where a signal while reading contents goes */
extern volatile sig_atomic_t vv_probing;

u64 vv_visible_bytes(u64 address, u64 total);
void vv_run_plan(struct vv_record *record, u64 capacity, const struct vv_fault *faults, u64 n_faults, u64 flags,
                 bool compare);

int vv_start(void);                         /* memory, signals, progress for this process; 0 or -1 with errno */
int vv_after_fork(void);
int64_t vv_run_request(const u64 *request, u64 request_bytes, uint8_t *reply, u64 reply_capacity);
int vv_serve(int control, int data, void *shared, u64 request_capacity, u64 reply_capacity, const char *library);

#endif
