/*
 * QEMU's side: its objects, the look-ups in them, the Error API, the heap, references and RCU's lock.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model.h"
#include "core.h"

/* ---- objects --------------------------------------------------------------------------------------------------------- */

/* Variables, not elements of arrays: a pointer to one of several elements is an offset to CBMC, and what it points to any
 * bits of the array. */
static VFIOPCIDevice device_0, device_1, *const devices[VM_DEVICES] = {&device_0, &device_1};
static VFIOGroup group_0, group_1, *const groups[VM_DEVICES] = {&group_0, &group_1};
static VFIORegion region_0, region_1, *const regions[VM_REGIONS] = {&region_0, &region_1};
static MemoryRegion bar_0, bar_1, *const bars[VM_REGIONS] = {&bar_0, &bar_1};
static MemoryRegion mem_0, mem_1, *const region_mem[VM_REGIONS] = {&mem_0, &mem_1}, plain_mr, root;
static VFIOMmap mmaps_0[VM_AREAS], mmaps_1[VM_AREAS], *const mmaps[VM_REGIONS] = {mmaps_0, mmaps_1};
static RAMBlock block_0, block_1, block_2, *const blocks[VM_BLOCKS] = {&block_0, &block_1, &block_2};
static struct vfio_region_info *reginfo_0[VM_INDEXES], *reginfo_1[VM_INDEXES];
static struct vfio_region_info **const reginfo[VM_DEVICES] = {reginfo_0, reginfo_1};
static int fds_0[VM_INDEXES], fds_1[VM_INDEXES], *const region_fds[VM_DEVICES] = {fds_0, fds_1};
#ifdef VM_NATIVE
#define entries vm_iovec
#else
static struct iovec entries[VM_SEGMENTS];
#endif
static struct virtio_gpu_simple_resource resource;

/* As the kernel answers: the information, and a capability behind it. */
static struct info {
    struct vfio_region_info info;
    struct vfio_info_cap_header header;
    __u32 nr_areas, reserved;
    struct vfio_region_sparse_mmap_area areas[VM_AREAS];
} info_0, info_1, *const infos[VM_REGIONS] = {&info_0, &info_1};

RAMList ram_list;
VFIODeviceList vfio_device_list;
VFIOGroupList vfio_group_list;
const struct MemoryRegionOps vfio_region_ops;
static const struct MemoryRegionOps other_ops;

static void init_mr(MemoryRegion *mr, u64 size, MemoryRegion *container, u64 address, VFIOPCIDevice *owner)
{
    mr->parent_obj.type = TYPE_MEMORY_REGION;
    mr->parent_obj.ref = 1;
    mr->size = size;
    mr->owner = owner ? OBJECT(owner) : NULL;
    mr->dev = owner ? &owner->parent_obj.qdev : NULL;
    mr->parent_obj.parent = mr->owner;
    mr->ops = &other_ops;
    mr->enabled = mr->romd_mode = true;
    mr->container = container;
    mr->addr = address;
    mr->name = "region";
    QTAILQ_INIT(&mr->subregions);
    if (container) {
        QTAILQ_INSERT_TAIL(&container->subregions, mr, subregions_link);
    }
}

static void build_device(unsigned d)
{
    VFIOPCIDevice *pci = devices[d];
    VFIODevice *vbasedev = &pci->vbasedev;
    unsigned i;

    pci->parent_obj.qdev.parent_obj.type = TYPE_VFIO_PCI;
    pci->parent_obj.qdev.parent_obj.ref = 1;
    pci->parent_obj.qdev.id = (char *)"0000:01:00.0";
    pci->parent_obj.qdev.realized = true;
    vbasedev->name = vbasedev->sysfsdev = pci->parent_obj.qdev.id;
    vbasedev->dev = &pci->parent_obj.qdev;
    vbasedev->type = VFIO_DEVICE_TYPE_PCI;
    vbasedev->use_region_fds = vm_given.device[d].region_fds;
    vbasedev->fd = vm_device_fd(d);
    vbasedev->flags = 1 << 1;
    vbasedev->num_irqs = 5;
    vbasedev->num_regions = vbasedev->num_initial_regions = VM_INDEXES;
    vbasedev->reginfo = reginfo[d];
    vbasedev->region_fds = vbasedev->use_region_fds ? region_fds[d] : NULL;
    for (i = 0; i < VM_INDEXES; i++) {
        reginfo[d][i] = NULL;
        region_fds[d][i] = -1;
    }
    groups[d]->fd = -1;
    groups[d]->groupid = (int)d + 1;
    vbasedev->group = groups[d];
    QLIST_INSERT_HEAD(&groups[d]->device_list, vbasedev, next);
    QLIST_INSERT_HEAD(&vfio_group_list, groups[d], next);
    QLIST_INSERT_HEAD(&vfio_device_list, vbasedev, global_next);
}

static void build_region(unsigned r)
{
    const unsigned d = (unsigned)vm_given.region[r].device;
    const u64 size = vm_given.region[r].size, memory = size < VM_PAGE ? VM_PAGE : size;     /* QEMU takes a whole page */
    const bool sparse = vm_given.region[r].sparse, caps = sparse || vm_given.region[r].msix == VM_MSIX_MAPPABLE;
    const u32 flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_MMAP
                      | (vm_given.region[r].writable ? VFIO_REGION_INFO_FLAG_WRITE : 0)
                      | (caps ? VFIO_REGION_INFO_FLAG_CAPS : 0);
    VFIORegion *region = regions[r];
    unsigned a;

    region->vbasedev = &devices[d]->vbasedev;
    region->fd_offset = (off_t)vm_given.region[r].offset;
    region->mem = region_mem[r];
    region->size = size;
    region->flags = flags;
    region->mmaps = mmaps[r];
    region->nr = (uint32_t)vm_given.region[r].index;
    region->nr_mmaps = (uint32_t)vm_given.region[r].n_areas;
    region_fds[d][vm_given.region[r].index] = vm_region_fd(r);
    init_mr(bars[r], memory, &root, ((u64)r + 1) << 41, devices[d]);
    init_mr(region_mem[r], memory, bars[r], 0, devices[d]);
    region_mem[r]->ops = &vfio_region_ops;
    region_mem[r]->opaque = region;
    region_mem[r]->terminates = true;
    for (a = 0; a < VM_AREAS; a++) {
        MemoryRegion *mr = &mmaps[r][a].mem;

        if (a >= vm_given.region[r].n_areas) {
            break;
        }
        mmaps[r][a].offset = (off_t)vm_given.area[r][a].offset;
        mmaps[r][a].size = vm_given.area[r][a].size;
        init_mr(mr, size < VM_PAGE ? memory : vm_given.area[r][a].size, region_mem[r], vm_given.area[r][a].offset,
                devices[d]);
        mr->ram = mr->ram_device = mr->terminates = true;
        mr->opaque = mr;
    }
    infos[r]->info.argsz = sizeof(infos[r]->info);
    infos[r]->info.flags = flags;
    infos[r]->info.index = (u32)vm_given.region[r].index;
    infos[r]->info.size = size;
    infos[r]->info.offset = vm_given.region[r].offset;
    infos[r]->info.cap_offset = caps ? sizeof(infos[r]->info) : 0;
    infos[r]->header.id = sparse ? VFIO_REGION_INFO_CAP_SPARSE_MMAP : VFIO_REGION_INFO_CAP_MSIX_MAPPABLE;
    infos[r]->header.version = 1;
    infos[r]->header.next = 0;
    infos[r]->nr_areas = sparse ? (u32)vm_given.region[r].n_areas : 0;
    for (a = 0; a < VM_AREAS; a++) {
        infos[r]->areas[a].offset = vm_given.area[r][a].offset;
        infos[r]->areas[a].size = vm_given.area[r][a].size;
    }
}

static void build_block(unsigned b)
{
    RAMBlock *block = blocks[b];

    block->host = (uint8_t *)vm_block_host(b);
    block->offset = (u64)b << 41;
    block->used_length = block->max_length = vm_given.block[b].size;
    block->page_size = VM_PAGE;
    if (b == VM_PLAIN) {
        block->mr = &plain_mr;
        block->flags = RAM_SHARED;
        block->fd = 120;
        init_mr(&plain_mr, block->used_length, &root, 0, NULL);
        plain_mr.ram = plain_mr.terminates = true;
    } else {
        VFIOMmap *mapped = &mmaps[vm_given.block[b].region][vm_given.block[b].area];

        block->mr = &mapped->mem;
        block->flags = RAM_PREALLOC;
        block->fd = -1;
        mapped->mmap = block->host;
    }
    block->mr->ram_block = block;
    QLIST_INSERT_HEAD(&ram_list.blocks, block, next);
}

void vm_qemu_build(void)
{
    unsigned i;

    init_mr(&root, 0, NULL, 0, NULL);
    root.size = (__int128_t)1 << 64;
    for (i = 0; i < VM_DEVICES; i++) {
        build_device(i);
    }
    for (i = 0; i < VM_REGIONS; i++) {
        build_region(i);
    }
    for (i = VM_BLOCKS; i-- > 0;) {
        build_block(i);
    }
}

/* ---- look-ups: what each tells is a bit, and what FAULT_REPORTED asks for when one fails --------------------------------- */

#define TELLS_BLOCK 1ull                        /* of the address that failed */
#define TELLS_DEVICE(b) (2ull << (b))
#define TELLS_INDEX(b) (16ull << (b))
#define TELLS_OFFSET(d, index) (128ull << ((d) * VM_INDEXES + (index)))
#define TELLS_FD(d, index) (128ull << ((VM_DEVICES + (d)) * VM_INDEXES + (index)))
#define TELLS_NOTHING (1ull << 62)              /* that another could tell */

static u64 told[VM_STEPS];                      /* by the look-ups of each kind, and what they show to be known */
static u64 shown[VM_STEPS];

static void note_failed(enum vm_step step, u64 wanted, u64 address)
{
    struct vm_failed_look_up failed = {.step = step, .wanted = wanted, .address = address,
                                       .same_before = (wanted & ~told[step]) == 0};
    unsigned i, s;

    for (s = VM_FIND_DEVICE; s < VM_STEPS; s++) {
        failed.before |= s == step ? 0 : told[s] | shown[s];
    }
    /* An index that is open makes one of many objects for CBMC. */
    for (i = 0; i < VM_MOST_FAILED; i++) {
        if (i == vm_kernel.n_failed_look_ups) {
            vm_kernel.failed_look_up[i] = failed;
            vm_kernel.n_failed_look_ups++;
            return;
        }
    }
    vm_leave("room for more failed look-ups");
}

static void note_told(enum vm_step step, u64 tells, u64 shows, u64 address)
{
    unsigned i;

    told[step] |= tells;
    shown[step] |= shows;
    for (i = 0; i < VM_MOST_FAILED; i++) {
        struct vm_failed_look_up *failed = &vm_kernel.failed_look_up[i];
        u64 here = tells & ~TELLS_BLOCK;

        if (i >= vm_kernel.n_failed_look_ups) {
            break;
        }
        if ((tells & TELLS_BLOCK) && address == failed->address) {
            here |= TELLS_BLOCK;
        }
        if (failed->step == step && (failed->wanted & ~here) == 0) {
            failed->again = true;
        } else {
            failed->later |= here;
            failed->before |= shows;
        }
    }
}

static unsigned number_of_device(const VFIODevice *vbasedev)
{
    return vbasedev == &device_0.vbasedev ? 0 : vbasedev == &device_1.vbasedev ? 1 : VM_DEVICES;
}

static unsigned number_of_block(const RAMBlock *block)
{
    return block == &block_0 ? 0 : block == &block_1 ? 1 : block == &block_2 ? 2 : VM_NO_BLOCK;
}

/* By comparing, as in region_of(). */
static unsigned number_of_block_of(const MemoryRegion *mr)
{
    return mr == block_0.mr ? 0 : mr == block_1.mr ? 1 : mr == block_2.mr ? 2 : VM_NO_BLOCK;
}

static VFIODevice *device_of(const MemoryRegion *mr)
{
    return mr->dev == device_0.vbasedev.dev ? &device_0.vbasedev
           : mr->dev == device_1.vbasedev.dev ? &device_1.vbasedev : NULL;
}

static RAMBlock *block_at(u64 address)
{
    unsigned b;

    for (b = 0; b < VM_BLOCKS; b++) {
        if (address - vm_block_host(b) < vm_given.block[b].size) {
            return blocks[b];
        }
    }
    return NULL;
}

/* By comparing: to CBMC, a walk along `container` may lead to any object, and what it reads there be any bits of it. */
static VFIORegion *region_of(const MemoryRegion *mr)
{
    unsigned r, a;

    for (r = 0; r < VM_REGIONS; r++) {
        if (mr == region_mem[r]) {
            return regions[r];
        }
        for (a = 0; a < VM_AREAS; a++) {
            if (mr == &mmaps[r][a].mem) {
                return regions[r];
            }
        }
    }
    return NULL;
}

static u64 offset_bit(const VFIODevice *vbasedev, u64 index)
{
    const unsigned d = number_of_device(vbasedev);

    return d < VM_DEVICES && index < VM_INDEXES ? TELLS_OFFSET(d, index) : TELLS_NOTHING;
}

/* A failed step's; true if it fails. */
static bool look_up_fails(enum vm_step step, u64 wanted, u64 address, int *error)
{
    if (!vm_fails(step, error, NULL)) {
        return false;
    }
    note_failed(step, wanted, address);
    return true;
}

/* Its number, and where the address is in it, or an errno. */
static int find_block(u64 address, unsigned *number, u64 *offset)
{
    RAMBlock *block;
    int error;

    if (look_up_fails(VM_FIND_BLOCK, TELLS_BLOCK, address, &error)) {
        return error;
    }
    block = block_at(address);
    if (!block) {
        return EFAULT;
    }
    *number = number_of_block(block);
    *offset = address - vm_block_host(*number);
    note_told(VM_FIND_BLOCK, TELLS_BLOCK, 0, address);
    return 0;
}

RAMBlock *qemu_ram_block_from_host(void *pointer, bool round_offset, uintptr_t *offset)
{
    unsigned number;
    u64 found;

    if (find_block((u64)pointer, &number, &found)) {
        return NULL;
    }
    *offset = round_offset ? found & (u64)TARGET_PAGE_MASK : found;
    return blocks[number];
}

/* The look-up that the core is handed. */
int vm_find_device_memory(u64 address, struct vm_device_memory *found)
{
    unsigned region, device;
    u64 offset;
    const int error = find_block(address, &found->block, &offset);

    if (error || found->block == VM_PLAIN) {            /* plain RAM is no memory of a device */
        return error ? error : EFAULT;
    }
    region = (unsigned)vm_given.block[found->block].region;
    device = (unsigned)vm_given.region[region].device;
    found->host = vm_block_host(found->block);
    found->size = vm_given.block[found->block].size;
    found->fd = vm_given.device[device].region_fds ? vm_region_fd(region) : vm_device_fd(device);
    found->offset = vm_block_offset(found->block);
    return 0;
}

MemoryRegion *memory_region_from_host(void *pointer, uintptr_t *offset)
{
    RAMBlock *block = qemu_ram_block_from_host(pointer, false, offset);

    return block ? block->mr : NULL;
}

uintptr_t qemu_ram_addr_from_host(void *pointer)
{
    uintptr_t offset;
    RAMBlock *block = qemu_ram_block_from_host(pointer, false, &offset);

    return block ? block->offset + offset : RAM_ADDR_INVALID;
}

int vfio_get_region_index_from_mr(MemoryRegion *mr)
{
    const unsigned b = number_of_block_of(mr);
    const u64 tells = b < VM_BLOCKS ? TELLS_INDEX(b) : TELLS_NOTHING;
    const VFIORegion *region = region_of(mr);
    int error;

    if (look_up_fails(VM_FIND_INDEX, tells, 0, &error) || !region) {
        return -1;
    }
    note_told(VM_FIND_INDEX, tells, 0, 0);
    return (int)region->nr;
}

VFIORegion *vfio_get_region_from_mr(MemoryRegion *mr)
{
    const unsigned b = number_of_block_of(mr);
    VFIORegion *region = region_of(mr);
    const u64 tells = (b < VM_BLOCKS ? TELLS_INDEX(b) | TELLS_DEVICE(b) : TELLS_NOTHING)
                      | (region ? offset_bit(region->vbasedev, region->nr) : TELLS_NOTHING);
    int error;

    if (look_up_fails(VM_FIND_REGION, tells, 0, &error) || !region) {
        return NULL;
    }
    note_told(VM_FIND_REGION, tells, 0, 0);
    return region;
}

/* The blocks of a device: who asks it about a region has found it. */
static u64 devices_shown(unsigned device)
{
    u64 shows = 0;
    unsigned b;

    for (b = 0; b < VM_PLAIN; b++) {
        if (vm_given.region[vm_given.block[b].region].device == device) {
            shows |= TELLS_DEVICE(b);
        }
    }
    return shows;
}

int vfio_device_get_region_info(VFIODevice *vbasedev, int index, struct vfio_region_info **info)
{
    const unsigned d = number_of_device(vbasedev);
    const u64 tells = offset_bit(vbasedev, (u64)(int64_t)index);
    int error = 0;
    unsigned r;

    *info = NULL;
    if (look_up_fails(VM_REGION_INFO, tells, 0, &error)) {
        errno = error;
        return -error;
    }
    for (r = 0; r < VM_REGIONS; r++) {
        if (vm_given.region[r].device == d && (u64)(int64_t)index == vm_given.region[r].index) {
            *info = reginfo[d][index] = &infos[r]->info;
            note_told(VM_REGION_INFO, tells, devices_shown(d), 0);
            return 0;
        }
    }
    errno = EINVAL;
    return -EINVAL;
}

struct vfio_info_cap_header *vfio_get_region_info_cap(struct vfio_region_info *info, uint16_t id)
{
    unsigned r;

    for (r = 0; r < VM_REGIONS; r++) {
        if (info == &infos[r]->info) {
            return (info->flags & VFIO_REGION_INFO_FLAG_CAPS) && infos[r]->header.id == id ? &infos[r]->header : NULL;
        }
    }
    vm_leave("vfio_get_region_info_cap() of what is no region's information");
}

int vfio_device_get_region_fd(VFIODevice *vbasedev, int index)
{
    const unsigned d = number_of_device(vbasedev);
    const u64 tells = d < VM_DEVICES && index >= 0 && index < VM_INDEXES ? TELLS_FD(d, (unsigned)index) : TELLS_NOTHING;
    int error, fd;

    if (look_up_fails(VM_REGION_FD, tells, 0, &error)) {
        return -1;
    }
    fd = !vbasedev->use_region_fds ? vbasedev->fd : index >= 0 && index < VM_INDEXES ? vbasedev->region_fds[index] : -1;
    if (fd >= 0) {
        note_told(VM_REGION_FD, tells, devices_shown(d), 0);
    }
    return fd;
}

VFIODevice *vfio_verify_device_lookup_1(MemoryRegion *mr)
{
    const unsigned b = number_of_block_of(mr);
    const u64 tells = b < VM_BLOCKS ? TELLS_DEVICE(b) : TELLS_NOTHING;
    VFIODevice *found = device_of(mr);
    int error;

    if (look_up_fails(VM_FIND_DEVICE, tells, 0, &error)) {
        return NULL;
    }
    if (found) {
        note_told(VM_FIND_DEVICE, tells, 0, 0);
    }
    return found;
}

static bool look_up_device(struct iovec *iov, VFIODevice **vbasedev, RAMBlock **first, Error **errp)
{
    u64 address, tells;
    RAMBlock *block;
    VFIODevice *found;
    unsigned b;
    int error;

    if (iov == entries + VM_SEGMENTS) {
        vm_die(VM(SURVIVES));           /* nothing can be read behind the last entry */
    }
    address = (u64)iov[0].iov_base;
    block = block_at(address);
    b = number_of_block(block);
    tells = (b < VM_BLOCKS ? TELLS_DEVICE(b) : TELLS_NOTHING) | (first ? TELLS_BLOCK : 0);
    found = block ? device_of(block->mr) : NULL;
    if (look_up_fails(VM_FIND_DEVICE, tells, address, &error) || !found) {
        error_setg(errp, "no VFIO device has the memory");
        return false;
    }
    note_told(VM_FIND_DEVICE, tells, 0, address);
    *vbasedev = found;
    if (first) {
        *first = block;
    }
    return true;
}

bool vfio_verify_device_lookup_3(struct iovec *iov, VFIODevice **vbasedev, Error **errp)
{
    return look_up_device(iov, vbasedev, NULL, errp);
}

bool vfio_verify_device_lookup_4(struct iovec *iov, VFIODevice **vbasedev, RAMBlock **first_rb, Error **errp)
{
    return look_up_device(iov, vbasedev, first_rb, errp);
}

/* ---- what only reads the objects --------------------------------------------------------------------------------------------- */

uintptr_t qemu_ram_block_host_offset(RAMBlock *block, void *host) { return (u64)host - (u64)block->host; }
void *qemu_ram_get_host_addr(RAMBlock *block) { return block->host; }
uintptr_t qemu_ram_get_offset(RAMBlock *block) { return block->offset; }
uintptr_t qemu_ram_get_fd_offset(RAMBlock *block) { return block->fd_offset; }
uintptr_t qemu_ram_get_used_length(RAMBlock *block) { return block->used_length; }
uintptr_t qemu_ram_get_max_length(RAMBlock *block) { return block->max_length; }
const char *qemu_ram_get_idstr(RAMBlock *block) { return block->idstr; }
int qemu_ram_get_fd(RAMBlock *block) { return block->fd; }
size_t qemu_ram_pagesize(RAMBlock *block) { return block->page_size; }
bool qemu_ram_is_shared(RAMBlock *block) { return block->flags & RAM_SHARED; }
MemoryRegion *get_system_memory(void) { return &root; }
Object *memory_region_owner(MemoryRegion *mr) { return mr->owner; }
const char *memory_region_name(const MemoryRegion *mr) { return mr->name; }
bool memory_region_is_ram(MemoryRegion *mr) { return mr->ram; }
bool memory_region_is_ram_device(MemoryRegion *mr) { return mr->ram_device; }
bool memory_region_is_rom(MemoryRegion *mr) { return mr->ram && mr->readonly; }
bool memory_region_is_romd(MemoryRegion *mr) { return mr->rom_device && mr->romd_mode; }
bool memory_region_is_mapped(MemoryRegion *mr) { return mr->container; }
int memory_region_get_fd(MemoryRegion *mr) { return mr->ram_block->fd; }
void *memory_region_get_ram_ptr(MemoryRegion *mr) { return mr->ram_block->host; }

uint64_t memory_region_size(MemoryRegion *mr)
{
    return mr->size == (__int128_t)1 << 64 ? UINT64_MAX : (uint64_t)mr->size;
}

uintptr_t memory_region_get_ram_addr(MemoryRegion *mr)
{
    return mr->ram_block ? mr->ram_block->offset : RAM_ADDR_INVALID;
}

VFIOPCIDevice *vfio_pci_from_vfio_device(VFIODevice *vbasedev)
{
    return vbasedev ? container_of(vbasedev, VFIOPCIDevice, vbasedev) : NULL;
}

/* ---- references, RCU ----------------------------------------------------------------------------------------------------------- */

static int references[VM_DEVICES];

static void refer(const void *object, int change)
{
    unsigned d;

    for (d = 0; d < VM_DEVICES; d++) {
        if (object == devices[d]) {
            references[d] += change;
            if (references[d] < 0) {
                vm_violate(VM(NO_LEAK));
            }
            vm_kernel.kept_references += change;
        }
    }
}

void *object_ref(void *object)
{
    refer(object, 1);
    return object;
}

void object_unref(void *object) { refer(object, -1); }
void memory_region_ref(MemoryRegion *mr) { refer(mr ? mr->owner : NULL, 1); }
void memory_region_unref(MemoryRegion *mr) { refer(mr ? mr->owner : NULL, -1); }

int vfio_verify_rcu_enter(void)
{
    vm_kernel.kept_locks++;
    return 1;
}

void vfio_verify_rcu_leave(const int *guard)
{
    (void)guard;
    if (!vm_kernel.kept_locks) {
        vm_die(VM(SURVIVES));
    }
    vm_kernel.kept_locks--;
}

/* ---- the heap --------------------------------------------------------------------------------------------------------------- */

void *vm_malloc(size_t size)
{
    vm_kernel.kept_blocks++;
    return vm_block(size ? size : 1, false);
}

static void *zeroed(size_t size)
{
    vm_kernel.kept_blocks++;
    return vm_block(size ? size : 1, true);
}

void vm_free(void *pointer)
{
    unsigned r;

    for (r = 0; r < VM_REGIONS; r++) {
        if (pointer == &infos[r]->info) {
            vm_violate(VM(NO_LEAK));            /* it is the device's cache's */
            return;
        }
    }
    if (pointer) {
        vm_kernel.kept_blocks--;
        vm_return(pointer);
    }
}

static size_t product(size_t n, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, size, &bytes)) {
        vm_die(VM(SURVIVES));
    }
    return bytes;
}

void *vm_calloc(size_t n, size_t size) { return zeroed(product(n, size)); }
void *g_malloc(size_t size) { return size ? vm_malloc(size) : NULL; }
void *g_malloc0(size_t size) { return size ? zeroed(size) : NULL; }
void *g_malloc_n(size_t n, size_t size) { return g_malloc(product(n, size)); }
void *g_malloc0_n(size_t n, size_t size) { return g_malloc0(product(n, size)); }
void *g_try_malloc(size_t size) { return g_malloc(size); }
void *g_try_malloc0(size_t size) { return g_malloc0(size); }
void g_free(void *pointer) { vm_free(pointer); }
void *vfio_verify_malloc_n(size_t n, size_t size) { return g_malloc(product(n, size)); }
void *vfio_verify_malloc0_n(size_t n, size_t size) { return g_malloc0(product(n, size)); }
void *vfio_verify_try_malloc_n(size_t n, size_t size) { return g_malloc(product(n, size)); }
void *vfio_verify_try_malloc0_n(size_t n, size_t size) { return g_malloc0(product(n, size)); }
void vfio_verify_free(void *pointer) { vm_free(pointer); }

/* ---- the Error API ------------------------------------------------------------------------------------------------------------- */

struct Error { bool live, is_set; };
#define ERRORS 4

Error *error_abort, *error_fatal;
static Error errors[ERRORS], *callers;
static unsigned n_errors;

static Error *new_error(void)
{
    unsigned i;

    vm_kernel.kept_blocks++;
    for (i = 0; i < ERRORS; i++) {
        if (i == n_errors) {
            n_errors++;
            errors[i].live = true;
            return &errors[i];
        }
    }
    vm_leave("room for more errors");
}

void vfio_verify_error_free(Error *error)
{
    if (!error) {
        return;
    }
    if (!error->live) {
        vm_die(VM(SURVIVES));
    }
    error->live = false;
    vm_kernel.kept_blocks--;
}

void error_free(Error *error) { vfio_verify_error_free(error); }

static unsigned length_of(const char *text)
{
    unsigned n = 0;

    while (n < 200 && text[n]) {
        n++;
    }
    return n;
}

/* What a message is that ends in what is inserted is known where that is all of it. */
static const char *message_of(const char *format, va_list arguments)
{
    const unsigned n = length_of(format);
    const char *inserted;

    if (n < 2 || format[n - 2] != '%' || format[n - 1] != 's') {
        return format;
    }
    if (n > 2) {
        vm_leave("messages that end in a text that is inserted");
    }
    inserted = va_arg(arguments, const char *);
    return inserted ? inserted : "(null)";
}

static void check_message(const char *message, int os_error)
{
    const unsigned n = length_of(message);

    if ((n == 0 && !os_error) || (n > 0 && message[n - 1] == '\n') || os_error < 0) {
        vm_violate(VM(ERROR_SET));
    }
}

void vfio_verify_error_set(Error **errp, int error_class, int os_error, const char *file, int line, const char *function,
                           const char *format, ...)
{
    (void)error_class, (void)file, (void)line, (void)function;
    if (!errp) {
        return;
    }
    if (errp == &error_abort || errp == &error_fatal) {
        vm_die(VM(SURVIVES));
    }
    if (*errp) {
        vm_die(VM(ERROR_SET) | VM(SURVIVES));   /* one over another: it aborts */
    }
    *errp = new_error();
    if (errp == &callers) {
        va_list arguments;

        va_start(arguments, format);
        check_message(message_of(format, arguments), os_error);
        va_end(arguments);
    }
}

void error_propagate(Error **to, Error *error)
{
    if (!error) {
        return;
    }
    if (to == &error_abort || to == &error_fatal) {
        vm_die(VM(SURVIVES));
    }
    if (to && !*to) {
        *to = error;
    } else {
        vfio_verify_error_free(error);
    }
}

static void change(Error **errp)
{
    if (errp && (!*errp || !(*errp)->live)) {
        vm_die(VM(SURVIVES));
    }
}

void error_prepend(Error **errp, const char *format, ...) { (void)format, change(errp); }
void error_append_hint(Error **errp, const char *format, ...) { (void)format, change(errp); }

void error_propagate_prepend(Error **to, Error *error, const char *format, ...)
{
    (void)format;
    error_propagate(to, error);
}

void vfio_verify_errp_guard_begin(struct vfio_verify_errp_guard *guard, Error ***errp)
{
    if (!*errp || *errp == &error_fatal) {
        *errp = &guard->own;
    }
}

void vfio_verify_errp_guard_end(struct vfio_verify_errp_guard *guard) { error_propagate(guard->callers, guard->own); }

const char *error_get_pretty(const Error *error)
{
    if (!error || !error->live) {
        vm_die(VM(SURVIVES));
    }
    return "an error";
}

static void report(Error *error)
{
    if (!error) {
        vm_die(VM(SURVIVES));
    }
    vfio_verify_error_free(error);
}

void error_report_err(Error *error) { report(error); }
void warn_report_err(Error *error) { report(error); }
void error_report(const char *format, ...) { (void)format; }
void warn_report(const char *format, ...) { (void)format; }
void info_report(const char *format, ...) { (void)format; }
int vfio_verify_say(const char *format, ...) { return (void)format, 0; }
_Noreturn void vfio_verify_fatal(const char *format, ...) { (void)format, vm_die(VM(SURVIVES)); }
_Noreturn void g_abort(void) { vm_die(VM(SURVIVES)); }
_Noreturn void vm_abort(void) { vm_die(VM(SURVIVES)); }

_Noreturn void vfio_verify_assertion_failed(const char *expression, const char *file, int line, const char *function)
{
    (void)expression, (void)file, (void)line, (void)function;
    vm_die(VM(SURVIVES));
}

/* That of the C library. */
_Noreturn void vm___assert_fail(const char *expression, const char *file, unsigned line, const char *function)
{
    (void)expression, (void)file, (void)line, (void)function;
    vm_die(VM(SURVIVES));
}

size_t iov_size(const struct iovec *iov, const unsigned int iov_cnt)
{
    size_t bytes = 0;
    unsigned i;

    for (i = 0; i < iov_cnt; i++) {
        bytes += iov[i].iov_len;
    }
    return bytes;
}

/* ---- a call ------------------------------------------------------------------------------------------------------------------------ */

/* The entries end where the array does. */
void vm_qemu_begin(struct vv_call *call, unsigned number)
{
    const unsigned n = (unsigned)vm_given.call[number].n, first = VM_SEGMENTS - n;
    const u64 block = n ? vm_given.call[number].segment[0].block : VM_NO_BLOCK;
    unsigned i;

    for (i = 0; i < VM_SEGMENTS && i < n; i++) {
        const u64 host = vm_block_host((unsigned)vm_given.call[number].segment[i].block);

        entries[first + i].iov_base = (void *)(host + vm_given.call[number].segment[i].offset);
        entries[first + i].iov_len = vm_given.call[number].segment[i].length;
    }
    for (i = 0; i < VM_STEPS; i++) {
        told[i] = shown[i] = 0;
    }
    callers = NULL;
    call->iov = entries + first;
    call->iov_cnt = n;
    call->total_size = vm_given.call[number].total_size;
    call->errp = vm_given.null_errp ? NULL : &callers;
    call->vbasedev = block < VM_PLAIN ? &devices[vm_given.region[vm_given.block[block].region].device]->vbasedev : NULL;
    resource.resource_id = 1;
    resource.iov = call->iov;
    resource.iov_cnt = call->iov_cnt;
    resource.blob_size = call->total_size;
    resource.dmabuf_fd = -1;
    call->res = &resource;
}

bool vm_error_left(void)
{
    if (callers && callers->live) {
        vm_kernel.kept_blocks--;    /* it is the caller's now */
        callers->live = false;
        return true;
    }
    return callers;
}
