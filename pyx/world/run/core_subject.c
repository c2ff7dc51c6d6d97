/*
 * The core as a subject: its functions come from the extension module vfio_verify._core, its system
 * calls and look-ups go through the world like those of any other.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>

#include "core_calls.h"
#include "memory/memory.h"
#include "run/run.h"
#include "steps/steps.h"
#include "vfio_verify/qemu.h"

static struct vv_core core;

/* The block that holds an address, by the world's own list. */
static int resolve(void *context, uintptr_t address, struct core_block *found)
{
    struct vv_event *event = vv_begin(VV_FIND_BLOCK, address, 0, 0, 0, 0, 0);
    u64 i;

    (void)context;
    if (event->flags & VV_FAULTED) {
        vv_end(event, 0, (int)event->error);
        return (int)event->error;
    }
    i = vv_block_at(address);
    /* Plain RAM is no memory of a device: the core asks for blocks of VFIO regions. */
    if (i == VV_NONE || vv_world.layout.blocks[i].area == VV_NONE) {
        vv_end(event, VV_NONE, EFAULT);
        return EFAULT;
    }
    *found = (struct core_block){
        .host = (uintptr_t)vv_world.block_host[i],
        .length = vv_world.layout.blocks[i].size,
        .fd = vv_memory_fd(vv_block_memory(i)),
        .file_offset = vv_world.block_file_offset[i],
        .id = i,
    };
    vv_end(event, i, 0);
    return 0;
}

static void entry(struct vv_call *call)
{
    const struct core_calls calls = {.mmap = vv_mmap, .munmap = vv_munmap, .resolve = resolve,
                                     .page_size = vv_host_page};
    void *placeholder = core.placeholders[vv_calls.thread];

    if (core.map(placeholder, &calls, call->iov, call->iov_cnt, call->total_size) == 0) {
        call->mapped = 1;
        call->address = core.detach(placeholder);
    } else {
        error_setg(call->errp, "%s", core.message(placeholder));
        core.detach(placeholder);           /* what a failed munmap left is the world's to release */
    }
}

void vv_use_core(const struct vv_core *functions)
{
    core = *functions;
    vv_subject_loaded(entry, NULL);
}
