/*
 * Which kind of request it is.
 *
 * SPDX-License-Identifier: MIT
 */
#include "plans.h"
#include "request.h"
#include "run/run.h"
#include "session.h"
#include "threads/threads.h"

int64_t vv_run_request(const u64 *request, u64 request_bytes, uint8_t *reply, u64 capacity)
{
    const u64 magic = request_bytes < sizeof(u64) ? 0 : *request;

    vv_arm_signals();
    if (magic == VV_SESSION_MAGIC && request_bytes >= sizeof(struct vv_request)) {
        return vv_session_request(request, request_bytes, reply, capacity);
    }
    vv_session_end();
    return (magic == VV_THREADS_MAGIC ? vv_run_threads : vv_run_plans)(request, request_bytes, reply, capacity);
}
