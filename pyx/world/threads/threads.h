/*
 * Concurrent calls in one layout, each by a thread of its own.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/base.h"

int64_t vv_run_threads(const u64 *request, u64 request_bytes, uint8_t *reply, u64 reply_capacity);
