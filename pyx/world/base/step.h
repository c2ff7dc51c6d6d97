/*
 * A step: a system call or a look-up of the subject's, counted and recorded; and the fault that fails one.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/types.h"

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
    u64 caller;                     /* the place in the subject that made the call (where.h), or VV_NONE */
};

struct vv_fault   { u64 step, nth, when, error, persistent; };  /* nth counts from 1 */
