/*
 * The system calls of a subject.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include <stdio.h>
#include <sys/types.h>

#include "base/base.h"

/* ---- steps.c: counted, recorded, failed --------------------------------------------------------- */

/*
 * Begins a step: count it, append it to the trace, and decide its fate. Never allocates; when the
 * trace is full the event is counted and its record dropped (the returned pointer is then a spare).
 * If the fault plan fails this step, event->error is the errno to report and VV_FAULTED is set; a
 * look-up that has no errno of its own (no RAMBlock, say) just fails.
 */
struct vv_event *vv_begin(enum vv_step step, u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5);

/* Finishes it: what was returned, and the errno that goes with it (0 for success). */
void vv_end(struct vv_event *event, u64 result, int error);
int vv_finish(struct vv_event *event, int result, int error);    /* the same, with errno left; returns the result */

void vv_calls_begin(struct vv_event *events, u64 max_events, const struct vv_fault *faults, u64 n_faults);
void vv_calls_again(void);      /* a second call in the same run: keep what is held, no faults, no trace */

void vv_refer(const void *object, int change);  /* +1, -1: a reference that the subject takes or drops */
void vv_read_lock(int change);                  /* the same for RCU's read lock */

/* ---- owned.c: what the subject reserved and still holds ----------------------------------------- */

u64 vv_owned_bytes(u64 address, u64 length);        /* how many bytes from address on are held, at most length */
void vv_own(u64 start, u64 end);
void vv_disown(u64 start, u64 end);                 /* the lock is held, if calls are concurrent */
u64 vv_owned_pages(void);                           /* of this machine's own size, in all */
void vv_tear(bool now);                             /* what is owned may have holes that the subject did not make */

/* Other threads look at what a call owns, and map memory: what is given up is unmapped and disowned at once. */
int vv_unmap_owned(u64 start, u64 bytes);           /* 0, or an errno */
void vv_unmap_owned_within(u64 start, u64 end);     /* which may be several pieces */
void vv_release_owned(void);                        /* all that the subject still holds */

/* ---- mappings.c: made for the subject, and by the world on its behalf --------------------------- */

void *vv_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
int vv_munmap(void *addr, size_t length);
int vv_mprotect(void *addr, size_t length, int prot);
void *vv_mremap(void *addr, size_t old_length, size_t new_length, int flags, void *new_addr);
int vv_madvise(void *addr, size_t length, int advice);

/* ---- files.c ------------------------------------------------------------------------------------ */

int vv_dup(int fd);
int vv_dup_as(long number, int fd, int target, int flags);  /* by that system call; target -1: the kernel chooses */
int vv_close(int fd);
int vv_close_range(unsigned int first, unsigned int last, int flags);
int vv_fclose(FILE *stream);
int vv_openat(int directory, const char *path, int flags, mode_t mode);
int vv_fcntl(int fd, int command, long value);

/* ---- rules.c: what a device's driver refuses to map --------------------------------------------- */

bool vv_is_device(int fd, u64 *memory);     /* whether it is the file of a device or of a region of one, and which */

/* vfio-pci's own mmap step: the region's length, rounded up to a page, bounds the mapping. Drivers that are stricter
 * also refuse what lies outside the areas: those of the sparse capability, or the pages of the MSI-X table, as before
 * Linux 4.16. An ordinary file, which a vfio-user server shares, refuses nothing. */
bool vv_device_refuses(u64 memory, u64 offset, u64 length, int flags);

/* ---- kernel_faults.c: failures that the kernel itself makes ------------------------------------- */

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

void vv_kernel_init(void);      /* once a process tree, before it may be confined */
int vv_kernel_prepare(u64 kind, u64 at, u64 n_segments);    /* before a layout is built; 0 or -1 with errno */
void vv_kernel_before_call(void);
void vv_kernel_before_mmap(u64 nth);        /* the subject's nth, which is counted already */
void vv_kernel_after_call(void);            /* takes away what can be, before anything is looked at */
int vv_kernel_finish(void);                 /* after a request; 0, or -1 with errno if any of it failed */
bool vv_kernel_refuses(int fd);             /* whether a descriptor does not get as far as the device's rules */
bool vv_kernel_made(enum vv_step step, int error);  /* whether this is the failure that was set up */
