/* violates: SURVIVES | only when the region info cannot be had: uses the NULL that is left of it */
/* may violate: FAULT_REPORTED */

#include "helper.h"
#include "hw/virtio/virtio-gpu.h"

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res)
{
    struct vfio_region_info *info = NULL;
    DmabufSource source;
    VFIORegion *region;
    void *map;

    if (!prepare(res->iov, res->iov_cnt, res->blob_size, &source, NULL)) {
        return MAP_FAILED;
    }
    region = vfio_get_region_from_mr(source.block->mr);
    if (!region) {
        return MAP_FAILED;
    }
    vfio_device_get_region_info(region->vbasedev, region->nr, &info);
    source.start = info->offset + source.block->mr->addr;

    map = reserve(res->blob_size, NULL);
    if (!map) {
        return MAP_FAILED;
    }
    if (!overlay_all(map, res->iov, res->iov_cnt, &source, NULL)) {
        munmap(map, res->blob_size);
        return MAP_FAILED;
    }
    return map;
}
