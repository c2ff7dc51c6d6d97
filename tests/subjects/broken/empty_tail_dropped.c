/* violates: NOT_EMPTY | only for empty entries at the end, after others: they are dropped */
/* may violate: ALIGNED, SAME_BLOCK */

#include "helper.h"
#include "hw/virtio/virtio-gpu.h"

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res,
                       VFIODevice *vdev)
{
    DmabufSource source;
    unsigned int n = res->iov_cnt;
    void *map;

    while (n > 1 && res->iov[n - 1].iov_len == 0) {
        n--;
    }
    if (!vdev || !prepare(res->iov, n, res->blob_size, &source, NULL)) {
        return MAP_FAILED;
    }
    map = reserve(res->blob_size, NULL);
    if (!map) {
        return MAP_FAILED;
    }
    if (!overlay_all(map, res->iov, n, &source, NULL)) {
        munmap(map, res->blob_size);
        return MAP_FAILED;
    }
    return map;
}
