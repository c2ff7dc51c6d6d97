/*
 * QEMU's objects for a layout.
 *
 * A subject may scribble on them, so each call begins with a fresh copy.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/base.h"
#include "memory/memory.h"
#include "qemu/objects.h"
#include "qemu/qemu.h"

#define PCI_REGIONS 9                   /* what a PCI device has at least: BARs, ROM, configuration, VGA */
#define MOST_CACHED_REGIONS 65536       /* far above what any device has */

struct vv_objects vv_live;
static struct vv_objects pristine;

VV_EXPORT RAMList ram_list;
VV_EXPORT VFIODeviceList vfio_device_list;
VV_EXPORT VFIOGroupList vfio_group_list;

static struct vfio_region_info **reginfo[VV_MAX_DEVICES];
static int *region_fds[VV_MAX_DEVICES], *pristine_region_fds[VV_MAX_DEVICES];
static u64 mmap_of_area[VV_MAX_AREAS];
static char device_names[VV_MAX_DEVICES][16], sysfs_names[VV_MAX_DEVICES][48];
static struct virtio_gpu_simple_resource resource;

/* The regions are mapped: nobody reads them by these. */
static uint64_t no_read(void *opaque, uint64_t addr, unsigned int size)
{
    (void)opaque, (void)addr, (void)size;
    return UINT64_MAX;
}

static void no_write(void *opaque, uint64_t addr, uint64_t data, unsigned int size)
{
    (void)opaque, (void)addr, (void)data, (void)size;
}

VV_EXPORT const struct MemoryRegionOps vfio_region_ops = {no_read, no_write, 0};
static const struct MemoryRegionOps mapped_ops = {no_read, no_write, 0};
static const struct MemoryRegionOps container_ops = {no_read, no_write, 0};

/* ---- building ------------------------------------------------------------------------------------ */

static void init_mr(MemoryRegion *mr, const char *name, __int128_t size, VFIOPCIDevice *owner)
{
    memset(mr, 0, sizeof(*mr));
    mr->parent_obj.type = TYPE_MEMORY_REGION;
    mr->parent_obj.ref = 1;
    mr->name = name;
    mr->size = size;
    mr->owner = owner ? OBJECT(owner) : NULL;
    mr->dev = owner ? &owner->parent_obj.qdev : NULL;
    mr->parent_obj.parent = mr->owner;
    mr->ops = &container_ops;
    mr->enabled = true;
    mr->romd_mode = true;
    QTAILQ_INIT(&mr->subregions);
}

static void put_in(MemoryRegion *container, u64 addr, MemoryRegion *mr)
{
    mr->container = container;
    mr->addr = addr;
    QTAILQ_INSERT_TAIL(&container->subregions, mr, subregions_link);
}

static void build_device(u64 d)
{
    const struct vv_layout *layout = &vv_world.layout;
    VFIOPCIDevice *pci = &vv_live.devices[d];
    VFIODevice *vbasedev = &pci->vbasedev;
    u64 i, n = PCI_REGIONS;

    for (i = 0; i < layout->n_regions; i++) {
        if (layout->regions[i].device == d && layout->regions[i].index >= n) {
            n = layout->regions[i].index + 1;
        }
    }
    snprintf(device_names[d], sizeof(device_names[d]), "0000:%02x:00.0", (uint8_t)(d + 1));
    snprintf(sysfs_names[d], sizeof(sysfs_names[d]), "/sys/bus/pci/devices/%s", device_names[d]);

    memset(pci, 0, sizeof(*pci));
    pci->parent_obj.qdev.parent_obj = (Object){.type = TYPE_VFIO_PCI, .ref = 1};
    pci->parent_obj.qdev.id = device_names[d];
    pci->parent_obj.qdev.realized = true;
    snprintf(pci->parent_obj.name, sizeof(pci->parent_obj.name), "vfio-pci");

    vbasedev->name = device_names[d];
    vbasedev->sysfsdev = sysfs_names[d];
    vbasedev->dev = &pci->parent_obj.qdev;
    vbasedev->type = VFIO_DEVICE_TYPE_PCI;
    vbasedev->use_region_fds = layout->devices[d].has_region_fds;
    vbasedev->fd = vbasedev->use_region_fds ? -1 : vv_memory_fd(d);
    vbasedev->flags = 1 << 1;           /* VFIO_DEVICE_FLAGS_PCI */
    vbasedev->num_irqs = 5;
    vbasedev->num_regions = (unsigned)n;
    vbasedev->num_initial_regions = (unsigned)MIN(n, (u64)MOST_CACHED_REGIONS);
    n = vbasedev->num_initial_regions;

    reginfo[d] = realloc(reginfo[d], n * sizeof(*reginfo[d]));
    region_fds[d] = realloc(region_fds[d], n * sizeof(int));
    pristine_region_fds[d] = realloc(pristine_region_fds[d], n * sizeof(int));
    if (!reginfo[d] || !region_fds[d] || !pristine_region_fds[d]) {
        vv_die("no memory for the regions of a device");
    }
    for (i = 0; i < n; i++) {
        pristine_region_fds[d][i] = -1;
    }
    vbasedev->reginfo = reginfo[d];
    vbasedev->region_fds = vbasedev->use_region_fds ? region_fds[d] : NULL;

    /* Each device is alone in its group, so `next` leads nowhere. */
    vv_live.groups[d] = (VFIOGroup){.fd = -1, .groupid = (int)d + 1};
    vbasedev->group = &vv_live.groups[d];
    QLIST_INSERT_HEAD(&vv_live.groups[d].device_list, vbasedev, next);
    QLIST_INSERT_HEAD(&vv_live.groups_list, &vv_live.groups[d], next);
    /* At the head, as in QEMU: a subject that follows the wrong link sees the last device only. */
    QLIST_INSERT_HEAD(&vv_live.devices_list, vbasedev, global_next);
}

static void build_region(u64 r, u64 *n_mmaps, u64 guest_address)
{
    const struct vv_layout *layout = &vv_world.layout;
    const struct vv_region *from = &layout->regions[r];
    VFIOPCIDevice *pci = &vv_live.devices[from->device];
    VFIORegion *region = &vv_live.regions[r];
    u64 a;

    /* QEMU takes a whole page where a smaller region has it for itself. */
    const bool whole_page = from->size < vv_host_page && (from->flags & VFIO_REGION_INFO_FLAG_MMAP);
    const u64 size = whole_page ? vv_host_page : from->size;

    *region = (VFIORegion){
        .vbasedev = &pci->vbasedev,
        .fd_offset = (off_t)from->offset,
        .mem = &vv_live.region_mem[r],
        .size = from->size,
        .flags = (uint32_t)(from->flags
                            | (from->sparse || from->msix == VV_MSIX_MAPPABLE ? VFIO_REGION_INFO_FLAG_CAPS : 0)),
        .mmaps = &vv_live.mmaps[*n_mmaps],
        .nr = (uint32_t)from->index,
    };
    if (from->index < pci->vbasedev.num_initial_regions) {
        pristine_region_fds[from->device][from->index] = vv_memory_fd(from->memory);
    }
    init_mr(&vv_live.bars[r], "vfio BAR", size, pci);
    put_in(&vv_live.system, guest_address, &vv_live.bars[r]);
    init_mr(&vv_live.region_mem[r], "vfio region", size, pci);
    vv_live.region_mem[r].ops = &vfio_region_ops;
    vv_live.region_mem[r].opaque = region;
    vv_live.region_mem[r].terminates = true;
    put_in(&vv_live.bars[r], 0, &vv_live.region_mem[r]);

    for (a = 0; a < layout->n_areas; a++) {
        const struct vv_area *area = &layout->areas[a];
        VFIOMmap *mapped = &vv_live.mmaps[*n_mmaps];

        if (area->region != r) {
            continue;
        }
        mmap_of_area[a] = (*n_mmaps)++;
        region->nr_mmaps++;
        mapped->mmap = NULL;
        mapped->offset = (off_t)area->offset;
        mapped->size = area->size;
        init_mr(&mapped->mem, "vfio mmap", from->size < vv_host_page ? size : area->size, pci);
        mapped->mem.ram = mapped->mem.ram_device = mapped->mem.terminates = true;
        mapped->mem.ops = &mapped_ops;
        mapped->mem.opaque = &mapped->mem;
        put_in(&vv_live.region_mem[r], area->offset, &mapped->mem);
    }
}

static void build_block(u64 b, u64 ram_address)
{
    const struct vv_block *from = &vv_world.layout.blocks[b];
    RAMBlock *block = &vv_live.blocks[b];

    memset(block, 0, sizeof(*block));
    block->host = vv_world.block_host[b];
    block->offset = ram_address;
    block->used_length = block->max_length = from->size;
    block->page_size = qemu_real_host_page_size();
    if (from->area == VV_NONE) {
        block->mr = &vv_live.ram[b];
        block->flags = RAM_SHARED;
        block->fd = vv_memfd[VV_RAM_SLOT];
        block->fd_offset = vv_world.block_file_offset[b];
        snprintf(block->idstr, sizeof(block->idstr), "pc.ram%u", (unsigned)b);
        init_mr(block->mr, "pc.ram", from->size, NULL);
        block->mr->ram = block->mr->terminates = true;
        block->mr->ops = &mapped_ops;
        put_in(&vv_live.system, ram_address, block->mr);
    } else {
        VFIOMmap *mapped = &vv_live.mmaps[mmap_of_area[from->area]];

        block->mr = &mapped->mem;
        block->flags = RAM_PREALLOC;
        block->fd = -1;
        if (vv_world.layout.conventions & VV_BLOCK_HAS_FD) {
            block->fd = vv_memory_fd(vv_block_memory(b));
            block->fd_offset = vv_world.block_file_offset[b];
        }
        snprintf(block->idstr, sizeof(block->idstr), "%s/mmaps[%u]", block->mr->dev->id, (unsigned)b);
        mapped->mmap = block->host;
    }
    block->mr->ram_block = block;
}

/* The memory that is used of each array, so that a small layout is copied in no time. */
static void copy_objects(struct vv_objects *to, const struct vv_objects *from)
{
    const struct vv_layout *layout = &vv_world.layout;

    memcpy(to->devices, from->devices, layout->n_devices * sizeof(*to->devices));
    memcpy(to->groups, from->groups, layout->n_devices * sizeof(*to->groups));
    memcpy(to->regions, from->regions, layout->n_regions * sizeof(*to->regions));
    memcpy(to->region_mem, from->region_mem, layout->n_regions * sizeof(*to->region_mem));
    memcpy(to->bars, from->bars, layout->n_regions * sizeof(*to->bars));
    memcpy(to->mmaps, from->mmaps, layout->n_areas * sizeof(*to->mmaps));
    memcpy(to->ram, from->ram, layout->n_blocks * sizeof(*to->ram));
    memcpy(to->blocks, from->blocks, layout->n_blocks * sizeof(*to->blocks));
    to->system = from->system;
    to->ram_list = from->ram_list;
    to->devices_list = from->devices_list;
    to->groups_list = from->groups_list;
}

/* The subject's lists are variables of their own; their first elements must point back to them. */
static void publish_lists(void)
{
    ram_list = vv_live.ram_list;
    vfio_device_list = vv_live.devices_list;
    vfio_group_list = vv_live.groups_list;
    if (ram_list.blocks.lh_first) {
        ram_list.blocks.lh_first->next.le_prev = &ram_list.blocks.lh_first;
    }
    if (vfio_device_list.lh_first) {
        vfio_device_list.lh_first->global_next.le_prev = &vfio_device_list.lh_first;
    }
    if (vfio_group_list.lh_first) {
        vfio_group_list.lh_first->next.le_prev = &vfio_group_list.lh_first;
    }
}

void vv_qemu_build(void)
{
    const struct vv_layout *layout = &vv_world.layout;
    u64 i, n_mmaps = 0, bar_address = UINT64_C(1) << 40, ram_address = 0;

    vv_live.ram_list = (RAMList){0};
    vv_live.devices_list = (VFIODeviceList){0};
    vv_live.groups_list = (VFIOGroupList){0};
    init_mr(&vv_live.system, "system", (__int128_t)1 << 64, NULL);
    for (i = 0; i < layout->n_devices; i++) {
        build_device(i);
    }
    for (i = 0; i < layout->n_regions; i++) {
        build_region(i, &n_mmaps, bar_address);
        bar_address += ROUND_UP(layout->regions[i].size, (u64)GiB);
    }
    for (i = 0; i < layout->n_blocks; i++) {
        build_block(i, ram_address);
        ram_address += ROUND_UP(layout->blocks[i].size, (u64)MiB);
    }
    for (i = layout->n_blocks; i-- > 0;) {
        QLIST_INSERT_HEAD(&vv_live.ram_list.blocks, &vv_live.blocks[i], next);
    }
    copy_objects(&pristine, &vv_live);
}

/* ---- around a call -------------------------------------------------------------------------------- */

/* NULL where the first segment lies in no device's memory. */
static VFIODevice *device_of_block(u64 block)
{
    const struct vv_layout *layout = &vv_world.layout;
    u64 area;

    if (block == VV_NONE) {
        return NULL;
    }
    area = layout->blocks[block].area;
    return area == VV_NONE ? NULL : &vv_live.devices[layout->regions[layout->areas[area].region].device].vbasedev;
}

void vv_qemu_forget(void)
{
    const struct vv_layout *layout = &vv_world.layout;
    u64 d;

    copy_objects(&vv_live, &pristine);
    publish_lists();
    for (d = 0; d < layout->n_devices; d++) {
        const size_t n = vv_live.devices[d].vbasedev.num_initial_regions;
        memset(reginfo[d], 0, n * sizeof(*reginfo[d]));
        memcpy(region_fds[d], pristine_region_fds[d], n * sizeof(int));
    }
}

size_t vv_qemu_resource_size(void)
{
    return sizeof(resource);
}

void vv_qemu_fill_call(struct vv_call *call, u64 first_block)
{
    struct Error **slot = vv_error_slot();

    *call->res = (struct virtio_gpu_simple_resource){
        .resource_id = 1,
        .iov = call->iov,
        .iov_cnt = call->iov_cnt,
        .blob_size = call->total_size,
        .dmabuf_fd = -1,
    };
    call->vbasedev = device_of_block(first_block);
    call->errp = vv_world.layout.null_errp ? NULL : slot;
}

void vv_qemu_before_call(struct vv_call *call)
{
    const struct vv_iovec *iovec = &vv_world.layout.iovec;

    vv_qemu_forget();
    call->res = &resource;
    vv_qemu_fill_call(call, iovec->n ? iovec->segments[0].block : VV_NONE);
}

/* ---- positions, for the trace ---------------------------------------------------------------------- */

u64 vv_position_of_block(const RAMBlock *block)
{
    return block >= vv_live.blocks && block < vv_live.blocks + VV_MAX_BLOCKS ? (u64)(block - vv_live.blocks) : VV_NONE;
}

u64 vv_position_of_device(const VFIODevice *vbasedev)
{
    u64 d;

    for (d = 0; d < vv_world.layout.n_devices; d++) {
        if (vbasedev == &vv_live.devices[d].vbasedev) {
            return d;
        }
    }
    return VV_NONE;
}

VFIODevice *vv_device_of(const MemoryRegion *mr)
{
    u64 d;

    for (d = 0; mr->dev && d < vv_world.layout.n_devices; d++) {
        if (mr->dev == vv_live.devices[d].vbasedev.dev) {
            return &vv_live.devices[d].vbasedev;
        }
    }
    return NULL;
}
