/* conforms | reserves first, checks each entry just before its overlay, one exit for errors that prepends */

#include <sys/mman.h>
#include <sys/uio.h>
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    ERRP_GUARD();
    struct vfio_region_info *info = NULL;
    VFIODevice *vbasedev = NULL;
    RAMBlock *rb, *rb0 = NULL;
    size_t filled = 0;
    ram_addr_t offset;
    uint8_t *base;
    int index, ret;

    if (iov_cnt < 1) {
        error_setg(errp, "dmabuf without memory");
        return false;
    }
    if (!vfio_device_lookup(iov, &vbasedev, errp)) {
        return false;
    }
    base = mmap(NULL, total_size, PROT_NONE,
                MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        error_setg_errno(errp, errno, "address range not available");
        return false;
    }

    for (unsigned int i = 0; i < iov_cnt; i++) {
        size_t bytes = iov[i].iov_len;

        rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);
        if (rb == NULL) {
            error_setg(errp, "chunk %u is not guest memory", i);
            goto err;
        }
        rb0 = rb0 ? rb0 : rb;
        if (rb != rb0) {
            error_setg(errp, "chunk %u is of another block", i);
            goto err;
        }
        if (bytes == 0 ||
            !QEMU_IS_ALIGNED(offset, qemu_real_host_page_size()) ||
            !QEMU_IS_ALIGNED(bytes, qemu_real_host_page_size()) ||
            offset + bytes < offset || offset + bytes > rb->max_length ||
            bytes > total_size - filled) {
            error_setg(errp, "chunk %u has bad bounds", i);
            goto err;
        }
        index = vfio_get_region_index_from_mr(rb->mr);
        if (index < 0) {
            error_setg(errp, "chunk %u belongs to no region", i);
            goto err;
        }
        ret = vfio_device_get_region_info(vbasedev, index, &info);
        if (ret) {
            error_setg_errno(errp, -ret, "region %d does not answer", index);
            goto err;
        }
        if (mmap(base + filled, bytes, PROT_READ, MAP_FIXED | MAP_SHARED,
                 vfio_device_get_region_fd(vbasedev, index),
                 info->offset + rb->mr->addr + offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "chunk %u", i);
            goto err;
        }
        filled += bytes;
    }
    if (filled != total_size) {
        error_setg(errp, "%zu of %zu bytes given", filled, total_size);
        goto err;
    }
    *addr = base;
    return true;

err:
    munmap(base, total_size);
    error_prepend(errp, "dmabuf not mapped: ");
    return false;
}
