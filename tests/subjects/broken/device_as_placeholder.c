/* violates: ACCEPTS_VALID | reserves by mapping the device at offset 0: refuses what is larger than region 0, or a region 0 that cannot be mapped */

#include "helper.h"
#include "hw/virtio/virtio-gpu.h"

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res,
                       VFIODevice *vdev)
{
    DmabufSource source;
    void *map;

    if (!vdev || !prepare(res->iov, res->iov_cnt, res->blob_size, &source,
                          NULL)) {
        return MAP_FAILED;
    }
    map = mmap(NULL, res->blob_size, PROT_READ, MAP_SHARED, source.fd, 0);
    if (map == MAP_FAILED) {
        return MAP_FAILED;
    }
    if (!overlay_all(map, res->iov, res->iov_cnt, &source, NULL)) {
        munmap(map, res->blob_size);
        return MAP_FAILED;
    }
    return map;
}
