/*
 * QEMU's objects for a layout, and the look-ups on them.
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
 * A subject may scribble on the objects, so each call begins with a fresh copy of them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "internal.h"
#include "qemu_parts.h"
#include "vfio_verify/qemu.h"

#define PCI_REGIONS 9                   /* what a PCI device has at least: BARs, ROM, configuration, VGA */
#define MOST_CACHED_REGIONS 65536       /* far above what any device has */

struct objects {
    VFIOPCIDevice devices[VV_MAX_DEVICES];
    VFIOGroup groups[VV_MAX_DEVICES];
    VFIORegion regions[VV_MAX_REGIONS];
    MemoryRegion region_mem[VV_MAX_REGIONS];
    MemoryRegion bars[VV_MAX_REGIONS];  /* a region's mem lies in its BAR, as in QEMU */
    VFIOMmap mmaps[VV_MAX_AREAS];       /* those of one region follow each other */
    MemoryRegion ram[VV_MAX_BLOCKS];    /* of plain RAM blocks */
    RAMBlock blocks[VV_MAX_BLOCKS];
    MemoryRegion system;
    RAMList ram_list;
    VFIODeviceList devices_list;
    VFIOGroupList groups_list;
};
static struct objects live, pristine;

VV_EXPORT RAMList ram_list;
VV_EXPORT VFIODeviceList vfio_device_list;
VV_EXPORT VFIOGroupList vfio_group_list;

static struct vfio_region_info **reginfo[VV_MAX_DEVICES];
static int *region_fds[VV_MAX_DEVICES], *pristine_region_fds[VV_MAX_DEVICES];
static u64 mmap_of_area[VV_MAX_AREAS];
static char device_names[VV_MAX_DEVICES][16], sysfs_names[VV_MAX_DEVICES][48];
static struct virtio_gpu_simple_resource resource;
static char caching;                /* lock: at a device's cache of region information */

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
    VFIOPCIDevice *pci = &live.devices[d];
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
    live.groups[d] = (VFIOGroup){.fd = -1, .groupid = (int)d + 1};
    vbasedev->group = &live.groups[d];
    QLIST_INSERT_HEAD(&live.groups[d].device_list, vbasedev, next);
    QLIST_INSERT_HEAD(&live.groups_list, &live.groups[d], next);
    /* At the head, as QEMU does it: who follows the wrong link sees the last device only. */
    QLIST_INSERT_HEAD(&live.devices_list, vbasedev, global_next);
}

static void build_region(u64 r, u64 *n_mmaps, u64 guest_address)
{
    const struct vv_layout *layout = &vv_world.layout;
    const struct vv_region *from = &layout->regions[r];
    VFIOPCIDevice *pci = &live.devices[from->device];
    VFIORegion *region = &live.regions[r];
    u64 a;

    /* QEMU takes a whole page where a smaller region has it for itself. */
    const u64 size = from->size < vv_host_page && (from->flags & VFIO_REGION_INFO_FLAG_MMAP) ? vv_host_page : from->size;

    *region = (VFIORegion){
        .vbasedev = &pci->vbasedev,
        .fd_offset = (off_t)from->offset,
        .mem = &live.region_mem[r],
        .size = from->size,
        .flags = (uint32_t)(from->flags
                            | (from->sparse || from->msix == VV_MSIX_MAPPABLE ? VFIO_REGION_INFO_FLAG_CAPS : 0)),
        .mmaps = &live.mmaps[*n_mmaps],
        .nr = (uint32_t)from->index,
    };
    if (from->index < pci->vbasedev.num_initial_regions) {
        pristine_region_fds[from->device][from->index] = vv_memory_fd(from->memory);
    }
    init_mr(&live.bars[r], "vfio BAR", size, pci);
    put_in(&live.system, guest_address, &live.bars[r]);
    init_mr(&live.region_mem[r], "vfio region", size, pci);
    live.region_mem[r].ops = &vfio_region_ops;
    live.region_mem[r].opaque = region;
    live.region_mem[r].terminates = true;
    put_in(&live.bars[r], 0, &live.region_mem[r]);

    for (a = 0; a < layout->n_areas; a++) {
        const struct vv_area *area = &layout->areas[a];
        VFIOMmap *mapped = &live.mmaps[*n_mmaps];

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
        put_in(&live.region_mem[r], area->offset, &mapped->mem);
    }
}

static void build_block(u64 b, u64 ram_address)
{
    const struct vv_block *from = &vv_world.layout.blocks[b];
    RAMBlock *block = &live.blocks[b];

    memset(block, 0, sizeof(*block));
    block->host = vv_world.block_host[b];
    block->offset = ram_address;
    block->used_length = block->max_length = from->size;
    block->page_size = qemu_real_host_page_size();
    if (from->area == VV_NONE) {
        block->mr = &live.ram[b];
        block->flags = RAM_SHARED;
        block->fd = vv_world.ram_fd;
        block->fd_offset = vv_world.block_file_offset[b];
        snprintf(block->idstr, sizeof(block->idstr), "pc.ram%u", (unsigned)b);
        init_mr(block->mr, "pc.ram", from->size, NULL);
        block->mr->ram = block->mr->terminates = true;
        block->mr->ops = &mapped_ops;
        put_in(&live.system, ram_address, block->mr);
    } else {
        VFIOMmap *mapped = &live.mmaps[mmap_of_area[from->area]];

        block->mr = &mapped->mem;
        block->flags = RAM_PREALLOC;
        block->fd = -1;
        snprintf(block->idstr, sizeof(block->idstr), "%s/mmaps[%u]", block->mr->dev->id, (unsigned)b);
        mapped->mmap = block->host;
    }
    block->mr->ram_block = block;
}

/* The memory that is used of each array, so that a small layout is copied in no time. */
static void copy_objects(struct objects *to, const struct objects *from)
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
    ram_list = live.ram_list;
    vfio_device_list = live.devices_list;
    vfio_group_list = live.groups_list;
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

    live.ram_list = (RAMList){0};
    live.devices_list = (VFIODeviceList){0};
    live.groups_list = (VFIOGroupList){0};
    init_mr(&live.system, "system", (__int128_t)1 << 64, NULL);
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
        QLIST_INSERT_HEAD(&live.ram_list.blocks, &live.blocks[i], next);
    }
    copy_objects(&pristine, &live);
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
    return area == VV_NONE ? NULL : &live.devices[layout->regions[layout->areas[area].region].device].vbasedev;
}

void vv_qemu_forget(void)
{
    const struct vv_layout *layout = &vv_world.layout;
    u64 d;

    copy_objects(&live, &pristine);
    publish_lists();
    for (d = 0; d < layout->n_devices; d++) {
        const size_t n = live.devices[d].vbasedev.num_initial_regions;
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
    const struct vv_layout *layout = &vv_world.layout;

    vv_qemu_forget();
    call->res = &resource;
    vv_qemu_fill_call(call, layout->n_segments ? layout->segments[0].block : VV_NONE);
}

/* ---- positions, for the trace ---------------------------------------------------------------------- */

static u64 position_of_block(const RAMBlock *block)
{
    return block >= live.blocks && block < live.blocks + VV_MAX_BLOCKS ? (u64)(block - live.blocks) : VV_NONE;
}

static u64 position_of_device(const VFIODevice *vbasedev)
{
    u64 d;

    for (d = 0; d < vv_world.layout.n_devices; d++) {
        if (vbasedev == &live.devices[d].vbasedev) {
            return d;
        }
    }
    return VV_NONE;
}

static VFIODevice *device_of(const MemoryRegion *mr)
{
    u64 d;

    for (d = 0; mr->dev && d < vv_world.layout.n_devices; d++) {
        if (mr->dev == live.devices[d].vbasedev.dev) {
            return &live.devices[d].vbasedev;
        }
    }
    return NULL;
}

/* ---- RAM blocks -------------------------------------------------------------------------------------- */

/* By the world's own table: what a subject did to the objects does not lead this astray. */
static RAMBlock *block_from_host(const void *pointer, uintptr_t *offset)
{
    static u64 recent;                  /* as QEMU does: most look-ups ask for the block of the one before */
    const u64 n = vv_world.layout.n_blocks, first = __atomic_load_n(&recent, __ATOMIC_RELAXED);
    u64 i;

    for (i = 0; i <= n; i++) {
        const u64 b = i ? i - 1 : first;

        if (b < n && (u64)((uintptr_t)pointer - (uintptr_t)vv_world.block_host[b]) < vv_world.layout.blocks[b].size) {
            __atomic_store_n(&recent, b, __ATOMIC_RELAXED);
            *offset = (uintptr_t)pointer - (uintptr_t)vv_world.block_host[b];
            return &live.blocks[b];
        }
    }
    return NULL;
}

VV_EXPORT struct RAMBlock *qemu_ram_block_from_host(void *pointer, bool round_offset, uintptr_t *offset)
{
    struct vv_event *event = vv_begin(VV_FIND_BLOCK, (u64)pointer, round_offset, VV_NONE, 0, 0, 0);
    RAMBlock *block = NULL;
    uintptr_t at;

    if (!(event->flags & VV_FAULTED)) {
        block = block_from_host(pointer, &at);
    }
    if (block) {
        *offset = round_offset ? at & (uintptr_t)TARGET_PAGE_MASK : at;
        event->arg[2] = *offset;
    }
    vv_end(event, block ? position_of_block(block) : VV_NONE, 0);
    return block;
}

VV_EXPORT struct MemoryRegion *memory_region_from_host(void *pointer, uintptr_t *offset)
{
    RAMBlock *block = qemu_ram_block_from_host(pointer, false, offset);

    return block ? block->mr : NULL;
}

VV_EXPORT uintptr_t qemu_ram_addr_from_host(void *pointer)
{
    uintptr_t offset;
    RAMBlock *block = qemu_ram_block_from_host(pointer, false, &offset);

    return block ? block->offset + offset : RAM_ADDR_INVALID;
}

VV_EXPORT uintptr_t qemu_ram_block_host_offset(struct RAMBlock *block, void *host)
{
    return (uintptr_t)host - (uintptr_t)block->host;
}

VV_EXPORT struct RAMBlock *qemu_ram_block_by_name(const char *name)
{
    RAMBlock *block;

    RAMBLOCK_FOREACH(block) {
        if (strcmp(name, block->idstr) == 0) {
            return block;
        }
    }
    return NULL;
}

VV_EXPORT void *qemu_ram_get_host_addr(struct RAMBlock *block) { return block->host; }
VV_EXPORT uintptr_t qemu_ram_get_offset(struct RAMBlock *block) { return block->offset; }
VV_EXPORT uintptr_t qemu_ram_get_fd_offset(struct RAMBlock *block) { return block->fd_offset; }
VV_EXPORT uintptr_t qemu_ram_get_used_length(struct RAMBlock *block) { return block->used_length; }
VV_EXPORT uintptr_t qemu_ram_get_max_length(struct RAMBlock *block) { return block->max_length; }
VV_EXPORT const char *qemu_ram_get_idstr(struct RAMBlock *block) { return block->idstr; }
VV_EXPORT int qemu_ram_get_fd(struct RAMBlock *block) { return block->fd; }
VV_EXPORT size_t qemu_ram_pagesize(struct RAMBlock *block) { return block->page_size; }
VV_EXPORT bool qemu_ram_is_shared(struct RAMBlock *block) { return block->flags & RAM_SHARED; }
VV_EXPORT void *qemu_map_ram_ptr(struct RAMBlock *block, uintptr_t offset) { return block->host + offset; }

/* ---- memory regions ------------------------------------------------------------------------------------ */

VV_EXPORT struct MemoryRegion *get_system_memory(void) { return &live.system; }
VV_EXPORT struct Object *memory_region_owner(struct MemoryRegion *mr) { return mr->owner; }
VV_EXPORT const char *memory_region_name(const struct MemoryRegion *mr) { return mr->name; }
VV_EXPORT bool memory_region_is_ram(struct MemoryRegion *mr) { return mr->ram; }
VV_EXPORT bool memory_region_is_ram_device(struct MemoryRegion *mr) { return mr->ram_device; }
VV_EXPORT bool memory_region_is_rom(struct MemoryRegion *mr) { return mr->ram && mr->readonly; }
VV_EXPORT bool memory_region_is_romd(struct MemoryRegion *mr) { return mr->rom_device && mr->romd_mode; }
VV_EXPORT bool memory_region_is_mapped(struct MemoryRegion *mr) { return mr->container; }

/* A region lives as long as its owner; one without an owner for ever. */
VV_EXPORT void memory_region_ref(struct MemoryRegion *mr) { vv_refer(mr ? mr->owner : NULL, 1); }
VV_EXPORT void memory_region_unref(struct MemoryRegion *mr) { vv_refer(mr ? mr->owner : NULL, -1); }

VV_EXPORT int memory_region_get_fd(struct MemoryRegion *mr) { return mr->ram_block->fd; }

VV_EXPORT uint64_t memory_region_size(struct MemoryRegion *mr)
{
    return mr->size == (__int128_t)1 << 64 ? UINT64_MAX : (uint64_t)mr->size;
}

VV_EXPORT void *memory_region_get_ram_ptr(struct MemoryRegion *mr)
{
    if (!mr->ram_block) {
        vv_die("memory_region_get_ram_ptr: the region \"%s\" is no RAM", mr->name);
    }
    return mr->ram_block->host;
}

VV_EXPORT uintptr_t memory_region_get_ram_addr(struct MemoryRegion *mr)
{
    return mr->ram_block ? mr->ram_block->offset : RAM_ADDR_INVALID;
}

/* ---- mapping RAM ----------------------------------------------------------------------------------------- */

static void *map_over_reservation(int fd, size_t size, size_t align, uint32_t flags, off_t offset)
{
    const size_t guard = qemu_real_host_page_size();
    const int prot = PROT_READ | (flags & QEMU_MAP_READONLY ? 0 : PROT_WRITE);
    const int how = MAP_FIXED | (fd < 0 ? MAP_ANONYMOUS : 0) | (flags & QEMU_MAP_SHARED ? MAP_SHARED : MAP_PRIVATE)
                    | (flags & QEMU_MAP_NORESERVE ? MAP_NORESERVE : 0);
    const size_t total = size + align;  /* what aligning does not use up leaves room for the guard page */
    uint8_t *reserved, *mapped, *end;

    reserved = vv_mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (reserved == MAP_FAILED) {
        return MAP_FAILED;
    }
    mapped = QEMU_ALIGN_PTR_UP(reserved, align);
    if (vv_mmap(mapped, size, prot, how, fd, offset) == MAP_FAILED) {
        const int error = errno;
        vv_munmap(reserved, total);
        errno = error;
        return MAP_FAILED;
    }
    end = mapped + size + guard;
    if (mapped > reserved) {
        vv_munmap(reserved, (size_t)(mapped - reserved));
    }
    if (reserved + total > end) {
        vv_munmap(end, (size_t)(reserved + total - end));
    }
    return mapped;
}

VV_EXPORT void *qemu_ram_mmap(int fd, size_t size, size_t align, uint32_t flags, off_t offset)
{
    void *mapped;

    if (!is_power_of_2(align) || align < qemu_real_host_page_size()) {
        vv_die("qemu_ram_mmap: an alignment of %zu is no power of two, or less than a page", align);
    }
    vv_nested(1);
    mapped = map_over_reservation(fd, size, align, flags, offset);
    vv_nested(-1);
    return mapped;
}

VV_EXPORT void qemu_ram_munmap(int fd, void *pointer, size_t size)
{
    (void)fd;
    if (pointer) {
        vv_nested(1);
        vv_munmap(pointer, size + qemu_real_host_page_size());
        vv_nested(-1);
    }
}

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

    event->arg[0] = position_of_block(mr->ram_block);
    event->arg[1] = position_of_device(device_of(mr));
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

    event->arg[0] = position_of_block(mr->ram_block);
    event->arg[1] = position_of_device(device_of(mr));
    if (event->flags & VV_FAULTED) {
        region = NULL;
    }
    vv_end(event, region ? (u64)(region - live.regions) : VV_NONE, 0);
    return region;
}

/* With a capability behind it, where the region has one: that of sparse areas, or of a mappable MSI-X table. */
static struct vfio_region_info *new_info(u64 r)
{
    const struct vv_layout *layout = &vv_world.layout;
    const struct vv_region *region = &layout->regions[r];
    const u64 n_areas = region->sparse ? live.regions[r].nr_mmaps : 0;
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

static int region_info(VFIODevice *vbasedev, int index, struct vfio_region_info **info, struct vv_event *event)
{
    const bool cacheable = index >= 0 && (unsigned)index < vbasedev->num_initial_regions && vbasedev->reginfo;
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
        vv_heap_protect(*info, (*info)->argsz);
        vbasedev->reginfo[index] = *info;
    }
    return 0;
}

VV_EXPORT int vfio_device_get_region_info(struct VFIODevice *vbasedev, int index, struct vfio_region_info **info)
{
    struct vv_event *event = vv_begin(VV_REGION_INFO, (u64)(int64_t)index, position_of_device(vbasedev), 0, 0, 0, 0);
    int result;

    if (vv_calls.at_once) {
        vv_spin_lock(&caching);
    }
    event->arg[2] = index >= 0 && (unsigned)index < vbasedev->num_initial_regions && vbasedev->reginfo
                    && vbasedev->reginfo[index];
    result = region_info(vbasedev, index, info, event);
    if (vv_calls.at_once) {
        vv_spin_unlock(&caching);
    }
    if (result < 0) {
        errno = -result;                /* as the ioctl leaves it */
    }
    vv_end(event, (u64)(int64_t)result, -result);
    return result;
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
    struct vv_event *event = vv_begin(VV_REGION_FD, (u64)(int64_t)index, position_of_device(vbasedev), 0, 0, 0, 0);
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
    VFIODevice *vbasedev = device_of(mr);

    event->arg[0] = position_of_block(mr->ram_block);
    if (event->flags & VV_FAULTED) {
        vbasedev = NULL;
    }
    vv_end(event, position_of_device(vbasedev), 0);
    return vbasedev;
}

/* An empty iovec has no first segment; like QEMU's, this look-up reads it all the same. */
static bool lookup(struct iovec *iov, VFIODevice **vbasedev, RAMBlock **first_rb, struct Error **errp, u64 shape)
{
    struct vv_event *event = vv_begin(VV_FIND_DEVICE, VV_NONE, 0, shape, 0, 0, 0);
    void *address = iov[0].iov_base;
    const bool faulted = event->flags & VV_FAULTED;
    VFIODevice *found = NULL;
    RAMBlock *block;
    uintptr_t offset;

    event->arg[0] = (u64)address;
    block = block_from_host(address, &offset);
    if (block && !faulted) {
        found = device_of(block->mr);
    }
    vv_end(event, position_of_device(found), 0);
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
    return found;
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
