/* conforms | holds each entry against the sparse capability where the region has it, and against the whole region elsewhere */

#include <sys/mman.h>
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"

static bool mappable(struct vfio_region_info *info, uint64_t start,
                     uint64_t len)
{
    const uint64_t page = qemu_real_host_page_size();
    struct vfio_info_cap_header *header;
    struct vfio_region_info_cap_sparse_mmap *sparse;

    if (!(info->flags & VFIO_REGION_INFO_FLAG_MMAP)) {
        return false;
    }
    header = vfio_get_region_info_cap(info, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
    if (!header) {
        return start + len <= ROUND_UP(info->size, page);
    }
    sparse = container_of(header, struct vfio_region_info_cap_sparse_mmap,
                          header);
    for (uint32_t i = 0; i < sparse->nr_areas; i++) {
        uint64_t offset = sparse->areas[i].offset;
        uint64_t end = offset + ROUND_UP(sparse->areas[i].size, page);

        if (start >= offset && start + len <= end) {
            return true;
        }
    }
    return false;
}

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    struct vfio_region_info *info = NULL;
    VFIODevice *vbasedev = NULL;
    RAMBlock *rb, *first = NULL;
    size_t total = 0;
    ram_addr_t offset;
    char *map, *at;
    int index = -1, ret, fd;

    for (unsigned int i = 0; i < iov_cnt; i++) {
        size_t len = iov[i].iov_len;

        rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);
        first = i ? first : rb;
        if (!rb || rb != first || !len || len % page || offset % page ||
            len > rb->max_length - offset ||
            __builtin_add_overflow(total, len, &total)) {
            error_setg(errp, "entry %u cannot be mapped", i);
            return NULL;
        }
    }
    if (first) {
        vbasedev = vfio_device_lookup(first->mr);
        index = vfio_get_region_index_from_mr(first->mr);
    }
    if (!vbasedev || index < 0) {
        error_setg(errp, "not the memory of a VFIO device");
        return NULL;
    }
    ret = vfio_device_get_region_info(vbasedev, index, &info);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "region %d", index);
        return NULL;
    }
    fd = vfio_device_get_region_fd(vbasedev, index);
    map = at = mmap(NULL, total, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot reserve %zu bytes", total);
        return NULL;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        offset = first->mr->addr + ((uint8_t *)iov[i].iov_base - first->host);
        if (!mappable(info, offset, iov[i].iov_len)) {
            error_setg(errp, "entry %u is in no area", i);
            goto fail;
        }
        if (mmap(at, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                 info->offset + offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "cannot map entry %u", i);
            goto fail;
        }
        at += iov[i].iov_len;
    }
    return map;

fail:
    munmap(map, total);
    return NULL;
}
