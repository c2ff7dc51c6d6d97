/* conforms | holds the memory region, the device and RCU's read lock, and gives them back on every path */

#include <sys/mman.h>
#include "qemu/osdep.h"
#include "qemu/rcu.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"

static MemoryRegion *region_of_list(const struct iovec *iov,
                                    unsigned int iov_cnt, size_t *total,
                                    Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    RAMBlock *rb, *first = NULL;
    ram_addr_t offset;

    RCU_READ_LOCK_GUARD();
    *total = 0;
    for (unsigned int i = 0; i < iov_cnt; i++) {
        size_t len = iov[i].iov_len;

        rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);
        first = i ? first : rb;
        if (!rb || rb != first || !len || len % page || offset % page ||
            len > rb->max_length - offset ||
            __builtin_add_overflow(*total, len, total)) {
            error_setg(errp, "entry %u cannot be mapped", i);
            return NULL;
        }
    }
    if (!first) {
        error_setg(errp, "no entries");
        return NULL;
    }
    memory_region_ref(first->mr);
    return first->mr;
}

static void *map_region(MemoryRegion *mr, const struct iovec *iov,
                        unsigned int iov_cnt, size_t total, Error **errp)
{
    VFIORegion *region = vfio_get_region_from_mr(mr);
    uint8_t *host;
    char *map, *at;
    int fd;

    if (!region) {
        error_setg(errp, "not the memory of a VFIO region");
        return NULL;
    }
    host = memory_region_get_ram_ptr(mr);
    fd = vfio_device_get_region_fd(region->vbasedev, region->nr);
    map = at = mmap(NULL, total, PROT_NONE,
                    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot reserve %zu bytes", total);
        return NULL;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        off_t offset = (uint8_t *)iov[i].iov_base - host;

        if (mmap(at, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                 region->fd_offset + mr->addr + offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "cannot map entry %u", i);
            munmap(map, total);
            return NULL;
        }
        at += iov[i].iov_len;
    }
    return map;
}

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    MemoryRegion *mr;
    Object *owner;
    void *map = NULL;
    size_t total;

    WITH_RCU_READ_LOCK_GUARD() {
        mr = region_of_list(iov, iov_cnt, &total, errp);
        if (!mr) {
            return NULL;
        }
    }
    owner = object_ref(memory_region_owner(mr));
    map = map_region(mr, iov, iov_cnt, total, errp);
    object_unref(owner);
    memory_region_unref(mr);
    return map;
}
