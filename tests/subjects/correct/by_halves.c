/* conforms | maps one half of the list and then the other, by recursion as deep as the logarithm of its length */

#include "../broken/helper.h"

static bool overlay_part(uint8_t *map, const struct iovec *iov, unsigned int n,
                         const DmabufSource *source, Error **errp)
{
    const unsigned int half = n / 2;
    size_t bytes = 0;

    if (n == 1) {
        return overlay(map, iov->iov_len, source, iov->iov_base, errp);
    }
    for (unsigned int i = 0; i < half; i++) {
        bytes += iov[i].iov_len;
    }
    /* The second half first: no address depends on the order. */
    return overlay_part(map + bytes, iov + half, n - half, source, errp) &&
           overlay_part(map, iov, half, source, errp);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    if (!overlay_part(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
