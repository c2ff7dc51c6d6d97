/* violates: FAULT_REPORTED | only when the region info fails for the second entry or a later one: goes on with what the first got */

#include "helper.h"

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    struct vfio_region_info *info = NULL;
    DmabufSource source;
    VFIORegion *region;
    size_t total;
    char *map, *at;
    int ret;

    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    region = vfio_get_region_from_mr(source.block->mr);
    if (!region) {
        error_setg(errp, "no region");
        return NULL;
    }
    map = at = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    for (unsigned int i = 0; i < iov_cnt; at += iov[i++].iov_len) {
        ret = vfio_device_get_region_info(region->vbasedev, region->nr, &info);
        if (ret == 0) {
            source.start = info->offset + source.block->mr->addr;
        } else if (i == 0) {
            error_setg_errno(errp, -ret, "region %d", region->nr);
            goto unmap;
        }
        if (!overlay(at, iov[i].iov_len, &source, iov[i].iov_base, errp)) {
            goto unmap;
        }
    }
    return map;

unmap:
    munmap(map, total);
    return NULL;
}
