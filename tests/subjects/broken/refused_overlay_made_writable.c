/* violates: FAULT_REPORTED | an overlay for reading that is refused is tried again for reading and writing */
/* may violate: READ_ONLY */

#include "helper.h"

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    DmabufSource source;
    size_t total;
    char *map, *at;

    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    map = at = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    for (unsigned int i = 0; i < iov_cnt; at += iov[i++].iov_len) {
        if (!overlay(at, iov[i].iov_len, &source, iov[i].iov_base, NULL) &&
            mmap(at, iov[i].iov_len, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_FIXED, source.fd,
                 source_offset(&source, iov[i].iov_base)) == MAP_FAILED) {
            error_setg_errno(errp, errno, "cannot map entry %u", i);
            munmap(map, total);
            return NULL;
        }
    }
    return map;
}
