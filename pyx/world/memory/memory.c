/*
 * The arena in which the RAM blocks of a layout are mapped, and the iovec.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <sys/uio.h>

#include "base/base.h"
#include "memory/memory.h"

#define ARENA_BYTES (8ull << 40)
#define ARENA_ADDRESS 0x200000000000ull    /* the same in every process where it is free, so that reports are */
#define NOWHERE_BYTES (1ull << 30)  /* at the arena's end, where no block is ever mapped */
#define GUARD_PAGES 16              /* unmapped between two RAM blocks that do not touch */

struct vv_world vv_world;

static uint8_t *arena;
static u64 arena_used;
static uint8_t *iov_end;            /* where the unreadable page after the iovec begins */

bool vv_slot_in_use(u64 slot)
{
    return slot < VV_MAX_DEVICES ? slot < vv_world.layout.n_devices : slot - VV_MAX_DEVICES < vv_world.n_files;
}

int vv_memory_init(void)
{
    const size_t iov_bytes = VV_MAX_SEGMENTS * sizeof(struct iovec);
    uint8_t *iov;

    if (arena) {
        return 0;
    }
    vv_page_size = vv_host_page = (u64)sysconf(_SC_PAGESIZE);
    iov = vv_room(iov_bytes + vv_page_size);
    if (vv_memfds_init() < 0 || vv_stamps_init() < 0 || !iov
        || mprotect(iov + iov_bytes, vv_page_size, PROT_NONE) < 0) {
        return -1;
    }
    iov_end = iov + iov_bytes;
    /* A hint, not MAP_FIXED: where something is there already, any other place will do. */
    arena = mmap((void *)ARENA_ADDRESS, ARENA_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return arena == MAP_FAILED ? -1 : 0;
}

bool vv_memory_in_arena(u64 address)
{
    return address >= (u64)arena && address < (u64)arena + ARENA_BYTES;
}

/* ---- layouts ------------------------------------------------------------------------------------- */

/* By the world's own table: what a subject did to QEMU's objects does not lead this astray. */
u64 vv_block_at(u64 address)
{
    static u64 recent;                  /* as QEMU does: most look-ups ask for the block of the one before */
    const u64 n = vv_world.layout.n_blocks, first = __atomic_load_n(&recent, __ATOMIC_RELAXED);
    u64 i;

    for (i = 0; i <= n; i++) {
        const u64 b = i ? i - 1 : first;

        if (b < n && address - (u64)vv_world.block_host[b] < vv_world.layout.blocks[b].size) {
            __atomic_store_n(&recent, b, __ATOMIC_RELAXED);
            return b;
        }
    }
    return VV_NONE;
}

u64 vv_block_memory(u64 block)
{
    const struct vv_layout *layout = &vv_world.layout;
    const u64 area = layout->blocks[block].area;

    return area == VV_NONE ? VV_MEM_RAM : layout->regions[layout->areas[area].region].memory;
}

bool vv_block_is_writable(u64 block)
{
    const struct vv_layout *layout = &vv_world.layout;
    const u64 area = layout->blocks[block].area;

    return area == VV_NONE || (layout->regions[layout->areas[area].region].flags & 2);  /* ..._FLAG_WRITE */
}

u64 vv_segment_file_offset(const struct vv_segment *s, u64 *memory)
{
    if (s->block == VV_NONE) {
        return VV_NONE;
    }
    *memory = vv_block_memory(s->block);
    return vv_world.block_file_offset[s->block] + s->offset;
}

static int map_block(u64 i, u64 ram_offset, u64 align)
{
    const struct vv_layout *layout = &vv_world.layout;
    const struct vv_block *block = &layout->blocks[i];
    const u64 bytes = page_up(block->size);
    const int prot = PROT_READ | (vv_block_is_writable(i) ? PROT_WRITE : 0);
    void *host;

    vv_world.block_file_offset[i] = ram_offset;
    if (block->area != VV_NONE) {
        const struct vv_area *area = &layout->areas[block->area];
        const struct vv_region *region = &layout->regions[area->region];

        vv_world.block_file_offset[i] = region->offset + area->offset;
    }
    if (block->touches && i) {
        arena_used -= GUARD_PAGES * vv_page_size;
    }
    arena_used += -((u64)arena + arena_used) & (align - 1);
    host = arena + arena_used;
    if (arena_used + bytes + GUARD_PAGES * vv_page_size > ARENA_BYTES - NOWHERE_BYTES) {
        errno = ENOMEM;
        return -1;
    }
    if (mmap(host, bytes, prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, vv_memory_fd(vv_block_memory(i)),
             (off_t)vv_world.block_file_offset[i]) == MAP_FAILED) {
        return -1;
    }
    vv_world.block_host[i] = host;
    arena_used += bytes + GUARD_PAGES * vv_page_size;
    return 0;
}

int vv_memory_build(const struct vv_layout *layout, u64 align)
{
    u64 i, ram_offset = 0;

    if (arena_used && mmap(arena, arena_used, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
        return -1;
    }
    arena_used = 0;
    vv_trim_stamps();
    vv_world.layout = *layout;
    vv_host_page = layout->page_size;
    vv_world.n_files = 0;
    for (i = 0; i < layout->n_regions; i++) {
        vv_world.n_files += layout->regions[i].memory >= VV_MEM_FILE;
    }
    for (i = 0; i < layout->n_blocks; i++) {
        if (map_block(i, ram_offset, align) < 0) {
            return -1;
        }
        if (layout->blocks[i].area == VV_NONE) {
            ram_offset += page_up(layout->blocks[i].size);
        }
    }
    vv_take_iovec(&layout->iovec);
    return 0;
}

int vv_drop_block(u64 block)
{
    const u64 bytes = page_up(vv_world.layout.blocks[block].size);

    return mmap(vv_world.block_host[block], bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
                -1, 0) == MAP_FAILED ? -1 : 0;
}

void vv_take_iovec(const struct vv_iovec *iovec)
{
    vv_world.layout.iovec = *iovec;
    vv_world.iov = (struct iovec *)iov_end - iovec->n;
    vv_progress->iov_end = (u64)iov_end;
}

/* The iovec lies in memory that the subject can write, so it is filled before each call. */
void vv_fill_iov(struct iovec *iov, const struct vv_iovec *iovec)
{
    uint8_t *const nowhere = arena + ARENA_BYTES - NOWHERE_BYTES;
    u64 i;

    for (i = 0; i < iovec->n; i++) {
        const struct vv_segment *s = &iovec->segments[i];

        iov[i].iov_base = (s->block == VV_NONE ? nowhere : vv_world.block_host[s->block]) + s->offset;
        iov[i].iov_len = s->length;
    }
}
