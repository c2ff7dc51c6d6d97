/*
 * What can be read in a mapping, held against the memory that its segments name.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include <setjmp.h>
#include <signal.h>
#include "base/layout.h"

enum vv_difference_kind {
    VV_UNEQUAL = 1,             /* what is read differs from the memory the segment names */
    VV_DEVICE_UNSEEN,           /* a change made through the device is not seen */
    VV_GUEST_UNSEEN,            /* a change made through the guest's mapping is not seen */
    VV_UNREADABLE,              /* reading raised a signal */
    VV_STILL_READABLE,          /* the device's memory is gone, and this can be read */
};

struct vv_difference { u64 kind, segment, offset, expected, seen; };

#define VV_COMPARED_PAGES 32768             /* at most, in one look at a mapping */

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
