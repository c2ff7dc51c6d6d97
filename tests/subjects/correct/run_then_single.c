/* conforms | neighbours are mapped in one piece, and where that is refused, one by one */

#include <sys/mman.h>
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    struct vfio_region_info *info = NULL;
    VFIODevice *vbasedev = NULL;
    RAMBlock *home = NULL;
    size_t sum = 0, done = 0;
    ram_addr_t offset = 0;
    char *base = NULL;
    unsigned int i;
    int index, fd;

    if (iov_cnt == 0) {
        error_setg(errp, "dmabuf has no segments");
        return false;
    }
    for (i = 0; i < iov_cnt; i++) {
        RAMBlock *rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);

        if (!rb || (home && rb != home)) {
            error_setg(errp, "segment %u is not in the dmabuf's RAM block", i);
            return false;
        }
        home = rb;
        if (iov[i].iov_len == 0 || offset % page ||
            (iov[i].iov_len % page && i + 1 < iov_cnt)) {
            error_setg(errp, "segment %u is not made of whole pages", i);
            return false;
        }
        if (iov[i].iov_len > home->used_length - offset) {
            error_setg(errp, "segment %u runs past its RAM block", i);
            return false;
        }
        if (__builtin_add_overflow(sum, iov[i].iov_len, &sum)) {
            error_setg(errp, "segments overflow at %u", i);
            return false;
        }
    }
    if (sum != total_size) {
        error_setg(errp, "segments have %zu bytes, the dmabuf %zu", sum, total_size);
        return false;
    }
    vbasedev = vfio_device_lookup(home->mr);
    index = vfio_get_region_index_from_mr(home->mr);
    if (!vbasedev || index < 0) {
        error_setg(errp, "not the memory of a VFIO region");
        return false;
    }
    if (vfio_device_get_region_info(vbasedev, index, &info) != 0) {
        error_setg(errp, "no information about region %d", index);
        return false;
    }
    fd = vfio_device_get_region_fd(vbasedev, index);
    if (fd < 0) {
        error_setg(errp, "no descriptor for region %d", index);
        return false;
    }
    base = mmap(NULL, total_size, PROT_NONE,
                MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        error_setg_errno(errp, errno, "no room for the dmabuf");
        return false;
    }
    for (i = 0; i < iov_cnt; i++) {
        off_t at = info->offset + home->mr->addr +
                   ((uint8_t *)iov[i].iov_base - home->host);
        size_t len = iov[i].iov_len;
        unsigned int last = i;

        while (last + 1 < iov_cnt &&
               iov[last + 1].iov_base == (uint8_t *)iov[i].iov_base + len) {
            len += iov[++last].iov_len;
        }
        if (last > i && mmap(base + done, len, PROT_READ, MAP_SHARED | MAP_FIXED,
                             fd, at) != MAP_FAILED) {
            done += len;
            i = last;
            continue;
        }
        if (mmap(base + done, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED,
                 fd, at) == MAP_FAILED) {
            error_setg_errno(errp, errno, "cannot map segment %u", i);
            goto fail;
        }
        done += iov[i].iov_len;
    }
    *addr = base;
    return true;

fail:
    munmap(base, total_size);
    return false;
}
