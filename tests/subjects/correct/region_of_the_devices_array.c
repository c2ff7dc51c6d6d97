/* conforms | takes descriptor, place and flags of the region from the device's own fields, whichever kind of device it is */

#include <sys/mman.h>
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"

static int region_descriptor(const VFIORegion *region)
{
    const VFIODevice *vbasedev = region->vbasedev;

    if (!vbasedev->use_region_fds) {
        return vbasedev->fd;
    }
    return region->nr < vbasedev->num_initial_regions
               ? vbasedev->region_fds[region->nr] : -1;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    VFIORegion *region;
    RAMBlock *block = NULL;
    size_t left = total_size;
    uint8_t *map, *at;
    int fd;

    for (unsigned int i = 0; i < iov_cnt; i++) {
        ram_addr_t offset;
        RAMBlock *rb = qemu_ram_block_from_host(iov[i].iov_base, false,
                                                &offset);

        if (!rb || (block && rb != block)) {
            error_setg(errp, "entry %u is not in the RAM block", i);
            return false;
        }
        block = rb;
        if (!iov[i].iov_len || iov[i].iov_len % page || offset % page ||
            iov[i].iov_len > left || iov[i].iov_len > rb->max_length - offset) {
            error_setg(errp, "entry %u does not fit", i);
            return false;
        }
        left -= iov[i].iov_len;
    }
    region = block ? vfio_get_region_from_mr(block->mr) : NULL;
    fd = region ? region_descriptor(region) : -1;
    if (left || fd < 0 || !(region->flags & VFIO_REGION_INFO_FLAG_MMAP)) {
        error_setg(errp, "%zu bytes, or no descriptor, are missing", left);
        return false;
    }
    map = at = mmap(NULL, total_size, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "no room for %zu bytes", total_size);
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        off_t offset = (uint8_t *)iov[i].iov_base - block->host;

        if (mmap(at, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                 region->fd_offset + block->mr->addr + offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "entry %u is not mapped", i);
            munmap(map, total_size);
            return false;
        }
        at += iov[i].iov_len;
    }
    *addr = map;
    return true;
}
