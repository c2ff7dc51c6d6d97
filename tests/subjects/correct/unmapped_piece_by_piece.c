/* conforms | after a failure each overlay is unmapped by itself, and then the rest */

#include "../broken/helper.h"

static void unmap_pieces(uint8_t *map, const struct iovec *iov, unsigned int n,
                         size_t size)
{
    uint8_t *end = map + size;

    for (unsigned int i = 0; i < n; i++) {
        munmap(map, iov[i].iov_len);
        map += iov[i].iov_len;
    }
    munmap(map, end - map);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    uint8_t *map, *at;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = at = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (!overlay(at, iov[i].iov_len, &source, iov[i].iov_base, errp)) {
            unmap_pieces(map, iov, i, total_size);
            return false;
        }
        at += iov[i].iov_len;
    }
    *addr = map;
    return true;
}
