/* conforms | an overlay that the host has no room for just now is tried again, three times at most */

#include "../broken/helper.h"
#include "hw/virtio/virtio-gpu.h"

static bool passing(int error)
{
    return error == EAGAIN || error == EINTR || error == ENOMEM;
}

static bool overlay_patiently(void *at, const struct iovec *entry,
                              const DmabufSource *source)
{
    for (int tries = 0; tries < 3; tries++) {
        if (mmap(at, entry->iov_len, PROT_READ, MAP_SHARED | MAP_FIXED,
                 source->fd,
                 source_offset(source, entry->iov_base)) != MAP_FAILED) {
            return true;
        }
        if (!passing(errno)) {
            return false;
        }
    }
    return false;
}

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res,
                       VFIODevice *vdev)
{
    DmabufSource source;
    uint8_t *map, *at;

    if (!vdev ||
        !prepare(res->iov, res->iov_cnt, res->blob_size, &source, NULL)) {
        return MAP_FAILED;
    }
    map = at = reserve(res->blob_size, NULL);
    if (!map) {
        return MAP_FAILED;
    }
    for (unsigned int i = 0; i < res->iov_cnt; i++) {
        if (!overlay_patiently(at, &res->iov[i], &source)) {
            munmap(map, res->blob_size);
            return MAP_FAILED;
        }
        at += res->iov[i].iov_len;
    }
    return map;
}
