/* violates: FAULT_REPORTED | only when an overlay other than the last fails: the result is looked at after the loop */
/* may violate: CONTIGUOUS, CONTENTS, REPEATABLE */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    size_t done = 0;
    char *map, *part = NULL;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        part = mmap(map + done, iov[i].iov_len, PROT_READ,
                    MAP_SHARED | MAP_FIXED, source.fd,
                    source_offset(&source, iov[i].iov_base));
        done += iov[i].iov_len;
    }
    if (part == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot map the entries");
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
