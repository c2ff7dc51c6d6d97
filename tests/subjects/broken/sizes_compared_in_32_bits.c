/* violates: SIZE_AGREES | only when the sizes differ by a multiple of 4 GiB: compares their lower 32 bits */

#include "helper.h"
#include "hw/virtio/virtio-gpu.h"

static bool size_matches(const struct iovec *iov, unsigned int iov_cnt,
                         uint32_t expected)
{
    uint32_t sum = 0;

    while (iov_cnt-- > 0) {
        sum += iov[iov_cnt].iov_len;
    }
    return sum == expected;
}

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res)
{
    DmabufSource source;
    size_t size;
    void *map;

    if (!size_matches(res->iov, res->iov_cnt, res->blob_size) ||
        !prepare_sum(res->iov, res->iov_cnt, &size, &source, NULL)) {
        return MAP_FAILED;
    }
    map = reserve(size, NULL);
    if (!map) {
        return MAP_FAILED;
    }
    if (!overlay_all(map, res->iov, res->iov_cnt, &source, NULL)) {
        munmap(map, size);
        return MAP_FAILED;
    }
    return map;
}
