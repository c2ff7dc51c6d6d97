/*
 * Objects, and the look-ups of VFIO devices and regions.
 *
 * Each look-up of a subject is a step: counted, recorded and failed by the fault plan. Its event
 * holds in arg[0] what was looked up and as its result what was found: a position in the layout
 * (VV_NONE for nothing), or the number that was returned.
 *
 *   step            arg[0]                  arg[1]         result
 *   VV_FIND_DEVICE  host address, or block  -              device    (arg[2]: number of arguments)
 *   VV_FIND_BLOCK   host address            round_offset   block     (arg[2]: offset)
 *   VV_FIND_INDEX   block                   device         index, or -1
 *   VV_FIND_REGION  block                   device         region
 *   VV_REGION_INFO  region's index          device         0, or a negative errno  (arg[2]: 1 if cached)
 *   VV_REGION_FD    region's index          device         descriptor, or -1
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/base.h"
#include "memory/memory.h"
#include "qemu/objects.h"
#include "qemu/qemu.h"
#include "steps/steps.h"

/* ---- objects ------------------------------------------------------------------------------------------------ */

VV_EXPORT struct Object *object_dynamic_cast(struct Object *object, const char *type)
{
    static const char *const ancestors[] = {TYPE_VFIO_PCI, TYPE_VFIO_PCI_DEVICE, TYPE_VFIO_PCI_BASE, TYPE_PCI_DEVICE,
                                            TYPE_DEVICE};
    size_t i;

    if (!object) {
        return NULL;
    }
    if (strcmp(type, object->type) == 0 || strcmp(type, "object") == 0) {
        return object;
    }
    for (i = 0; i < ARRAY_SIZE(ancestors); i++) {
        if (strcmp(object->type, TYPE_VFIO_PCI) == 0 && strcmp(type, ancestors[i]) == 0) {
            return object;
        }
    }
    return NULL;
}

VV_EXPORT void *vfio_verify_cast(const void *object, const char *type, const char *file, int line, const char *function)
{
    if (object && !object_dynamic_cast((struct Object *)object, type)) {
        vv_die("in %s() at %s:%d: the object is no instance of %s", function, file, line, type);
    }
    return (void *)object;
}

VV_EXPORT const char *object_get_typename(const struct Object *object) { return object->type; }

VV_EXPORT void *object_ref(void *object)
{
    vv_refer(object, 1);
    return object;
}

VV_EXPORT void object_unref(void *object) { vv_refer(object, -1); }

VV_EXPORT int vfio_verify_rcu_enter(void)
{
    vv_read_lock(1);
    return 1;
}

VV_EXPORT void vfio_verify_rcu_leave(const int *guard)
{
    (void)guard;
    vv_read_lock(-1);
}

VV_EXPORT struct VFIOPCIDevice *vfio_pci_from_vfio_device(struct VFIODevice *vbasedev)
{
    return vbasedev ? container_of(vbasedev, VFIOPCIDevice, vbasedev) : NULL;
}

/* ---- VFIO look-ups -------------------------------------------------------------------------------------------- */

static VFIORegion *region_of(MemoryRegion *mr)
{
    do {
        if (mr->ops == &vfio_region_ops) {
            return mr->opaque;
        }
        mr = mr->container;
    } while (mr);
    return NULL;
}

VV_EXPORT int vfio_get_region_index_from_mr(struct MemoryRegion *mr)
{
    struct vv_event *event = vv_begin(VV_FIND_INDEX, VV_NONE, VV_NONE, 0, 0, 0, 0);
    VFIORegion *region = region_of(mr);
    int index = -1;

    event->arg[0] = vv_position_of_block(mr->ram_block);
    event->arg[1] = vv_position_of_device(vv_device_of(mr));
    if (region && !(event->flags & VV_FAULTED)) {
        index = (int)region->nr;
    }
    vv_end(event, (u64)(int64_t)index, 0);
    return index;
}

VV_EXPORT struct VFIORegion *vfio_get_region_from_mr(struct MemoryRegion *mr)
{
    struct vv_event *event = vv_begin(VV_FIND_REGION, VV_NONE, VV_NONE, 0, 0, 0, 0);
    VFIORegion *region = region_of(mr);

    event->arg[0] = vv_position_of_block(mr->ram_block);
    event->arg[1] = vv_position_of_device(vv_device_of(mr));
    if (event->flags & VV_FAULTED) {
        region = NULL;
    }
    vv_end(event, region ? (u64)(region - vv_live.regions) : VV_NONE, 0);
    return region;
}

/* With a capability behind it, where the region has one: that of sparse areas, or of a mappable MSI-X table. */
static struct vfio_region_info *new_info(u64 r)
{
    const struct vv_layout *layout = &vv_world.layout;
    const struct vv_region *region = &layout->regions[r];
    const u64 n_areas = region->sparse ? vv_live.regions[r].nr_mmaps : 0;
    struct vfio_region_info_cap_sparse_mmap *sparse;
    struct vfio_info_cap_header *mappable;
    struct vfio_region_info *info;
    size_t bytes = sizeof(*info);
    u64 a;

    if (region->sparse) {
        bytes += sizeof(*sparse) + n_areas * sizeof(sparse->areas[0]);
    } else if (region->msix == VV_MSIX_MAPPABLE) {
        bytes += sizeof(*mappable);
    }
    info = vv_heap_alloc(bytes, 16);
    if (!info) {
        vv_die("no memory for a region's info");
    }
    info->argsz = (uint32_t)bytes;
    info->flags = (uint32_t)region->flags;
    info->index = (uint32_t)region->index;
    info->size = region->size;
    info->offset = region->offset;
    if (bytes > sizeof(*info)) {
        info->flags |= VFIO_REGION_INFO_FLAG_CAPS;
        info->cap_offset = sizeof(*info);
    }
    if (region->msix == VV_MSIX_MAPPABLE) {
        mappable = (void *)(info + 1);
        mappable->id = VFIO_REGION_INFO_CAP_MSIX_MAPPABLE;
        mappable->version = 1;
    }
    if (region->sparse) {
        sparse = (void *)(info + 1);
        sparse->header.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP;
        sparse->header.version = 1;
        for (a = 0; a < layout->n_areas && sparse->nr_areas < n_areas; a++) {
            if (layout->areas[a].region == r) {
                sparse->areas[sparse->nr_areas].offset = layout->areas[a].offset;
                sparse->areas[sparse->nr_areas++].size = layout->areas[a].size;
            }
        }
    }
    return info;
}

static u64 find_region(u64 device, int index)
{
    u64 r;

    for (r = 0; r < vv_world.layout.n_regions; r++) {
        if (vv_world.layout.regions[r].device == device && (int64_t)vv_world.layout.regions[r].index == index) {
            return r;
        }
    }
    return VV_NONE;
}

static bool has(enum vv_conventions convention) { return vv_world.layout.conventions & convention; }

static char caching;                /* lock: at a device's cache of region information */

/* A subject's pointer is followed as QEMU follows it: NULL ends the process. */
__attribute__((no_sanitize("null,alignment")))
static bool is_cacheable(const VFIODevice *vbasedev, int index)
{
    return index >= 0 && (unsigned)index < vbasedev->num_initial_regions && vbasedev->reginfo;
}

static int region_info(VFIODevice *vbasedev, int index, struct vfio_region_info **info, struct vv_event *event)
{
    const bool cacheable = is_cacheable(vbasedev, index);
    u64 r;

    *info = NULL;
    if (event->flags & VV_FAULTED) {
        return -(int)(event->error ? event->error : EINVAL);
    }
    if (cacheable && vbasedev->reginfo[index]) {
        *info = vbasedev->reginfo[index];
        return 0;
    }
    r = find_region(event->arg[1], index);
    if (r == VV_NONE) {
        return -EINVAL;
    }
    *info = new_info(r);
    if (cacheable) {
        vv_heap_protect(*info);
        vbasedev->reginfo[index] = *info;
    }
    return 0;
}

VV_EXPORT int vfio_device_get_region_info(struct VFIODevice *vbasedev, int index, struct vfio_region_info **info)
{
    struct vv_event *event = vv_begin(VV_REGION_INFO, (u64)(int64_t)index, vv_position_of_device(vbasedev), 0, 0, 0, 0);
    int result;

    vv_lock_concurrent(&caching);
    event->arg[2] = is_cacheable(vbasedev, index) && vbasedev->reginfo[index];
    result = region_info(vbasedev, index, info, event);
    vv_unlock_concurrent(&caching);
    if (result < 0) {
        errno = -result;                /* as the ioctl leaves it */
    }
    vv_end(event, (u64)(int64_t)result, -result);
    return has(VV_REGION_INFO_IS_TRUE) ? result == 0 : result;
}

VV_EXPORT struct vfio_info_cap_header *vfio_get_region_info_cap(struct vfio_region_info *info, uint16_t id)
{
    struct vfio_info_cap_header *header;
    uint32_t at;

    for (at = info->flags & VFIO_REGION_INFO_FLAG_CAPS ? info->cap_offset : 0; at; at = header->next) {
        header = (void *)((uint8_t *)info + at);
        if (header->id == id) {
            return header;
        }
    }
    return NULL;
}

VV_EXPORT int vfio_device_get_region_fd(struct VFIODevice *vbasedev, int index)
{
    struct vv_event *event = vv_begin(VV_REGION_FD, (u64)(int64_t)index, vv_position_of_device(vbasedev), 0, 0, 0, 0);
    int fd = -1;

    if (event->flags & VV_FAULTED) {
        fd = -1;
    } else if (!vbasedev->use_region_fds) {
        fd = vbasedev->fd;
    } else if (index >= 0 && (unsigned)index < vbasedev->num_initial_regions) {
        fd = vbasedev->region_fds[index];
    }
    vv_end(event, (u64)(int64_t)fd, 0);
    return fd;
}

VV_EXPORT struct VFIODevice *vfio_verify_device_lookup_1(struct MemoryRegion *mr)
{
    struct vv_event *event = vv_begin(VV_FIND_DEVICE, VV_NONE, 0, 1, 0, 0, 0);
    VFIODevice *vbasedev = vv_device_of(mr);

    event->arg[0] = vv_position_of_block(mr->ram_block);
    if (event->flags & VV_FAULTED) {
        vbasedev = NULL;
    }
    vv_end(event, vv_position_of_device(vbasedev), 0);
    return vbasedev;
}

/* An empty iovec has no first segment; like QEMU's, this look-up reads it all the same. */
static bool lookup(struct iovec *iov, VFIODevice **vbasedev, RAMBlock **first_rb, struct Error **errp, u64 shape)
{
    struct vv_event *event = vv_begin(VV_FIND_DEVICE, VV_NONE, 0, shape, 0, 0, 0);
    void *address = iov[0].iov_base;
    const bool faulted = event->flags & VV_FAULTED;
    VFIODevice *found = NULL;
    const u64 at = vv_block_at((u64)address);
    RAMBlock *block = at == VV_NONE ? NULL : &vv_live.blocks[at];

    event->arg[0] = (u64)address;
    if (block && !faulted) {
        found = vv_device_of(block->mr);
    }
    vv_end(event, vv_position_of_device(found), 0);
    if (found) {
        *vbasedev = found;
        if (first_rb) {
            *first_rb = block;
        }
    } else if (block) {
        error_setg(errp, "no VFIO device has the memory at %p", address);
    } else {
        error_setg(errp, "no RAM block holds %p", address);
    }
    return has(VV_LOOKUP_IS_0) ? !found : found;
}

VV_EXPORT bool vfio_verify_device_lookup_3(struct iovec *iov, struct VFIODevice **vbasedev, struct Error **errp)
{
    return lookup(iov, vbasedev, NULL, errp, 3);
}

VV_EXPORT bool vfio_verify_device_lookup_4(struct iovec *iov, struct VFIODevice **vbasedev, struct RAMBlock **first_rb,
                                           struct Error **errp)
{
    return lookup(iov, vbasedev, first_rb, errp, 4);
}
