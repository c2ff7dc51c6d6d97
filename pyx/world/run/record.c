/*
 * What is told of a call. Records are built in place.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "base/base.h"
#include "memory/memory.h"
#include "run/run.h"
#include "steps/steps.h"

struct vv_vma *vv_first_runs, *vv_second_runs;

int vv_record_init(void)
{
    if (!vv_first_runs) {
        vv_first_runs = vv_room(VV_MAX_VMAS * sizeof(*vv_first_runs));
        vv_second_runs = vv_room(VV_MAX_VMAS * sizeof(*vv_second_runs));
    }
    return vv_first_runs && vv_second_runs ? 0 : -1;
}

u64 vv_visible_bytes(u64 address, u64 total)
{
    const u64 bytes = page_up(total);

    return address % vv_page_size == 0 && bytes >= total && address + bytes >= address && address + bytes < 1ull << 56
           && !vv_memory_in_arena(address) ? bytes : 0;
}

u64 vv_part_end(u64 at, u64 end, struct vv_range own, const struct vv_scope *scope, bool *returned)
{
    u64 i;

    *returned = false;
    for (i = 0; i <= scope->n_kept; i++) {
        const struct vv_range range = i < scope->n_kept ? scope->kept[i] : own;

        if (at >= range.start && at < range.end) {
            *returned = true;
            return range.end < end ? range.end : end;
        }
        if (range.start > at && range.start < end) {
            end = range.start;
        }
    }
    return end;
}

/* What the subject holds outside the mapping that it returned, and outside those kept. */
static u64 find_strays(struct vv_vma *out, struct vv_range own, const struct vv_scope *scope)
{
    u64 i, at, next, n = 0;
    bool returned;

    for (i = 0; i < vv_calls.n_owned && n < VV_MAX_STRAYS; i++) {
        for (at = vv_calls.owned[i].start; at < vv_calls.owned[i].end && n < VV_MAX_STRAYS; at = next) {
            next = vv_part_end(at, vv_calls.owned[i].end, own, scope, &returned);
            if (!returned) {
                n += vv_observe_range(at, next, out + n, VV_MAX_STRAYS - n);
            }
        }
    }
    return n;
}

/* Copies runs into the record, relative to its base. */
static uint8_t *put_vmas(const struct vv_record *record, uint8_t *at, const struct vv_vma *vmas, u64 n)
{
    struct vv_vma *out = (struct vv_vma *)at;
    u64 i;

    for (i = 0; i < n; i++) {
        out[i] = vmas[i];
        out[i].start -= record->base;
        out[i].end -= record->base;
    }
    return at + n * sizeof(*vmas);
}

static void record_references(struct vv_record *record)
{
    u64 i;

    record->references_kept = record->references_dropped = 0;
    record->read_locks = vv_calls.read_locks;
    record->reference_at = VV_NONE;
    for (i = 0; i < vv_calls.n_references; i++) {
        const struct vv_reference *reference = &vv_calls.references[i];

        record->references_kept += (u64)(reference->count > 0 ? reference->count : 0);
        record->references_dropped += (u64)-reference->lowest;
        if (record->reference_at == VV_NONE && (reference->count > 0 || reference->lowest < 0)) {
            record->reference_at = reference->lowest < 0 ? reference->dropped_at : reference->taken_at;
        }
    }
}

u64 vv_record_call(struct vv_record *record, struct vv_call *call, const struct vv_scope *scope)
{
    struct vv_event *events = (struct vv_event *)(record + 1);
    struct vv_difference differences[VV_MAX_DIFFERENCES];
    struct vv_vma strays[VV_MAX_STRAYS];
    struct vv_contents contents = {.out = differences, .max = VV_MAX_DIFFERENCES};
    const char *message = vv_error_report(call, &record->error, record->error_at);
    u64 visible = 0, n_vmas = 0;
    uint8_t *at;

    record->mapped = (u64)(call->mapped != 0);
    record->address = (u64)call->address;
    record->base = call->mapped ? record->address : vv_calls.first_reservation;
    record->heap_at = record->free_at = VV_NONE;
    if (record->error.length > VV_MESSAGE_BYTES) {
        record->error.length = VV_MESSAGE_BYTES;
    }
    record->n_events = vv_calls.n_events;
    record->events_dropped = vv_calls.dropped;
    record->flags_union = vv_calls.flags_union;
    memcpy(record->counts, vv_calls.counts, sizeof(record->counts));
    record_references(record);
    if (vv_calls.events != events) {
        memcpy(events, vv_calls.events, record->n_events * sizeof(*events));
    }

    at = (uint8_t *)(events + record->n_events);
    if (record->mapped) {
        visible = vv_visible_bytes(record->address, scope->iovec->total_size);
        n_vmas = vv_observe_range(record->address, record->address + visible, vv_first_runs, scope->max_runs);
        if (scope->compare && visible && vv_kernel.kind == VV_TRUNCATED) {
            vv_compare_gone(scope->iovec, record->address, &contents);
        } else if (scope->compare && visible) {
            vv_compare_contents(scope->iovec, record->address, true, &contents);
        }
    }
    record->n_strays = find_strays(strays, (struct vv_range){record->base, record->base + visible}, scope);
    at = put_vmas(record, at, vv_first_runs, n_vmas);
    at = put_vmas(record, at, strays, record->n_strays);
    record->n_vmas = n_vmas;
    record->n_differences = contents.n < VV_MAX_DIFFERENCES ? contents.n : VV_MAX_DIFFERENCES;
    record->pages_compared = contents.pages_compared;
    record->pages_total = contents.pages_total;
    memcpy(at, differences, record->n_differences * sizeof(*differences));
    at += record->n_differences * sizeof(*differences);
    memcpy(at, message, record->error.length);
    at += (record->error.length + 7) & ~7ull;
    record->bytes = (u64)(at - (uint8_t *)record);
    return n_vmas;
}
