/* conforms | overlays that nobody can read until all are there, and then one mprotect() for the whole */

#include "../broken/helper.h"

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
    for (unsigned int i = 0; i < iov_cnt; at += iov[i++].iov_len) {
        if (mmap(at, iov[i].iov_len, PROT_NONE, MAP_SHARED | MAP_FIXED,
                 source.fd,
                 source_offset(&source, iov[i].iov_base)) == MAP_FAILED) {
            error_setg_errno(errp, errno, "entry %u", i);
            goto fail;
        }
    }
    if (mprotect(map, total_size, PROT_READ) < 0) {
        error_setg_errno(errp, errno, "cannot open the mapping for reading");
        goto fail;
    }
    *addr = map;
    return true;

fail:
    munmap(map, total_size);
    return false;
}
