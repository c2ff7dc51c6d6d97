/*
 * What a subject reserved and still holds.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>

#include "base/base.h"
#include "steps/steps.h"

#define MOST_OWNED (sizeof(vv_calls.owned) / sizeof(*vv_calls.owned))

static const struct vv_range *owner(u64 address)
{
    u64 i;

    for (i = 0; i < vv_calls.n_owned; i++) {
        if (address >= vv_calls.owned[i].start && address < vv_calls.owned[i].end) {
            return &vv_calls.owned[i];
        }
    }
    return NULL;
}

u64 vv_owned_bytes(u64 address, u64 length)
{
    u64 done = 0;

    while (done < length) {
        const struct vv_range *range = owner(address + done);
        if (!range) {
            break;
        }
        done = range->end - address;
    }
    return done < length ? done : length;
}

u64 vv_owned_pages(void)
{
    u64 bytes = 0, i;

    for (i = 0; i < vv_calls.n_owned; i++) {
        bytes += vv_calls.owned[i].end - vv_calls.owned[i].start;
    }
    return bytes / vv_page_size;
}

void vv_tear(bool now)
{
    vv_lock_concurrent(&vv_calls.lock);
    vv_calls.holed = now;
    vv_unlock_concurrent(&vv_calls.lock);
}

void vv_disown(u64 start, u64 end)
{
    u64 i;

    for (i = 0; i < vv_calls.n_owned; i++) {
        struct vv_range *range = &vv_calls.owned[i];

        if (end <= range->start || start >= range->end) {
            continue;
        }
        if (start > range->start && end < range->end) {
            if (vv_calls.n_owned == MOST_OWNED) {
                vv_die("the subject tore its reservation into more than %zu pieces", MOST_OWNED);
            }
            vv_calls.owned[vv_calls.n_owned++] = (struct vv_range){end, range->end};
            range->end = start;
        } else if (start > range->start) {
            range->end = start;
        } else if (end < range->end) {
            range->start = end;
        } else {
            *range = vv_calls.owned[--vv_calls.n_owned];
            i--;
        }
    }
}

void vv_own(u64 start, u64 end)
{
    u64 i;

    vv_lock_concurrent(&vv_calls.lock);
    vv_disown(start, end);
    if (!vv_calls.first_reservation) {
        vv_progress->reservation = vv_calls.first_reservation = start;
    }
    for (i = 0; i < vv_calls.n_owned; i++) {        /* many small mappings side by side are one range */
        struct vv_range *range = &vv_calls.owned[i];

        if (range->end == start || range->start == end) {
            start = range->start < start ? range->start : start;
            end = range->end > end ? range->end : end;
            *range = vv_calls.owned[--vv_calls.n_owned];
            i--;
        }
    }
    if (vv_calls.n_owned == MOST_OWNED) {
        vv_die("the subject holds more than %zu separate mappings", MOST_OWNED);
    }
    vv_calls.owned[vv_calls.n_owned++] = (struct vv_range){start, end};
    vv_unlock_concurrent(&vv_calls.lock);
}

int vv_unmap_owned(u64 start, u64 bytes)
{
    int error;

    vv_lock_concurrent(&vv_calls.lock);
    error = vv_raw_munmap((void *)start, bytes) < 0 ? errno : 0;
    if (!error) {
        vv_disown(start, start + bytes);
    }
    vv_unlock_concurrent(&vv_calls.lock);
    return error;
}

void vv_unmap_owned_within(u64 start, u64 end)
{
    u64 at, next, i;

    for (at = start; at < end; at = next) {
        const u64 piece = vv_owned_bytes(at, end - at);

        next = piece ? at + piece : end;
        if (piece) {
            vv_unmap_owned(at, piece);
        }
        for (i = 0; !piece && i < vv_calls.n_owned; i++) {
            if (vv_calls.owned[i].start > at && vv_calls.owned[i].start < next) {
                next = vv_calls.owned[i].start;
            }
        }
    }
}

void vv_release_owned(void)
{
    u64 i;

    for (i = 0; i < vv_calls.n_owned; i++) {
        vv_raw_munmap((void *)vv_calls.owned[i].start, vv_calls.owned[i].end - vv_calls.owned[i].start);
    }
    vv_calls.n_owned = 0;
}
