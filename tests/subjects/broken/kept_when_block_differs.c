/* violates: UNMAP_ON_ERROR | only when the second entry or a later one is in another block: that way out does not unmap */

#include "helper.h"
#include "hw/virtio/virtio-gpu.h"

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res)
{
    RAMBlock *rb, *first = NULL;
    DmabufSource source;
    size_t done = 0, len;
    char *map = reserve(res->blob_size, NULL);

    if (!map) {
        return MAP_FAILED;
    }
    for (unsigned int i = 0; i < res->iov_cnt; i++) {
        len = res->iov[i].iov_len;
        rb = check_entry(&res->iov[i], NULL);
        if (!rb || len > res->blob_size - done ||
            !find_source(rb, &source, NULL)) {
            goto unmap;
        }
        if (first && rb != first) {
            return MAP_FAILED;
        }
        first = rb;
        if (!overlay(map + done, len, &source, res->iov[i].iov_base, NULL)) {
            goto unmap;
        }
        done += len;
    }
    if (done == res->blob_size) {
        return map;
    }
unmap:
    munmap(map, res->blob_size);
    return MAP_FAILED;
}
