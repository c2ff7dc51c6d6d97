/*
 * What is seen of the process and of its memory.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

#include "base/base.h"

/* ---- maps.c: what the kernel says of the address space ------------------------------------------ */

enum vv_vma_flags { VV_READ = 1, VV_WRITE = 2, VV_EXEC = 4, VV_SHARED = 8 };

/* A run of pages with one backing; neighbours that continue each other are merged. */
struct vv_vma {
    u64 start, end;             /* absolute here, relative to the record's base on the wire */
    u64 flags, memory, offset;
};

int vv_observe_init(void);                  /* once a process, after fork */
bool vv_observe_parses(void);               /* whether the text of /proc/self/maps is used */
void vv_observe_refresh(bool parse);        /* forget what was read; parse: use the text of /proc/self/maps */
bool vv_vma_at_or_after(u64 address, struct vv_vma *vma);    /* absolute; false: none */
u64 vv_observe_range(u64 start, u64 end, struct vv_vma *out, u64 max);  /* merged runs, absolute */
u64 vv_process_pages(void);                 /* total size of this process's mappings, in pages */

/* Through which files the process is seen; a subject may put others in their place. */
enum vv_proc { VV_PROC_MAPS, VV_PROC_STATM, VV_PROCS };
extern int vv_proc_fd[VV_PROCS];

void vv_snapshot_take(void);                /* every mapping of the process outside the arena */
u64 vv_snapshot_changes(void);              /* how many differ now */
void vv_snapshot_leave_out(struct vv_range range);  /* what the world itself changes, besides the arena */

/* ---- contents.c: what can be read in a mapping, held against the memory that its segments name ---- */

enum vv_difference_kind {
    VV_UNEQUAL = 1,             /* what is read differs from the memory the segment names */
    VV_DEVICE_UNSEEN,           /* a change made through the device is not seen */
    VV_GUEST_UNSEEN,            /* a change made through the guest's mapping is not seen */
    VV_UNREADABLE,              /* reading raised a signal */
    VV_STILL_READABLE,          /* the device's memory is gone, and this can be read */
};

struct vv_difference { u64 kind, segment, offset, expected, seen; };

#define VV_COMPARED_PAGES 32768             /* at most, in one look at a mapping */
#define VV_SAMPLED_PAGES 4096               /* of a mapping that has more */

struct vv_contents {
    struct vv_difference *out;
    u64 max, n;                 /* differences kept; n may exceed max */
    u64 pages_compared, pages_total;
};

/* Only for segments that are page aligned in their blocks: what cannot be overlaid is not compared. */
u64 vv_stamp_iovec(const struct vv_iovec *iovec);   /* stamps the pages that are compared later; their number */
void vv_compare_contents(const struct vv_iovec *iovec, u64 address, bool probe_aliases, struct vv_contents *contents);

/* The guest reads nothing of the device any more, and the same memory cannot be read through the mapping either. */
void vv_compare_gone(const struct vv_iovec *iovec, u64 address, struct vv_contents *contents);

bool vv_change_word(u64 memory, u64 file_offset);   /* the device changes it: its stamp no longer holds */
void vv_restore_words(void);                        /* all words as stamped again */

extern sigjmp_buf vv_probe_escape;                  /* where a signal while reading contents goes */
extern volatile sig_atomic_t vv_probing;

/* ---- descriptors.c: whose a descriptor is ------------------------------------------------------- */

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

/* ---- state.c: what else outlives a call --------------------------------------------------------- */

/* What a call leaves behind in the process, besides memory and descriptors. */
enum vv_left { VV_LEFT_THREAD = 1, VV_LEFT_CHILD = 2, VV_LEFT_TIMER = 4 };

/* What a worker says of its process after a request. */
enum vv_state { VV_STATE_CHANGED = 1, VV_STATE_BLIND = 2 };     /* another than it was; /proc is not seen any more */

int vv_state_open(void);                    /* once a worker, before it is confined; 0 or -1 */
void vv_state_take(void);                   /* when the subject is loaded */
void vv_state_threads_made(void);           /* by the world, and they stay */
u64 vv_state_left(void);                    /* enum vv_left */
u64 vv_state_changes(void);                 /* enum vv_state */
void vv_state_flush_stacks(void);
int vv_start_thread(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);
