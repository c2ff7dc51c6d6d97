/*
 * RAM blocks and memory regions. The look-up of a block is a step (vfio.c has the table of their arguments).
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/base.h"
#include "memory/memory.h"
#include "qemu/objects.h"
#include "steps/steps.h"

/* ---- RAM blocks -------------------------------------------------------------------------------------- */

VV_EXPORT struct RAMBlock *qemu_ram_block_from_host(void *pointer, bool round_offset, uintptr_t *offset)
{
    struct vv_event *event = vv_begin(VV_FIND_BLOCK, (u64)pointer, round_offset, VV_NONE, 0, 0, 0);
    const u64 block = event->flags & VV_FAULTED ? VV_NONE : vv_block_at((u64)pointer);

    if (block != VV_NONE) {
        *offset = (uintptr_t)pointer - (uintptr_t)vv_world.block_host[block];
        *offset = round_offset ? *offset & (uintptr_t)TARGET_PAGE_MASK : *offset;
        event->arg[2] = *offset;
    }
    vv_end(event, block, 0);
    return block == VV_NONE ? NULL : &vv_live.blocks[block];
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

VV_EXPORT struct MemoryRegion *get_system_memory(void) { return &vv_live.system; }
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
    vv_calls.nested++;
    mapped = map_over_reservation(fd, size, align, flags, offset);
    vv_calls.nested--;
    return mapped;
}

VV_EXPORT void qemu_ram_munmap(int fd, void *pointer, size_t size)
{
    (void)fd;
    if (pointer) {
        vv_calls.nested++;
        vv_munmap(pointer, size + qemu_real_host_page_size());
        vv_calls.nested--;
    }
}
