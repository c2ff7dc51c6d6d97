/* violates: CONTENTS | takes the offset of the region's first mmap area: wrong for memory in the second area and later */
/* may violate: CONTIGUOUS, ACCEPTS_VALID */

#include "helper.h"
#include "hw/virtio/virtio-gpu.h"

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res,
                       VFIODevice *vdev)
{
    DmabufSource source;
    VFIORegion *region;
    void *map;

    if (!vdev || !prepare(res->iov, res->iov_cnt, res->blob_size, &source,
                          NULL)) {
        return MAP_FAILED;
    }
    region = vfio_get_region_from_mr(source.block->mr);
    if (!region) {
        return MAP_FAILED;
    }
    if (region->nr_mmaps > 0) {
        source.start = region->fd_offset + region->mmaps[0].offset;
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
