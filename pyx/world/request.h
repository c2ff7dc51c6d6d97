/*
 * Requests of all kinds.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/base.h"

/* Runs one in this process, on its subject. The bytes of the reply, or a negative number: -1 with errno, or as
 * plans.h. */
int64_t vv_run_request(const u64 *request, u64 request_bytes, uint8_t *reply, u64 reply_capacity);
