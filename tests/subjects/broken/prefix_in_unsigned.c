/* violates: CONTIGUOUS | only when the sum passes 4 GiB before the last entry: the position of an entry is kept in 32 bits */
/* may violate: CONTENTS */

#include "helper.h"

void *vfio_dmabuf_mmap(struct iovec *iov, unsigned int iov_cnt, Error **errp)
{
    DmabufSource source;
    unsigned int position = 0;
    size_t size;
    char *map;

    if (!prepare_sum(iov, iov_cnt, &size, &source, errp)) {
        return NULL;
    }
    map = reserve(size, errp);
    if (!map) {
        return NULL;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (!overlay(map + position, iov[i].iov_len, &source, iov[i].iov_base,
                     errp)) {
            munmap(map, size);
            return NULL;
        }
        position += iov[i].iov_len;
    }
    return map;
}
