/* violates: ACCEPTS_VALID | walks the list of devices by the links of a group: refuses devices that those do not reach */

#include "helper.h"
#include "hw/virtio/virtio-gpu.h"

static VFIODevice *device_of(RAMBlock *block)
{
    VFIODevice *vbasedev;

    QLIST_FOREACH(vbasedev, &vfio_device_list, next) {
        if (vbasedev->dev == block->mr->dev) {
            return vbasedev;
        }
    }
    return NULL;
}

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res)
{
    DmabufSource source;
    void *map;

    if (!prepare(res->iov, res->iov_cnt, res->blob_size, &source, NULL) ||
        !device_of(source.block)) {
        return MAP_FAILED;
    }
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
