/*
 * The memory of the world: one memfd a device, some for regions that have a file of their own, one more
 * for plain RAM, and an arena in which the RAM blocks of a layout are mapped.
 *
 * The memfds live as long as the process tree and are never filled as a whole: a page is stamped
 * when a layout first needs it, and stays stamped, since a stamp depends on the place alone.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "internal.h"

#define ARENA_BYTES (8ull << 40)
#define ARENA_ADDRESS 0x200000000000ull    /* the same in every process where it is free, so that reports are */
#define NOWHERE_BYTES (1ull << 30)  /* at the arena's end, where no block is ever mapped */
#define GUARD_PAGES 16              /* unmapped between two RAM blocks that do not touch */
#define KEPT_STAMPED 4096           /* pages; with more, all are given back before the next layout */
#define STAMP_SLOTS 262144          /* several times what a layout's comparison needs, and KEPT_STAMPED */
#define STAMP_BATCH 16              /* pages written at once */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)   /* a worker cuts off nothing that the next one needs */

u64 vv_page_size, vv_host_page;
struct vv_world vv_world;

#define RAM_SLOT VV_DEVICE_FILES

static struct { u64 dev, inode; } identity[RAM_SLOT + 1];
static uint8_t *arena;
static u64 arena_used;
static uint8_t *iov_end;            /* where the unreadable page after the iovec begins */
static u64 *stamped;                /* open addressing; 0 is empty */
static u64 n_stamped;
static u64 *stamp_buffer;

/* The position of a device's file, or of a region's, in vv_world.device_fd. */
static u64 slot_of(u64 memory)
{
    return memory < VV_MAX_DEVICES ? memory : VV_MAX_DEVICES + memory - VV_MEM_FILE;
}

int vv_memory_fd(u64 memory)
{
    return memory == VV_MEM_RAM ? vv_world.ram_fd : vv_world.device_fd[slot_of(memory)];
}

bool vv_slot_in_use(u64 slot)
{
    return slot < VV_MAX_DEVICES ? slot < vv_world.layout.n_devices : slot - VV_MAX_DEVICES < vv_world.n_files;
}

/* stamp_name() in vfio_verify/values/words.py reads it. */
u64 vv_stamp(u64 memory, u64 file_offset)
{
    return (memory == VV_MEM_RAM ? memory : slot_of(memory) + 1) << 60 | (file_offset & (VV_MEMFD_BYTES - 1));
}

static int make_memfd(const char *name, int *fd, int slot)
{
    struct stat status;

    *fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0 || ftruncate(*fd, (off_t)VV_MEMFD_BYTES) < 0 || fcntl(*fd, F_ADD_SEALS, SEALS) < 0
        || fstat(*fd, &status) < 0) {
        return -1;
    }
    identity[slot].dev = status.st_dev;
    identity[slot].inode = status.st_ino;
    return 0;
}

/* The flags of an open file are those of all processes that inherit it: a worker before may have had all that is
 * written put at its end. */
void vv_memory_reopen(void)
{
    int i;

    for (i = 0; i < VV_DEVICE_FILES; i++) {
        fcntl(vv_world.device_fd[i], F_SETFL, 0);
    }
    fcntl(vv_world.ram_fd, F_SETFL, 0);
}

int vv_memory_use(u64 slot, int fd)
{
    struct stat status;

    if (dup3(fd, vv_world.device_fd[slot], O_CLOEXEC) < 0 || fstat(fd, &status) < 0) {
        return -1;
    }
    identity[slot].dev = status.st_dev;
    identity[slot].inode = status.st_ino;
    return 0;
}

void *vv_room(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

int vv_memory_init(void)
{
    const size_t iov_bytes = VV_MAX_SEGMENTS * sizeof(struct iovec);
    uint8_t *iov;
    int i;

    if (arena) {
        return 0;
    }
    vv_page_size = vv_host_page = (u64)sysconf(_SC_PAGESIZE);
    for (i = 0; i < VV_DEVICE_FILES; i++) {
        if (make_memfd("vfio-device", &vv_world.device_fd[i], i) < 0) {
            return -1;
        }
    }
    if (make_memfd("guest-ram", &vv_world.ram_fd, RAM_SLOT) < 0) {
        return -1;
    }
    iov = vv_room(iov_bytes + vv_page_size);
    stamped = vv_room(STAMP_SLOTS * sizeof(u64));
    stamp_buffer = vv_room(STAMP_BATCH * vv_page_size);
    if (!iov || !stamped || !stamp_buffer || mprotect(iov + iov_bytes, vv_page_size, PROT_NONE) < 0) {
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

void vv_memory_of_inode(u64 dev, u64 inode, u64 *memory)
{
    u64 i;

    for (i = 0; i <= RAM_SLOT; i++) {
        if (identity[i].inode == inode && identity[i].dev == dev) {
            *memory = i == RAM_SLOT ? VV_MEM_RAM : i < VV_MAX_DEVICES ? i : VV_MEM_FILE + i - VV_MAX_DEVICES;
            return;
        }
    }
    *memory = inode ? VV_MEM_OTHER : VV_MEM_ANONYMOUS;
}

/* ---- stamps -------------------------------------------------------------------------------------- */

static bool stamped_before(u64 key)
{
    u64 slot = (key * 0x9e3779b97f4a7c15ull) >> 40;

    for (;; slot++) {
        slot %= STAMP_SLOTS;
        if (stamped[slot] == key) {
            return true;
        }
        if (!stamped[slot]) {
            stamped[slot] = key;
            n_stamped++;
            return false;
        }
    }
}

bool vv_room_for_stamps(u64 pages)
{
    return n_stamped + pages <= STAMP_SLOTS * 3 / 4;
}

void vv_forget_stamps(void)
{
    u64 slot;

    for (slot = 0; slot <= RAM_SLOT; slot++) {
        int fd = slot == RAM_SLOT ? vv_world.ram_fd : vv_world.device_fd[slot];
        (void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)VV_MEMFD_BYTES);
    }
    /* Private and anonymous: given back, it reads as zeros. A new process would copy each page to clear it. */
    if (madvise(stamped, STAMP_SLOTS * sizeof(u64), MADV_DONTNEED) < 0) {
        memset(stamped, 0, STAMP_SLOTS * sizeof(u64));
    }
    n_stamped = 0;
}

static int write_stamps(u64 memory, u64 file_offset, u64 n_pages)
{
    const u64 words = n_pages * vv_page_size / sizeof(u64);
    const u64 first = vv_stamp(memory, file_offset);
    u64 i;

    for (i = 0; i < words; i++) {
        stamp_buffer[i] = first + i * sizeof(u64);
    }
    if (pwrite(vv_memory_fd(memory), stamp_buffer, n_pages * vv_page_size, (off_t)file_offset)
        != (ssize_t)(n_pages * vv_page_size)) {
        return -1;
    }
    return 0;
}

/* Stamps the pages that are not stamped yet. Call it for all pages that a layout compares before
 * any of them is looked at: it may give back every page that was stamped before. */
int vv_stamp_pages(u64 memory, u64 file_offset, u64 n_pages)
{
    u64 done, run = 0;

    for (done = 0; done < n_pages; done++) {
        u64 at = file_offset + done * vv_page_size;
        bool known = stamped_before(vv_stamp(memory, at) | 1);

        if (!known) {
            run++;
        }
        if (run && (known || run == STAMP_BATCH || done + 1 == n_pages)) {
            u64 end = known ? done : done + 1;
            if (write_stamps(memory, file_offset + (end - run) * vv_page_size, run) < 0) {
                return -1;
            }
            run = 0;
        }
    }
    return 0;
}

/* ---- layouts ------------------------------------------------------------------------------------- */

u64 vv_block_memory(u64 block)
{
    const struct vv_layout *layout = &vv_world.layout;
    const u64 area = layout->blocks[block].area;

    return area == VV_NONE ? VV_MEM_RAM : layout->regions[layout->areas[area].region].memory;
}

u64 vv_segment_file_offset(u64 segment, u64 *memory)
{
    const struct vv_layout *layout = &vv_world.layout;
    const struct vv_segment *s = &layout->segments[segment];

    if (s->block == VV_NONE) {
        return VV_NONE;
    }
    *memory = vv_block_memory(s->block);
    return vv_world.block_file_offset[s->block] + s->offset;
}

static int map_block(u64 i, u64 ram_offset)
{
    const struct vv_layout *layout = &vv_world.layout;
    const struct vv_block *block = &layout->blocks[i];
    const u64 bytes = page_up(block->size);
    int prot = PROT_READ | PROT_WRITE;
    void *host;

    vv_world.block_file_offset[i] = ram_offset;
    if (block->area != VV_NONE) {
        const struct vv_area *area = &layout->areas[block->area];
        const struct vv_region *region = &layout->regions[area->region];

        vv_world.block_file_offset[i] = region->offset + area->offset;
        if (!(region->flags & 2)) {     /* VFIO_REGION_INFO_FLAG_WRITE */
            prot = PROT_READ;
        }
    }
    if (block->touches && i) {
        arena_used -= GUARD_PAGES * vv_page_size;
    }
    arena_used += -((u64)arena + arena_used) & ((vv_kernel.kind == VV_HUGETLB ? VV_HUGE_BYTES : vv_host_page) - 1);
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

int vv_memory_build(const struct vv_layout *layout)
{
    u64 i, ram_offset = 0;

    if (arena_used && mmap(arena, arena_used, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
        return -1;
    }
    arena_used = 0;
    if (n_stamped > KEPT_STAMPED) {
        vv_forget_stamps();
    }
    vv_world.layout = *layout;
    vv_host_page = layout->page_size;
    if (vv_subject_zeroed) {
        vv_subject = layout->zeroed ? vv_subject_zeroed : vv_subject_patterned;
    }
    vv_world.n_files = 0;
    for (i = 0; i < layout->n_regions; i++) {
        if (layout->regions[i].memory >= VV_MEM_FILE) {
            vv_world.n_files++;
        }
    }
    for (i = 0; i < layout->n_blocks; i++) {
        if (map_block(i, ram_offset) < 0) {
            return -1;
        }
        if (layout->blocks[i].area == VV_NONE) {
            ram_offset += page_up(layout->blocks[i].size);
        }
    }
    vv_take_segments(layout->segments, layout->n_segments, layout->total_size);
    return 0;
}

void vv_take_segments(const struct vv_segment *segments, u64 n, u64 total_size)
{
    vv_world.layout.segments = segments;
    vv_world.layout.n_segments = n;
    vv_world.layout.total_size = total_size;
    vv_world.iov = (struct iovec *)iov_end - n;
    vv_progress->iov_end = (u64)iov_end;
}

int vv_drop_block(u64 block)
{
    const u64 bytes = page_up(vv_world.layout.blocks[block].size);

    return mmap(vv_world.block_host[block], bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
                -1, 0) == MAP_FAILED ? -1 : 0;
}

/* The iovec lies in memory that the subject can write, so it is filled before each call. */
void vv_fill_iov(void)
{
    const struct vv_layout *layout = &vv_world.layout;
    u64 i;

    for (i = 0; i < layout->n_segments; i++) {
        const struct vv_segment *s = &layout->segments[i];
        uint8_t *nowhere = arena + ARENA_BYTES - NOWHERE_BYTES;
        uint8_t *base = s->block == VV_NONE ? nowhere : vv_world.block_host[s->block];

        vv_world.iov[i].iov_base = base + s->offset;
        vv_world.iov[i].iov_len = s->length;
    }
}
