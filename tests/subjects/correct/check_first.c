/* conforms | checks the whole list by counting down the size, then reserves and overlays */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"
#include <sys/mman.h>

static RAMBlock *dmabuf_block(const struct iovec *iov, unsigned int iov_cnt,
                              size_t total_size, Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    RAMBlock *block = NULL;
    size_t left = total_size;
    unsigned int i;

    if (iov_cnt == 0) {
        error_setg(errp, "the dmabuf has no entries");
        return NULL;
    }
    for (i = 0; i < iov_cnt; i++) {
        size_t len = iov[i].iov_len;
        ram_addr_t offset;
        RAMBlock *rb = qemu_ram_block_from_host(iov[i].iov_base, false,
                                                &offset);

        if (!rb || (block && rb != block)) {
            error_setg(errp, "entry %u is not in the dmabuf's RAM block", i);
            return NULL;
        }
        if (len == 0 || len % page != 0 || offset % page != 0) {
            error_setg(errp, "entry %u is not made of whole pages", i);
            return NULL;
        }
        if (len > rb->max_length - offset || len > left) {
            error_setg(errp, "entry %u is too long", i);
            return NULL;
        }
        block = rb;
        left -= len;
    }
    if (left != 0) {
        error_setg(errp, "the entries fall short by %zu bytes", left);
        return NULL;
    }
    return block;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    RAMBlock *block = dmabuf_block(iov, iov_cnt, total_size, errp);
    VFIORegion *region;
    size_t done = 0;
    off_t start;
    char *map;
    int fd;
    unsigned int i;

    if (!block) {
        return false;
    }
    region = vfio_get_region_from_mr(block->mr);
    if (!region) {
        error_setg(errp, "the dmabuf is not in a VFIO region");
        return false;
    }
    fd = vfio_device_get_region_fd(region->vbasedev, region->nr);
    start = region->fd_offset + block->mr->addr;

    map = mmap(NULL, total_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "no room for %zu bytes", total_size);
        return false;
    }
    for (i = 0; i < iov_cnt; i++) {
        off_t offset = (uint8_t *)iov[i].iov_base - block->host;

        if (mmap(map + done, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED,
                 fd, start + offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "entry %u cannot be mapped", i);
            munmap(map, total_size);
            return false;
        }
        done += iov[i].iov_len;
    }
    *addr = map;
    return true;
}
