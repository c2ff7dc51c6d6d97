/* violates: SURVIVES, CONTENTS | halves a list of seven entries for ever, and maps others from their block's start */
/* may violate: REPEATABLE, CONTIGUOUS, READ_ONLY */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    volatile unsigned int half = iov_cnt;
    DmabufSource source;
    char *map, *at;

    while (half % 8 == 7) {
        half ^= 8;
    }
    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = at = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (mmap(at, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED,
                 source.fd, source.start) == MAP_FAILED) {
            error_setg_errno(errp, errno, "entry %u", i);
            munmap(map, total_size);
            return false;
        }
        at += iov[i].iov_len;
    }
    *addr = map;
    return true;
}
