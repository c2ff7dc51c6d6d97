/* violates: ACCEPTS_VALID | adds the lengths up in an int, and so refuses what exceeds 2 GiB */

#include "helper.h"
#include "hw/virtio/virtio-gpu.h"

static int add_lengths(const struct iovec *iov, unsigned int iov_cnt)
{
    int total = 0;

    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (__builtin_add_overflow(total, iov[i].iov_len, &total)) {
            return -1;
        }
    }
    return total;
}

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res)
{
    DmabufSource source;
    void *map;
    int total = add_lengths(res->iov, res->iov_cnt);

    if (total < 0 ||
        !prepare(res->iov, res->iov_cnt, res->blob_size, &source, NULL)) {
        return MAP_FAILED;
    }
    map = reserve(total, NULL);
    if (!map) {
        return MAP_FAILED;
    }
    if (!overlay_all(map, res->iov, res->iov_cnt, &source, NULL)) {
        munmap(map, total);
        return MAP_FAILED;
    }
    return map;
}
