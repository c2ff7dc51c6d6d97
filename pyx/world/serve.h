/*
 * The process that forks workers.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/base.h"

/* A page of progress, then requests, replies, and what ran. */
#define VV_PROGRESS_BYTES 4096
#define VV_SHARED_BYTES(requests, replies) (VV_PROGRESS_BYTES + (requests) + (replies) + VV_COVERED_BYTES)

/* Returns when the parent is gone, 0, or -1 with errno where a worker cannot be started. `library`: the subject's
 * shared object, or empty for the core. */
int vv_serve(int control, int data, void *shared, u64 request_capacity, u64 reply_capacity, const char *library);
