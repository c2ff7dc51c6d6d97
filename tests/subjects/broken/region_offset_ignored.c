/* violates: CONTENTS | maps at the offset in the region, which is the offset in the file for region 0 only */
/* may violate: CONTIGUOUS, ACCEPTS_VALID */

#include "helper.h"
#include "hw/virtio/virtio-gpu.h"

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res)
{
    DmabufSource source;
    void *map;

    if (!prepare(res->iov, res->iov_cnt, res->blob_size, &source, NULL)) {
        return MAP_FAILED;
    }
    source.start = source.block->mr->addr;

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
