/*
 * The Error of the caller.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/types.h"
#include "vfio_verify/call.h"

struct Error **vv_error_slot(void);             /* of the call that begins; emptied */

struct vv_error_report {
    u64 given;                      /* errp was not NULL */
    u64 left;                       /* *errp is set */
    u64 sets;                       /* how many errors reached the caller's errp, set or propagated there */
    u64 length;                     /* of the message, without NUL */
};

/*
 * Returns the message, valid until the next call, and the places where the first two errors were set, or VV_NONE.
 *
 * Errors count that were cleared again, and those that error_propagate() dropped because there was one already. One that
 * stays in a local Error does not count: it shows as a leak when it is not freed.
 */
const char *vv_error_report(const struct vv_call *call, struct vv_error_report *report, u64 at[2]);
