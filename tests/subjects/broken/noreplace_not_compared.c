/* violates: CONFINED | where MAP_FIXED_NOREPLACE is not known, takes an address that it did not get for one that was free */
/* may violate: UNMAP_ON_ERROR, CONTIGUOUS, CONTENTS, READ_ONLY, SURVIVES */

#include "helper.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    char *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = (char *)source.block->host;       /* taken, of course: EEXIST */
    if (mmap(map, total_size, PROT_NONE,
             MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED) {
        map = reserve(total_size, errp);
    }
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
