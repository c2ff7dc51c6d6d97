/*
 * Requests read, and the head of a reply written.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/base.h"
#include "memory/memory.h"
#include "run/run.h"

const void *vv_take(struct vv_cursor *cursor, u64 count, size_t size)
{
    const void *here = cursor->at;

    if (count > (u64)(cursor->end - cursor->at) / (size / sizeof(u64))) {
        return NULL;
    }
    cursor->at += count * (size / sizeof(u64));
    return here;
}



#define TAKE(field, limit)                                                                      \
    ((layout->n_##field = request->n_##field) <= (limit)                                       \
     && (layout->field = vv_take(cursor, layout->n_##field, sizeof(*layout->field))) != NULL)

bool vv_read_iovec(struct vv_cursor *cursor, u64 n_blocks, u64 n, u64 total_size, struct vv_iovec *iovec)
{
    const struct vv_segment *segments = n <= VV_MAX_SEGMENTS ? vv_take(cursor, n, sizeof(*segments)) : NULL;
    u64 i;

    *iovec = (struct vv_iovec){segments, n, total_size};
    for (i = 0; segments && i < n; i++) {
        if (segments[i].block != VV_NONE && segments[i].block >= n_blocks) {
            return false;
        }
    }
    return segments;
}

/* The parent checks a case before it sends it; this guards the harness against its own mistakes. */
bool vv_read_layout(const struct vv_request *request, struct vv_cursor *cursor, struct vv_layout *layout)
{
    u64 i;

    layout->null_errp = request->null_errp;
    layout->kernel_rules = request->kernel_rules;
    layout->page_size = request->page_size;
    layout->conventions = request->conventions;
    layout->zeroed = request->flags & VV_ZEROED;
    if (layout->page_size % vv_page_size || !layout->page_size || (layout->page_size & (layout->page_size - 1))) {
        return false;
    }
    if (!TAKE(devices, VV_MAX_DEVICES) || !TAKE(regions, VV_MAX_REGIONS) || !TAKE(areas, VV_MAX_AREAS)
        || !TAKE(blocks, VV_MAX_BLOCKS)
        || !vv_read_iovec(cursor, layout->n_blocks, request->n_segments, request->total_size, &layout->iovec)) {
        return false;
    }
    for (i = 0; i < layout->n_regions; i++) {
        if (layout->regions[i].device >= layout->n_devices || !vv_is_device_memory(layout->regions[i].memory)) {
            return false;
        }
    }
    for (i = 0; i < layout->n_areas; i++) {
        if (layout->areas[i].region >= layout->n_regions) {
            return false;
        }
    }
    for (i = 0; i < layout->n_blocks; i++) {
        if (layout->blocks[i].area != VV_NONE && layout->blocks[i].area >= layout->n_areas) {
            return false;
        }
    }
    return true;
}

bool vv_comparable(const struct vv_layout *layout, const struct vv_iovec *iovec)
{
    u64 i;

    for (i = 0; i < iovec->n; i++) {
        const struct vv_segment *s = &iovec->segments[i];

        if (s->block == VV_NONE || s->offset % vv_host_page || !s->length
            || (s->length % vv_host_page && i + 1 < iovec->n)
            || s->offset > layout->blocks[s->block].size
            || s->length > layout->blocks[s->block].size - s->offset) {
            return false;
        }
    }
    return iovec->n > 0;
}

u64 vv_put_head(u64 *reply)
{
    const u64 n_blocks = vv_world.layout.n_blocks;
    u64 n = 0, i;

    reply[n++] = n_blocks;
    for (i = 0; i < VV_MEMFDS; i++) {
        reply[n++] = (u64)vv_memfd[i];
    }
    for (i = 0; i < n_blocks; i++) {
        reply[n++] = (u64)vv_world.block_host[i];
    }
    vv_progress->reply_bytes = n * sizeof(*reply);
    return n * sizeof(*reply);
}
