/* violates: CONFINED, CONTIGUOUS | only when the sum passes 2 GiB before the last entry: the position of an entry is kept in an int */
/* may violate: CONTENTS, UNMAP_ON_ERROR */

#include "helper.h"

bool vfio_dmabuf_mmap(struct iovec *iov, unsigned int iov_cnt, void **addr,
                      size_t total_size, Error **errp)
{
    DmabufSource source;
    int position = 0;
    char *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (!overlay(map + position, iov[i].iov_len, &source, iov[i].iov_base,
                     errp)) {
            munmap(map, total_size);
            return false;
        }
        position += iov[i].iov_len;
    }
    *addr = map;
    return true;
}
