/*
 * The words that all else is written in, and pages.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t u64;

#define VV_EXPORT __attribute__((visibility("default")))
#define VV_NONE UINT64_MAX          /* "no such thing" wherever a position is expected */

struct vv_range { u64 start, end; };

extern u64 vv_page_size;            /* this machine's */
extern u64 vv_host_page;            /* the subject's, which may be larger */

static inline u64 page_up(u64 bytes) { return (bytes + vv_host_page - 1) & ~(vv_host_page - 1); }
static inline u64 own_page_up(u64 bytes) { return (bytes + vv_page_size - 1) & ~(vv_page_size - 1); }
static inline u64 own_page_down(u64 bytes) { return bytes & ~(vv_page_size - 1); }
