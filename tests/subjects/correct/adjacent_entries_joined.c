/* conforms | joins entries that follow one another in the block into one overlay */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"
#include <sys/mman.h>

static bool entry_valid(const struct iovec *entry, RAMBlock **block)
{
    const size_t mask = qemu_real_host_page_size() - 1;
    ram_addr_t offset;
    RAMBlock *rb = qemu_ram_block_from_host(entry->iov_base, false, &offset);

    if (!rb || (*block && *block != rb)) {
        return false;
    }
    *block = rb;
    return entry->iov_len > 0 && !(entry->iov_len & mask) &&
           !(offset & mask) && entry->iov_len <= rb->max_length - offset;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    struct vfio_region_info *info = NULL;
    RAMBlock *block = NULL;
    VFIORegion *region;
    size_t sum = 0, done = 0, run;
    unsigned int i;
    char *map;
    int ret, fd;

    for (i = 0; i < iov_cnt; i++) {
        if (!entry_valid(&iov[i], &block) ||
            __builtin_add_overflow(sum, iov[i].iov_len, &sum)) {
            error_setg(errp, "entry %u is invalid", i);
            return false;
        }
    }
    region = block ? vfio_get_region_from_mr(block->mr) : NULL;
    if (!region || sum != total_size) {
        error_setg(errp, "the list describes no dmabuf of %zu bytes",
                   total_size);
        return false;
    }
    ret = vfio_device_get_region_info(region->vbasedev, region->nr, &info);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "region %d", region->nr);
        return false;
    }
    fd = vfio_device_get_region_fd(region->vbasedev, region->nr);

    map = mmap(NULL, total_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "address space");
        return false;
    }
    for (i = 0; i < iov_cnt; done += run) {
        uint8_t *host = iov[i].iov_base;

        for (run = 0; i < iov_cnt && iov[i].iov_base == host + run; i++) {
            run += iov[i].iov_len;
        }
        if (mmap(map + done, run, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                 info->offset + block->mr->addr + (host - block->host)) ==
            MAP_FAILED) {
            error_setg_errno(errp, errno, "run of %zu bytes", run);
            munmap(map, total_size);
            return false;
        }
    }
    *addr = map;
    return true;
}
