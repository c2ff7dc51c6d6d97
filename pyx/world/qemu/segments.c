/*
 * A call for those who do not know QEMU: each segment comes with the memory behind it (vfio_verify.h). No look-up is a
 * step then, and none fails.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>

#include "base/base.h"
#include "memory/memory.h"
#include "qemu/qemu.h"

static struct vfio_verify_segment describe(const struct iovec *entry)
{
    const struct vv_layout *layout = &vv_world.layout;
    const u64 block = vv_block_at((u64)entry->iov_base);
    struct vfio_verify_segment segment = {.base = entry->iov_base, .length = entry->iov_len, .fd = -1};

    if (block != VV_NONE && layout->blocks[block].area != VV_NONE) {
        const u64 offset = (u64)entry->iov_base - (u64)vv_world.block_host[block];
        const struct vv_region *region = &layout->regions[layout->areas[layout->blocks[block].area].region];

        segment.fd = vv_memory_fd(vv_block_memory(block));
        segment.offset = vv_world.block_file_offset[block] + offset;
        segment.available = layout->blocks[block].size - offset;
        segment.device = (uint32_t)region->device;
        segment.region = (uint32_t)region->index;
        segment.block = (uint32_t)block;
    }
    return segment;
}

VV_EXPORT void vv_map_segments(struct vv_call *call, vfio_verify_function *map)
{
    struct vfio_verify_segment *segments = vv_heap_alloc(call->iov_cnt * sizeof(*segments), 16);
    unsigned int i;

    if (!segments) {
        vv_die("uses up the memory that the world has for subjects");
    }
    vv_heap_hide(segments);
    for (i = 0; i < call->iov_cnt; i++) {
        segments[i] = describe(&call->iov[i]);
    }
    call->address = (void *)-1;
    call->mapped = map(segments, call->iov_cnt, call->total_size, &call->address) == 0;
    vv_heap_free(segments);
}
