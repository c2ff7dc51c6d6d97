/* conforms | resolves into a temporary array, errors by way of a local Error that is propagated */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"
#include <sys/mman.h>

static off_t entry_file_offset(const struct iovec *entry, RAMBlock **common,
                               Error **errp)
{
    uint64_t page = sysconf(_SC_PAGESIZE);
    VFIORegion *region;
    ram_addr_t at;
    RAMBlock *rb = qemu_ram_block_from_host(entry->iov_base, false, &at);

    if (!rb || (*common && *common != rb)) {
        error_setg(errp, "RAM block missing, or not that of the others");
        return -1;
    }
    if (entry->iov_len == 0 || (at | entry->iov_len) % page != 0 ||
        entry->iov_len > rb->max_length - at) {
        error_setg(errp, "%zu bytes from 0x%" PRIx64 " of %s", entry->iov_len,
                   (uint64_t)at, rb->idstr);
        return -1;
    }
    region = vfio_get_region_from_mr(rb->mr);
    if (!region) {
        error_setg(errp, "%s is not a VFIO region's", rb->idstr);
        return -1;
    }
    *common = rb;
    return region->fd_offset + rb->mr->addr + at;
}

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    Error *local_err = NULL;
    g_autofree off_t *offsets = g_new(off_t, iov_cnt);
    RAMBlock *block = NULL;
    VFIORegion *region;
    size_t total = 0, done = 0;
    uint8_t *map = MAP_FAILED;
    unsigned int i;
    int fd;

    for (i = 0; i < iov_cnt; i++) {
        offsets[i] = entry_file_offset(&iov[i], &block, &local_err);
        if (local_err) {
            goto out;
        }
        if (iov[i].iov_len > SIZE_MAX - total) {
            error_setg(&local_err, "the entries add up to too much");
            goto out;
        }
        total += iov[i].iov_len;
    }
    region = block ? vfio_get_region_from_mr(block->mr) : NULL;
    if (!region) {
        error_setg(&local_err, "there is no region to map");
        goto out;
    }
    fd = vfio_device_get_region_fd(region->vbasedev, region->nr);

    map = mmap(NULL, total, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(&local_err, errno, "reservation");
        goto out;
    }
    for (i = 0; i < iov_cnt && !local_err; i++) {
        if (mmap(map + done, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED,
                 fd, offsets[i]) == MAP_FAILED) {
            error_setg_errno(&local_err, errno, "overlay %u", i);
        }
        done += iov[i].iov_len;
    }
out:
    if (!local_err) {
        return map;
    }
    if (map != MAP_FAILED) {
        munmap(map, total);
    }
    error_propagate(errp, local_err);
    return NULL;
}
