/*
 * Calls and what happens between them, in one world whose mappings live on.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/base.h"

enum vv_session_flags {
    VV_FIRST = 1 << 16,         /* begin: make the layout real */
    VV_LAST = 2 << 16,          /* end: release everything after these actions */
};

/* A session's request is a struct vv_request of its own magic, without segments, whose n_plans counts the
 * actions that follow. Without VV_FIRST there is no layout in it, and the session that is open goes on. */
enum vv_action_kind { VV_CALL, VV_END, VV_CHANGE, VV_DROP, VV_FORK };

/* call: segments, total, faults, then the arrays. end: the call. change: block, offset. drop: block. */
struct vv_action { u64 kind, a, b, c; };

/* The address space after an action. A call's struct vv_record stands before it. */
struct vv_look {
    u64 bytes;                  /* of this struct and all that follows it */
    u64 done;                   /* 0: there was nothing to do it to, or it was refused */
    u64 error;                  /* errno of what was refused */
    u64 left;                   /* runs of pages where a mapping was ended */
    u64 child;                  /* of a fork: 0 where every mapping was whole, else 1 + the call of one that was not */
    u64 pages;                  /* of the process */
    u64 n_mappings;
    /* for each mapping: */
};

struct vv_mapping_look {
    u64 call, address, n_vmas, n_differences, pages_compared, pages_total;
    /* followed by vmas, relative to the address, and differences */
};

int64_t vv_session_request(const u64 *request, u64 request_bytes, uint8_t *reply, u64 reply_capacity);
void vv_session_end(void);                  /* release what an open session holds, if there is one */
