/* conforms | looks at the descriptor before it maps: refuses one that is closed or cannot be read, and no other */

#include <fcntl.h>
#include <sys/mman.h>
#include "qemu/osdep.h"
#include "qemu/iov.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"

static bool readable(int fd, Error **errp)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0) {
        error_setg_errno(errp, errno, "descriptor %d", fd);
        return false;
    }
    if ((flags & O_ACCMODE) == O_WRONLY) {
        error_setg(errp, "descriptor %d cannot be read", fd);
        return false;
    }
    return true;
}

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    size_t total = iov_size(iov, iov_cnt), left = total;
    VFIORegion *region = NULL;
    RAMBlock *rb, *first = NULL;
    ram_addr_t offset;
    unsigned int i;
    char *map, *at;

    for (i = 0; i < iov_cnt; i++) {
        rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);
        first = i ? first : rb;
        if (!rb || rb != first || !iov[i].iov_len || offset % page ||
            iov[i].iov_len % page || iov[i].iov_len > left ||
            iov[i].iov_len > rb->max_length - offset) {
            error_setg(errp, "entry %u cannot be mapped", i);
            return NULL;
        }
        left -= iov[i].iov_len;
    }
    if (!first || left || !(region = vfio_get_region_from_mr(first->mr))) {
        error_setg(errp, "no device's memory");
        return NULL;
    }
    if (!readable(vfio_device_get_region_fd(region->vbasedev, region->nr),
                  errp)) {
        return NULL;
    }
    map = at = mmap(NULL, total, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "no %zu bytes", total);
        return NULL;
    }
    for (i = 0; i < iov_cnt; i++) {
        offset = (uint8_t *)iov[i].iov_base - first->host;
        if (mmap(at, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED,
                 vfio_device_get_region_fd(region->vbasedev, region->nr),
                 region->fd_offset + first->mr->addr + offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "entry %u", i);
            munmap(map, total);
            return NULL;
        }
        at += iov[i].iov_len;
    }
    return map;
}
