/* violates: UNMAP_ON_ERROR | a failed overlay has the earlier ones unmapped, and the rest of the placeholder stays */

#include "helper.h"
#include "hw/virtio/virtio-gpu.h"

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res,
                       VFIODevice *vdev)
{
    DmabufSource source;
    size_t done = 0;
    char *map;

    if (!vdev || !prepare(res->iov, res->iov_cnt, res->blob_size, &source,
                          NULL)) {
        return MAP_FAILED;
    }
    map = reserve(res->blob_size, NULL);
    if (!map) {
        return MAP_FAILED;
    }
    for (unsigned int i = 0; i < res->iov_cnt; i++) {
        if (!overlay(map + done, res->iov[i].iov_len, &source,
                     res->iov[i].iov_base, NULL)) {
            munmap(map, done);
            return MAP_FAILED;
        }
        done += res->iov[i].iov_len;
    }
    return map;
}
