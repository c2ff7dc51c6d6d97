/* conforms | maps a dmabuf whose size ends inside a page also where the list has the whole of that page */

#include <sys/mman.h>
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    RAMBlock *rb, *first = NULL;
    VFIORegion *region = NULL;
    ram_addr_t offset;
    size_t left, len;
    char *map, *at;
    int fd;

    if (total_size > SIZE_MAX - page) {
        error_setg(errp, "too large");
        return false;
    }
    left = ROUND_UP(total_size, page);      /* what mmap() reserves */
    for (unsigned int i = 0; i < iov_cnt; i++) {
        len = iov[i].iov_len;
        rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);
        first = i ? first : rb;
        if (!rb || rb != first || !len || offset % page || len > left ||
            len > rb->max_length - offset || (len % page && i + 1 < iov_cnt)) {
            error_setg(errp, "entry %u cannot be mapped", i);
            return false;
        }
        left -= len;
    }
    if (first) {
        region = vfio_get_region_from_mr(first->mr);
    }
    if (!region || left > ROUND_UP(total_size, page) - total_size) {
        error_setg(errp, "no region, or %zu bytes too few", left);
        return false;
    }
    fd = vfio_device_get_region_fd(region->vbasedev, region->nr);
    map = at = mmap(NULL, total_size, PROT_NONE,
                    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot reserve %zu bytes", total_size);
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        offset = (uint8_t *)iov[i].iov_base - first->host;
        if (mmap(at, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                 region->fd_offset + first->mr->addr + offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "cannot map entry %u", i);
            munmap(map, total_size);
            return false;
        }
        at += iov[i].iov_len;
    }
    *addr = map;
    return true;
}
