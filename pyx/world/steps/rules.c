/*
 * What a device's driver refuses to map.
 *
 * SPDX-License-Identifier: MIT
 */
#include <sys/stat.h>

#include "memory/memory.h"
#include "steps/steps.h"

bool vv_is_device(int fd, u64 *memory)
{
    struct stat status;
    u64 i;

    for (i = 0; i < vv_world.layout.n_devices; i++) {       /* the usual ones, without a system call */
        if (fd == vv_memfd[i]) {
            *memory = i;
            return true;
        }
    }
    if (fd < 0 || fstat(fd, &status) < 0) {
        return false;
    }
    *memory = vv_memory_of_inode(status.st_dev, status.st_ino);
    return vv_is_device_memory(*memory);
}

bool vv_device_refuses(u64 memory, u64 offset, u64 length, int flags)
{
    const struct vv_layout *layout = &vv_world.layout;
    u64 i, j, rule, start;

    for (i = 0; i < layout->n_regions; i++) {
        const struct vv_region *region = &layout->regions[i];

        rule = layout->devices[region->device].mmap_rule;
        start = offset - region->offset;
        if (region->memory != memory) {
            continue;
        }
        if (rule == VV_BY_NOTHING) {
            return false;
        }
        if (start >= page_up(region->size)) {
            continue;
        }
        if (!(region->flags & 4) || length > page_up(region->size) - start  /* ..._FLAG_MMAP */
            || (flags & MAP_TYPE) == MAP_PRIVATE) {
            return true;
        }
        if (rule != VV_BY_AREAS || !(region->sparse || region->msix == VV_MSIX_CUT)) {
            return false;
        }
        for (j = 0; j < layout->n_areas; j++) {
            const struct vv_area *area = &layout->areas[j];
            if (area->region == i && start >= area->offset && start + length <= area->offset + page_up(area->size)) {
                return false;
            }
        }
        return true;
    }
    return true;
}
