/*
 * One layout, and the fault plans under which the subject is to be called on it.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/base.h"

/* The bytes of the reply; -1 with errno, or VV_UNFIT: the kernel fault cannot be set up here, or not be taken away. */
int64_t vv_run_plans(const u64 *request, u64 request_bytes, uint8_t *reply, u64 reply_capacity);
#define VV_UNFIT (-3)
