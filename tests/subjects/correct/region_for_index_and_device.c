/* conforms | device and index by their own look-ups, and where one is refused, both from the VFIORegion */

#include "../broken/helper.h"

static bool locate(RAMBlock *block, VFIODevice **vbasedev, int *index,
                   Error **errp)
{
    *vbasedev = vfio_device_lookup(block->mr);
    *index = vfio_get_region_index_from_mr(block->mr);
    if (!*vbasedev || *index < 0) {
        VFIORegion *region = vfio_get_region_from_mr(block->mr);

        if (!region) {
            error_setg(errp, "not the memory of a VFIO region");
            return false;
        }
        *vbasedev = region->vbasedev;
        *index = region->nr;
    }
    return true;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    struct vfio_region_info *info = NULL;
    VFIODevice *vbasedev;
    DmabufSource source;
    RAMBlock *block;
    size_t sum;
    void *map;
    int index, ret;

    if (!check_entries(iov, iov_cnt, &block, &sum, errp) ||
        !check_size(sum, total_size, errp) ||
        !locate(block, &vbasedev, &index, errp)) {
        return false;
    }
    ret = vfio_device_get_region_info(vbasedev, index, &info);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "region %d", index);
        return false;
    }
    source.block = block;
    source.start = info->offset + block->mr->addr;
    source.fd = vfio_device_get_region_fd(vbasedev, index);
    if (source.fd < 0) {
        error_setg(errp, "no descriptor for region %d", index);
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
