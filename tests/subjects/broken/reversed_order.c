/* violates: CONTIGUOUS, CONTENTS | the entries are laid out from the last to the first */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    size_t done = 0;
    char *map;
    unsigned int i;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (i = iov_cnt; i-- > 0; done += iov[i].iov_len) {
        if (!overlay(map + done, iov[i].iov_len, &source, iov[i].iov_base,
                     errp)) {
            munmap(map, total_size);
            return false;
        }
    }
    *addr = map;
    return true;
}
