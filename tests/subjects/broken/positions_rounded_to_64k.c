/* violates: CONTIGUOUS, CONTENTS | starts each overlay at a multiple of 64 KiB, with placeholder between them and after them */

#include "helper.h"
#include "qemu/units.h"
#include "hw/virtio/virtio-gpu.h"

#define SLOT(len) ROUND_UP(len, 64 * KiB)

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res,
                       VFIODevice *vdev)
{
    DmabufSource source;
    size_t size = 0;
    char *map, *at;

    if (!vdev || !prepare(res->iov, res->iov_cnt, res->blob_size, &source,
                          NULL)) {
        return MAP_FAILED;
    }
    for (unsigned int i = 0; i < res->iov_cnt; i++) {
        size += SLOT(res->iov[i].iov_len);
    }
    map = at = reserve(size, NULL);
    if (!map) {
        return MAP_FAILED;
    }
    for (unsigned int i = 0; i < res->iov_cnt; i++) {
        if (!overlay(at, res->iov[i].iov_len, &source, res->iov[i].iov_base,
                     NULL)) {
            munmap(map, size);
            return MAP_FAILED;
        }
        at += SLOT(res->iov[i].iov_len);
    }
    return map;
}
