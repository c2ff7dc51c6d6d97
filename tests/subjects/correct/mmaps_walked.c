/* conforms | finds the area in the region's own list of what it has mapped, each of whole pages, and not by the RAMBlock's place */

#include <sys/mman.h>
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"

/* The area that holds all of an entry, NULL with an error set if there is none. */
static VFIOMmap *area_of(VFIORegion *region, const struct iovec *entry, Error **errp)
{
    const size_t page = qemu_real_host_page_size();

    for (uint32_t i = 0; i < region->nr_mmaps; i++) {
        VFIOMmap *area = &region->mmaps[i];
        size_t bytes = ROUND_UP(area->size, page);
        size_t at = (char *)entry->iov_base - (char *)area->mmap;

        if (area->mmap && at < bytes) {
            if (at % page || !entry->iov_len || entry->iov_len % page || entry->iov_len > bytes - at) {
                error_setg(errp, "%p and %zu bytes are not whole pages of the area", entry->iov_base,
                           entry->iov_len);
                return NULL;
            }
            return area;
        }
    }
    error_setg(errp, "%p is not mapped by region %d", entry->iov_base, region->nr);
    return NULL;
}

static VFIORegion *region_of(const struct iovec *iov, unsigned int iov_cnt, Error **errp)
{
    ram_addr_t offset;
    RAMBlock *block = iov_cnt ? qemu_ram_block_from_host(iov->iov_base, false, &offset) : NULL;
    VFIORegion *region = block ? vfio_get_region_from_mr(block->mr) : NULL;

    if (!region) {
        error_setg(errp, "no region's memory");
    }
    return region;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt, void **addr, size_t total_size, Error **errp)
{
    VFIORegion *region = region_of(iov, iov_cnt, errp);
    VFIOMmap *area = NULL;
    size_t left = total_size;
    char *map, *at;
    int fd;

    for (unsigned int i = 0; i < iov_cnt; i++) {
        VFIOMmap *own = region ? area_of(region, &iov[i], errp) : NULL;

        if (!own) {
            return false;
        }
        if ((area && own != area) || iov[i].iov_len > left) {
            error_setg(errp, "entry %u does not belong to the dmabuf", i);
            return false;
        }
        area = own;
        left -= iov[i].iov_len;
    }
    if (!area) {
        return false;
    }
    if (left) {
        error_setg(errp, "%zu bytes are missing", left);
        return false;
    }
    fd = vfio_device_get_region_fd(region->vbasedev, region->nr);
    map = at = mmap(NULL, total_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot reserve %zu bytes", total_size);
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        off_t offset = (char *)iov[i].iov_base - (char *)area->mmap;

        if (mmap(at, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                 region->fd_offset + area->offset + offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "cannot map entry %u", i);
            munmap(map, total_size);
            return false;
        }
        at += iov[i].iov_len;
    }
    *addr = map;
    return true;
}
