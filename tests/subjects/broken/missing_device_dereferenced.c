/* violates: SURVIVES | only when the first entry is not a device's memory: uses the device it did not get */

#include "helper.h"
#include "hw/virtio/virtio-gpu.h"

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res,
                       VFIODevice *vdev)
{
    struct vfio_region_info *info = NULL;
    DmabufSource source;
    RAMBlock *block;
    size_t sum;
    void *map;
    int index;

    if (!check_entries(res->iov, res->iov_cnt, &block, &sum, NULL) ||
        sum != res->blob_size || block->mr->dev != vdev->dev) {
        return MAP_FAILED;
    }
    index = vfio_get_region_index_from_mr(block->mr);
    if (index < 0 || vfio_device_get_region_info(vdev, index, &info) < 0) {
        return MAP_FAILED;
    }
    source.block = block;
    source.fd = vfio_device_get_region_fd(vdev, index);
    source.start = info->offset + block->mr->addr;

    map = reserve(sum, NULL);
    if (!map) {
        return MAP_FAILED;
    }
    if (!overlay_all(map, res->iov, res->iov_cnt, &source, NULL)) {
        munmap(map, sum);
        return MAP_FAILED;
    }
    return map;
}
