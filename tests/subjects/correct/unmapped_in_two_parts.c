/* conforms | on failure unmaps the overlays first and the rest of the reservation after, each page once */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"
#include <sys/mman.h>

static VFIORegion *entry_region(const struct iovec *entry, RAMBlock **block,
                                ram_addr_t *offset, Error **errp)
{
    size_t page = qemu_real_host_page_size();
    RAMBlock *rb = qemu_ram_block_from_host(entry->iov_base, false, offset);
    VFIORegion *region;

    if (!rb) {
        error_setg(errp, "no RAM block at %p", entry->iov_base);
        return NULL;
    }
    if (*block && *block != rb) {
        error_setg(errp, "a second RAM block at %p", entry->iov_base);
        return NULL;
    }
    if (!entry->iov_len || entry->iov_len % page || *offset % page) {
        error_setg(errp, "no whole pages at %p", entry->iov_base);
        return NULL;
    }
    if (entry->iov_len > rb->max_length - *offset) {
        error_setg(errp, "not enough memory at %p", entry->iov_base);
        return NULL;
    }
    region = vfio_get_region_from_mr(rb->mr);
    if (!region) {
        error_setg(errp, "no region at %p", entry->iov_base);
        return NULL;
    }
    *block = rb;
    *offset += rb->mr->addr;
    return region;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    RAMBlock *block = NULL;
    VFIORegion *region;
    ram_addr_t offset;
    size_t done = 0;
    char *map;
    unsigned int i;

    map = mmap(NULL, total_size, PROT_NONE,
               MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "reservation of %zu bytes", total_size);
        return false;
    }
    for (i = 0; i < iov_cnt; i++) {
        region = entry_region(&iov[i], &block, &offset, errp);
        if (!region) {
            goto undo;
        }
        if (iov[i].iov_len > total_size - done) {
            error_setg(errp, "entry %u is one too many", i);
            goto undo;
        }
        if (mmap(map + done, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED,
                 vfio_device_get_region_fd(region->vbasedev, region->nr),
                 region->fd_offset + offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "entry %u is not mappable", i);
            goto undo;
        }
        done += iov[i].iov_len;
    }
    if (done != total_size || done == 0) {
        error_setg(errp, "entries end at %zu", done);
        goto undo;
    }
    *addr = map;
    return true;

undo:
    if (done > 0) {
        munmap(map, done);
    }
    if (done < total_size) {
        munmap(map + done, total_size - done);
    }
    return false;
}
