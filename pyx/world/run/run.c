/*
 * One run. Between the two looks at the address space nothing changes it but the subject: all memory is there before,
 * and records are built in place.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "base/base.h"
#include "memory/memory.h"
#include "observe/observe.h"
#include "qemu/qemu.h"
#include "run/run.h"
#include "steps/steps.h"

static void call_subject(struct vv_call *call)
{
    const struct vv_iovec *iovec = &vv_world.layout.iovec;
    const pid_t caller = getpid();

    vv_fill_iov(vv_world.iov, iovec);
    call->iov = vv_world.iov;
    call->iov_cnt = (unsigned int)iovec->n;
    call->total_size = iovec->total_size;
    call->mapped = 0;
    call->address = NULL;
    vv_qemu_before_call(call);
    vv_progress->in_subject++;
    vv_kernel_before_call();
    vv_calls.active = true;
    vv_subject(call);
    if (getpid() != caller) {
        _exit(0);               /* a child that the subject forked: only its parent answers */
    }
    vv_calls.active = false;
    vv_kernel_after_call();
    vv_progress->in_subject = 0;
}

/* Whether the mapping at an address has the runs of the first one, which are left in vv_first_runs. */
static bool like_first(u64 n_first, u64 first, u64 address, u64 bytes)
{
    const struct vv_vma *a = vv_first_runs, *b = vv_second_runs;
    const u64 n = vv_observe_range(address, address + bytes, vv_second_runs, VV_MAX_VMAS);
    u64 i;

    for (i = 0; n == n_first && i < n; i++) {
        if (a[i].start - first != b[i].start - address || a[i].end - first != b[i].end - address
            || a[i].flags != b[i].flags || a[i].memory != b[i].memory || a[i].offset != b[i].offset) {
            return false;
        }
    }
    return n == n_first;
}

void vv_unmap_as_caller(u64 address, u64 bytes)
{
    vv_calls.active = true;
    vv_munmap((void *)address, bytes);
    vv_calls.active = false;
}

/* The same call again maps a second time, independently of the first; to end that mapping leaves the first whole. */
static void call_twice(struct vv_record *record, struct vv_call *call, u64 n_first, bool compare)
{
    const struct vv_iovec *iovec = &vv_world.layout.iovec;
    const u64 first = record->address, total = iovec->total_size;
    const u64 bytes = vv_visible_bytes(first, total);
    struct vv_difference unused[1];
    struct vv_contents contents = {.out = unused, .max = 1};
    u64 second, gone;

    vv_calls_again();
    vv_fds_before_call();
    vv_progress->in_subject = 1;
    call_subject(call);
    vv_arm_signals();
    second = (u64)call->address;
    record->second_called = 1;
    record->second_flags_union = vv_calls.flags_union | (vv_fds_left(&gone) || gone ? VV_LEFT_OPEN : 0);
    record->second_mapped = (u64)call->mapped;
    record->second_address = second;
    vv_observe_refresh(false);
    if (call->mapped && vv_visible_bytes(second, total)) {
        record->second_like_first = like_first(n_first, first, second, bytes)
                                    && (second >= first + bytes || first >= second + bytes);
        if (compare && record->second_like_first) {
            vv_compare_contents(iovec, second, false, &contents);
            record->second_differences = contents.n;
        }
        if (record->second_like_first) {
            vv_unmap_as_caller(second, total);
        }
    }
    vv_observe_refresh(false);
    record->first_whole_after = like_first(n_first, first, first, bytes);
    if (compare && record->first_whole_after) {
        contents.n = 0;
        vv_compare_contents(iovec, first, false, &contents);
        record->first_differences_after = contents.n;
    }
}

void vv_run_plan(struct vv_record *record, u64 capacity, const struct vv_plan *plan)
{
    /* What follows the events is known in size beforehand, but for the runs: at most as many again. */
    const u64 rest = sizeof(*record) + (VV_MAX_VMAS + VV_MAX_STRAYS) * sizeof(struct vv_vma)
                     + VV_MAX_DIFFERENCES * sizeof(struct vv_difference) + VV_MESSAGE_BYTES;
    const u64 total = vv_world.layout.iovec.total_size;
    const u64 n_owned = plan->keep ? vv_calls.n_owned : 0;
    struct vv_event *events = (struct vv_event *)(record + 1);
    struct vv_call call = {0};
    u64 n_runs, held;

    memset(record, 0, sizeof(*record));
    vv_heap_reset();
    vv_calls_begin(events, capacity > rest ? (capacity - rest) / sizeof(*events) : 0, plan->faults, plan->n_faults);
    vv_calls.n_owned = n_owned;
    held = vv_owned_pages();
    vv_observe_refresh(false);
    vv_fds_before_call();
    record->pages_before = vv_process_pages();

    call_subject(&call);

    record->left = vv_state_left();     /* before the pages: a thread that is just ending has a stack */
    record->pages_after = vv_process_pages();
    if (record->pages_after - record->pages_before != vv_owned_pages() - held) {
        vv_state_flush_stacks();
        record->pages_after = vv_process_pages();
    }
    record->fds_left = vv_fds_left(&record->fds_gone);
    vv_arm_signals();
    vv_observe_refresh(false);
    n_runs = vv_record_call(record, &call, &plan->scope);
    vv_heap_report(&record->heap);
    record->heap_at = record->heap.live ? vv_heap_at() : VV_NONE;
    record->free_at = vv_heap_free_at();

    if (record->mapped && plan->twice && !plan->n_faults && !vv_kernel.kind
        && vv_visible_bytes(record->address, total)) {
        call_twice(record, &call, n_runs, plan->scope.compare && !record->n_differences);
    }
    if (!plan->keep) {
        vv_release_owned();
        if (record->fds_left || record->second_called) {
            vv_fds_release();
        }
    }
    record->pages_end = vv_process_pages();
}
