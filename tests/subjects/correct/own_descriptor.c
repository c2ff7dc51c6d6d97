/* conforms | maps by a duplicate of the descriptor, which is closed whatever the outcome */

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"

static bool overlay_entries(char *map, size_t size, int fd,
                            const struct iovec *iov, unsigned int iov_cnt,
                            Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    RAMBlock *first = NULL;

    while (iov_cnt-- > 0) {
        size_t len = iov->iov_len;
        ram_addr_t offset;
        RAMBlock *rb = qemu_ram_block_from_host(iov->iov_base, false, &offset);
        VFIORegion *region = rb ? vfio_get_region_from_mr(rb->mr) : NULL;

        if (!region || (first && first != rb)) {
            error_setg(errp, "%p is not in the region", iov->iov_base);
            return false;
        }
        first = rb;
        if (len == 0 || len > size || len > rb->max_length - offset ||
            len % page || offset % page) {
            error_setg(errp, "%p: %zu bytes are no part of it", iov->iov_base,
                       len);
            return false;
        }
        if (mmap(map, len, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                 region->fd_offset + rb->mr->addr + offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "%p", iov->iov_base);
            return false;
        }
        map += len;
        size -= len;
        iov++;
    }
    if (size > 0) {
        error_setg(errp, "%zu bytes are not covered", size);
    }
    return size == 0;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    ram_addr_t unused;
    RAMBlock *rb = NULL;
    VFIORegion *region = NULL;
    bool ok = false;
    void *map;
    int fd;

    if (iov_cnt > 0) {
        rb = qemu_ram_block_from_host(iov[0].iov_base, false, &unused);
    }
    if (rb) {
        region = vfio_get_region_from_mr(rb->mr);
    }
    if (!region) {
        error_setg(errp, "not the memory of a VFIO device");
        return false;
    }
    fd = dup(vfio_device_get_region_fd(region->vbasedev, region->nr));
    if (fd < 0) {
        error_setg_errno(errp, errno, "no descriptor to map by");
        return false;
    }
    map = mmap(NULL, total_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "%zu bytes", total_size);
    } else {
        ok = overlay_entries(map, total_size, fd, iov, iov_cnt, errp);
        if (ok) {
            *addr = map;
        } else {
            munmap(map, total_size);
        }
    }
    close(fd);
    return ok;
}
