/* The helper of an example project: reserves first, then checks each entry as it is laid over the reservation. */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "exec/cpu-common.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"
#include <sys/mman.h>

static RAMBlock *entry_block(const struct iovec *entry, bool last,
                             ram_addr_t *offset, Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    RAMBlock *block = qemu_ram_block_from_host(entry->iov_base, false, offset);

    if (!block) {
        error_setg(errp, "%p is not guest memory", entry->iov_base);
        return NULL;
    }
    if (!entry->iov_len || *offset % page || (!last && entry->iov_len % page)) {
        error_setg(errp, "%p is not a number of whole pages", entry->iov_base);
        return NULL;
    }
    if (entry->iov_len > block->max_length - *offset) {
        error_setg(errp, "%p runs out of its RAM block", entry->iov_base);
        return NULL;
    }
    return block;
}

static bool lay_over(uint8_t *base, size_t size, const struct iovec *iov,
                     unsigned int count, Error **errp)
{
    RAMBlock *common = NULL;
    size_t at = 0;

    for (unsigned int i = 0; i < count; i++) {
        ram_addr_t offset;
        RAMBlock *block = entry_block(&iov[i], i + 1 == count, &offset, errp);
        VFIORegion *region;
        int fd;

        if (!block) {
            return false;
        }
        if (common && block != common) {
            error_setg(errp, "entry %u lies in another RAM block", i);
            return false;
        }
        common = block;
        if (iov[i].iov_len > size - at) {
            error_setg(errp, "the entries are longer than %zu bytes", size);
            return false;
        }
        region = vfio_get_region_from_mr(block->mr);
        if (!region) {
            error_setg(errp, "entry %u is not device memory", i);
            return false;
        }
        fd = vfio_device_get_region_fd(region->vbasedev, region->nr);
        if (mmap(base + at, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED,
                 fd, region->fd_offset + block->mr->addr + offset)
            == MAP_FAILED) {
            error_setg_errno(errp, errno, "entry %u cannot be mapped", i);
            return false;
        }
        at += iov[i].iov_len;
    }
    if (at != size) {
        error_setg(errp, "the entries are shorter than %zu bytes", size);
        return false;
    }
    return true;
}

bool map_dmabuf(struct iovec *iov, unsigned int count, void **addr,
                size_t size, Error **errp)
{
    void *base;

    if (!count) {
        error_setg(errp, "an empty dmabuf cannot be mapped");
        return false;
    }
    base = mmap(NULL, size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        error_setg_errno(errp, errno, "%zu bytes cannot be reserved", size);
        return false;
    }
    if (!lay_over(base, size, iov, count, errp)) {
        munmap(base, size);
        return false;
    }
    *addr = base;
    return true;
}
