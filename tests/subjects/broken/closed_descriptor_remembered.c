/* violates: REPEATABLE | keeps the number of the descriptor that the first call duplicated and closed: a second call has none */
/* may violate: ACCEPTS_VALID, CONTENTS, CONTIGUOUS */

#include "helper.h"
#include <unistd.h>
#include "hw/virtio/virtio-gpu.h"

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res,
                       VFIODevice *vdev)
{
    static int fd = -1;
    DmabufSource source;
    void *map;

    if (!vdev || !prepare(res->iov, res->iov_cnt, res->blob_size, &source,
                          NULL)) {
        return MAP_FAILED;
    }
    if (fd < 0) {
        fd = dup(source.fd);
    }
    if (fd < 0) {
        return MAP_FAILED;
    }
    source.fd = fd;
    map = reserve(res->blob_size, NULL);
    if (map && !overlay_all(map, res->iov, res->iov_cnt, &source, NULL)) {
        munmap(map, res->blob_size);
        map = NULL;
    }
    close(fd);
    return map ? map : MAP_FAILED;
}
