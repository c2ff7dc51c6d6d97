/*
 * What a subject reserved and still holds.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/types.h"

u64 vv_owned_bytes(u64 address, u64 length);        /* how many bytes from address on are held, at most length */
void vv_own(u64 start, u64 end);
void vv_disown(u64 start, u64 end);                 /* with the lock of the call's state held, if calls are concurrent */
void vv_tear(bool now);                             /* what is owned may have holes that the subject did not make */

/* Other threads look at what a call owns, and map memory: what is given up is unmapped and disowned at once. */
int vv_unmap_owned(u64 start, u64 bytes);           /* 0, or an errno */
void vv_unmap_owned_within(u64 start, u64 end);     /* which may be several pieces */
void vv_release_owned(void);                        /* all that the subject still holds */
