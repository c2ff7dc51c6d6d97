/* conforms | static look-ups of its own, a walk of vfio_device_list by global_next, NULL on failure */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"
#include "system/ramblock.h"
#include <sys/mman.h>

static bool vfio_device_lookup(struct iovec *iov, VFIODevice **vbasedev,
                               RAMBlock **first_rb, Error **errp)
{
    ram_addr_t unused;
    VFIODevice *candidate;

    *first_rb = qemu_ram_block_from_host(iov->iov_base, false, &unused);
    if (*first_rb && (*first_rb)->mr->dev) {
        QLIST_FOREACH(candidate, &vfio_device_list, global_next) {
            if (candidate->dev == (*first_rb)->mr->dev) {
                *vbasedev = candidate;
                return true;
            }
        }
    }
    error_setg(errp, "no VFIO device has the memory at %p", iov->iov_base);
    return false;
}

static bool vfio_region_lookup(const struct iovec *seg, RAMBlock *first_rb,
                               VFIORegion **region, ram_addr_t *offset,
                               Error **errp)
{
    const uintptr_t mask = qemu_real_host_page_size() - 1;
    RAMBlock *rb = qemu_ram_block_from_host(seg->iov_base, false, offset);

    if (!rb || rb != first_rb) {
        error_setg(errp, "%p is not in the first RAM block", seg->iov_base);
        return false;
    }
    if (!seg->iov_len || ((*offset | seg->iov_len) & mask) ||
        rb->max_length - *offset < seg->iov_len) {
        error_setg(errp, "%zu bytes at %p cannot be mapped", seg->iov_len,
                   seg->iov_base);
        return false;
    }
    *region = vfio_get_region_from_mr(rb->mr);
    if (!*region) {
        error_setg(errp, "%p is in no VFIO region", seg->iov_base);
        return false;
    }
    *offset += rb->mr->addr;
    return true;
}

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    VFIODevice *vbasedev;
    VFIORegion *region;
    RAMBlock *first_rb;
    ram_addr_t offset;
    size_t total = 0, done;
    void *map, *part;
    unsigned int i;

    for (i = 0; i < iov_cnt; i++) {
        if (__builtin_add_overflow(total, iov[i].iov_len, &total)) {
            error_setg(errp, "more bytes than fit a size_t");
            return NULL;
        }
    }
    if (total == 0) {
        error_setg(errp, "nothing to map");
        return NULL;
    }
    if (!vfio_device_lookup(iov, &vbasedev, &first_rb, errp)) {
        return NULL;
    }
    map = mmap(NULL, total, PROT_NONE,
               MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot reserve %zu bytes", total);
        return NULL;
    }
    for (i = 0, done = 0; i < iov_cnt; done += iov[i++].iov_len) {
        if (!vfio_region_lookup(&iov[i], first_rb, &region, &offset, errp)) {
            goto fail;
        }
        part = mmap((char *)map + done, iov[i].iov_len, PROT_READ,
                    MAP_SHARED | MAP_FIXED,
                    vfio_device_get_region_fd(vbasedev, region->nr),
                    region->fd_offset + offset);
        if (part == MAP_FAILED) {
            error_setg_errno(errp, errno, "cannot map region %d", region->nr);
            goto fail;
        }
    }
    return map;

fail:
    munmap(map, total);
    return NULL;
}
