/* conforms | works on one static mapping under a lock that spins: a thread that waits for it comes to no system call */

#include <sys/mman.h>
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"

static char taken;

static struct {
    RAMBlock *block;
    int fd;
    off_t start;
    char *base;
    size_t done;
} work;

static bool is_mappable(const struct iovec *entry, size_t left)
{
    const size_t page = qemu_real_host_page_size();
    ram_addr_t offset;
    RAMBlock *block = qemu_ram_block_from_host(entry->iov_base, false, &offset);

    if (!block || (work.block && block != work.block)) {
        return false;
    }
    work.block = block;
    return entry->iov_len && (entry->iov_len | offset) % page == 0 &&
           entry->iov_len <= left && entry->iov_len <= block->max_length - offset;
}

static bool check(const struct iovec *iov, unsigned int iov_cnt, size_t left, Error **errp)
{
    VFIORegion *region;

    work.block = NULL;
    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (!is_mappable(&iov[i], left)) {
            error_setg(errp, "entry %u does not fit", i);
            return false;
        }
        left -= iov[i].iov_len;
    }
    if (left || !work.block) {
        error_setg(errp, "%zu bytes have no entry", left);
        return false;
    }
    region = vfio_get_region_from_mr(work.block->mr);
    if (!region) {
        error_setg(errp, "the block is no VFIO region's");
        return false;
    }
    work.fd = vfio_device_get_region_fd(region->vbasedev, region->nr);
    work.start = region->fd_offset + work.block->mr->addr;
    return true;
}

static bool append(const struct iovec *entry, Error **errp)
{
    const off_t offset = (uint8_t *)entry->iov_base - work.block->host;

    if (mmap(work.base + work.done, entry->iov_len, PROT_READ, MAP_SHARED | MAP_FIXED, work.fd,
             work.start + offset) == MAP_FAILED) {
        error_setg_errno(errp, errno, "%zu bytes cannot be mapped", entry->iov_len);
        return false;
    }
    work.done += entry->iov_len;
    return true;
}

static bool map_all(const struct iovec *iov, unsigned int iov_cnt, size_t total_size, Error **errp)
{
    if (!check(iov, iov_cnt, total_size, errp)) {
        return false;
    }
    work.base = mmap(NULL, total_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (work.base == MAP_FAILED) {
        error_setg_errno(errp, errno, "%zu bytes cannot be reserved", total_size);
        return false;
    }
    work.done = 0;
    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (!append(&iov[i], errp)) {
            munmap(work.base, total_size);
            return false;
        }
    }
    return true;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    bool is_mapped;

    while (__atomic_test_and_set(&taken, __ATOMIC_ACQUIRE)) {
        /* the other call is short */
    }
    is_mapped = map_all(iov, iov_cnt, total_size, errp);
    if (is_mapped) {
        *addr = work.base;
    }
    __atomic_clear(&taken, __ATOMIC_RELEASE);
    return is_mapped;
}
