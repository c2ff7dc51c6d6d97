/* violates: UNMAP_ON_ERROR, UNMAP_ON_ERROR | two ways out leave the placeholder mapped: without region information, and with another block */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    struct vfio_region_info *info = NULL;
    RAMBlock *block;
    DmabufSource source;
    ram_addr_t offset;
    VFIORegion *region;
    size_t sum;
    void *map;
    int ret;

    if (iov_cnt == 0) {
        error_setg(errp, "no entries");
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    block = qemu_ram_block_from_host(iov[0].iov_base, false, &offset);
    for (unsigned int i = 1; block && i < iov_cnt; i++) {
        RAMBlock *rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);

        if (rb && rb != block) {
            error_setg(errp, "another block");
            return false;
        }
    }
    if (!check_entries(iov, iov_cnt, &block, &sum, errp) || !check_size(sum, total_size, errp) ||
        !find_source(block, &source, errp)) {
        goto unmap;
    }
    region = vfio_get_region_from_mr(block->mr);
    if (!region) {
        error_setg(errp, "no region");
        goto unmap;
    }
    ret = vfio_device_get_region_info(region->vbasedev, region->nr, &info);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "no region information");
        return false;
    }
    if (overlay_all(map, iov, iov_cnt, &source, errp)) {
        *addr = map;
        return true;
    }
unmap:
    munmap(map, total_size);
    return false;
}
