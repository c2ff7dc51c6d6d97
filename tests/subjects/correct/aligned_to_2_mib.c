/* conforms | reserves too much to reach 2 MiB alignment, and trims both ends before the first overlay */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"
#include <sys/mman.h>

static void *reserve_aligned(size_t size, Error **errp)
{
    const size_t align = 2 * MiB;
    size_t head, tail;
    char *map;

    if (size > SIZE_MAX - align) {
        error_setg(errp, "too large");
        return NULL;
    }
    map = mmap(NULL, size + align, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot reserve %zu bytes", size + align);
        return NULL;
    }
    head = ROUND_UP((uintptr_t)map, align) - (uintptr_t)map;
    tail = align - head;
    if (head && munmap(map, head) < 0) {
        error_setg_errno(errp, errno, "cannot trim");
        munmap(map, size + align);
        return NULL;
    }
    if (tail && munmap(map + head + size, tail) < 0) {
        error_setg_errno(errp, errno, "cannot trim");
        munmap(map + head, size + tail);
        return NULL;
    }
    return map + head;
}

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    VFIORegion *region = NULL;
    RAMBlock *block = NULL, *rb;
    size_t total = 0, done = 0, len;
    ram_addr_t offset;
    char *map;
    int fd;

    for (unsigned int i = 0; i < iov_cnt; i++) {
        len = iov[i].iov_len;
        rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);
        block = i == 0 ? rb : block;
        if (!rb || rb != block || !len || !QEMU_IS_ALIGNED(len, page) ||
            !QEMU_IS_ALIGNED(offset, page) || len > rb->max_length - offset ||
            len > SIZE_MAX - total) {
            error_setg(errp, "entry %u is of no use", i);
            return NULL;
        }
        total += len;
    }
    if (block) {
        region = vfio_get_region_from_mr(block->mr);
    }
    if (!region) {
        error_setg(errp, "no VFIO region");
        return NULL;
    }
    fd = vfio_device_get_region_fd(region->vbasedev, region->nr);
    map = reserve_aligned(total, errp);
    if (!map) {
        return NULL;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        len = iov[i].iov_len;
        offset = (uint8_t *)iov[i].iov_base - block->host;
        if (mmap(map + done, len, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                 region->fd_offset + block->mr->addr + offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "entry %u", i);
            munmap(map, total);
            return NULL;
        }
        done += len;
    }
    return map;
}
