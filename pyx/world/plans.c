/*
 * For each fault plan one record goes into the reply, after a head.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>

#include "base/base.h"
#include "memory/memory.h"
#include "observe/observe.h"
#include "plans.h"
#include "run/run.h"
#include "steps/steps.h"

int64_t vv_run_plans(const u64 *bytes, u64 request_bytes, uint8_t *reply, u64 capacity)
{
    struct vv_cursor cursor = {bytes + sizeof(struct vv_request) / sizeof(u64), bytes + request_bytes / sizeof(u64)};
    const struct vv_request *request = (const struct vv_request *)bytes;
    struct vv_layout layout;
    struct vv_plan plan;
    uint8_t *at = reply;
    u64 i;

    if (request_bytes < sizeof(*request) || request->magic != VV_REQUEST_MAGIC
        || request->kernel_kind >= VV_KERNEL_KINDS || !vv_read_layout(request, &cursor, &layout)) {
        errno = EBADMSG;
        return -1;
    }
    if (capacity < vv_head_bytes(layout.n_blocks)) {
        errno = ENOBUFS;
        return -1;
    }
    vv_progress_begin();
    if (vv_kernel_prepare(request->kernel_kind, request->kernel_at, layout.iovec.n) < 0) {
        return VV_UNFIT;
    }
    if (vv_build_world(&layout, request->kernel_kind == VV_HUGETLB ? VV_HUGE_BYTES : layout.page_size) < 0) {
        return -1;
    }
    plan = (struct vv_plan){
        .twice = request->flags & VV_TWICE,
        .scope = {.iovec = &vv_world.layout.iovec, .max_runs = VV_MAX_VMAS},
    };
    /* What stands in huge pages cannot be written beforehand: there may be none. Their places tell enough. */
    plan.scope.compare = vv_comparable(&layout, &layout.iovec) && request->kernel_kind != VV_HUGETLB;
    if (plan.scope.compare) {
        vv_stamp_iovec(&layout.iovec);
    }
    at += vv_put_head((u64 *)(void *)reply);
    vv_observe_refresh(request->flags & VV_PARSE_MAPS);
    vv_snapshot_take();
    vv_fds_begin();
    for (i = 0; i < request->n_plans; i++) {
        struct vv_record *record = (struct vv_record *)at;
        const u64 room_left = capacity - (u64)(at - reply);
        const u64 *n_faults = vv_take(&cursor, 1, sizeof(u64));

        plan.n_faults = n_faults ? *n_faults : 0;
        plan.faults = vv_take(&cursor, plan.n_faults, sizeof(*plan.faults));
        if (!n_faults || !plan.faults) {
            errno = EBADMSG;
            return -1;
        }
        if (room_left < sizeof(*record) + (VV_MAX_VMAS + VV_MAX_STRAYS) * sizeof(struct vv_vma) + (1u << 20)) {
            break;              /* the parent asks again for what is missing */
        }
        vv_progress->plan = i;
        vv_progress->n_events = vv_progress->reservation = 0;
        vv_progress->error_at[0] = vv_progress->error_at[1] = VV_NONE;
        vv_run_plan(record, room_left, &plan);
        if (record->events_dropped && i) {
            break;              /* alone in a reply its trace has room */
        }
        at += record->bytes;
        vv_progress->finished = i + 1;
        vv_progress->reply_bytes = (u64)(at - reply);
        if (record->left) {
            break;              /* what follows belongs into another process */
        }
    }
    vv_progress->changes = vv_snapshot_changes();
    if (vv_kernel_finish() < 0) {
        vv_progress->finished = vv_progress->reply_bytes = 0;
        return VV_UNFIT;
    }
    return at - reply;
}
