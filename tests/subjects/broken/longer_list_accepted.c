/* violates: SIZE_AGREES | refuses only a list shorter than the blob, and maps a longer one whole */

#include "helper.h"
#include "hw/virtio/virtio-gpu.h"

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res,
                       VFIODevice *vdev)
{
    DmabufSource source;
    size_t sum;
    void *map;

    if (!vdev || !prepare_sum(res->iov, res->iov_cnt, &sum, &source, NULL) ||
        sum < res->blob_size) {
        return MAP_FAILED;
    }
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
