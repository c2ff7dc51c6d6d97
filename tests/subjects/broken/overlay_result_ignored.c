/* violates: FAULT_REPORTED | does not look at what the overlays return */
/* may violate: CONTIGUOUS, CONTENTS */

#include "helper.h"
#include "hw/virtio/virtio-gpu.h"

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res,
                       VFIODevice *vdev)
{
    DmabufSource source;
    char *map, *at;

    if (!vdev || !prepare(res->iov, res->iov_cnt, res->blob_size, &source,
                          NULL)) {
        return MAP_FAILED;
    }
    map = at = reserve(res->blob_size, NULL);
    if (!map) {
        return MAP_FAILED;
    }
    for (unsigned int i = 0; i < res->iov_cnt; i++) {
        overlay(at, res->iov[i].iov_len, &source, res->iov[i].iov_base, NULL);
        at += res->iov[i].iov_len;
    }
    return map;
}
