/*
 * The memfds live as long as the process tree.
 *
 * SPDX-License-Identifier: MIT
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "memory/memory.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)   /* a worker cuts off nothing that the next one needs */

int vv_memfd[VV_MEMFDS];
static struct { u64 dev, inode; } identity[VV_MEMFDS];

u64 vv_slot_of(u64 memory)
{
    return memory == VV_MEM_RAM ? VV_RAM_SLOT
           : memory < VV_MAX_DEVICES ? memory : VV_MAX_DEVICES + memory - VV_MEM_FILE;
}

int vv_memory_fd(u64 memory)
{
    return vv_memfd[vv_slot_of(memory)];
}

static int identify(u64 slot)
{
    struct stat status;

    if (fstat(vv_memfd[slot], &status) < 0) {
        return -1;
    }
    identity[slot].dev = status.st_dev;
    identity[slot].inode = status.st_ino;
    return 0;
}

int vv_memfds_init(void)
{
    u64 slot;

    for (slot = 0; slot < VV_MEMFDS; slot++) {
        const int fd = memfd_create(slot == VV_RAM_SLOT ? "guest-ram" : "vfio-device", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        vv_memfd[slot] = fd;
        if (fd < 0 || ftruncate(fd, (off_t)VV_MEMFD_BYTES) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0
            || identify(slot) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The flags of an open file are those of all processes that inherit it: an earlier worker may have set O_APPEND. */
void vv_memfds_reopen(void)
{
    u64 slot;

    for (slot = 0; slot < VV_MEMFDS; slot++) {
        fcntl(vv_memfd[slot], F_SETFL, 0);
    }
}

int vv_memfds_use(u64 slot, int fd)
{
    return dup3(fd, vv_memfd[slot], O_CLOEXEC) < 0 ? -1 : identify(slot);
}

u64 vv_memory_of_inode(u64 dev, u64 inode)
{
    u64 slot;

    for (slot = 0; slot < VV_MEMFDS; slot++) {
        if (identity[slot].inode == inode && identity[slot].dev == dev) {
            return slot == VV_RAM_SLOT ? VV_MEM_RAM
                   : slot < VV_MAX_DEVICES ? slot : VV_MEM_FILE + slot - VV_MAX_DEVICES;
        }
    }
    return inode ? VV_MEM_OTHER : VV_MEM_ANONYMOUS;
}
