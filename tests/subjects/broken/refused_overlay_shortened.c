/* violates: FAULT_REPORTED | an overlay that is refused is tried again one page shorter */
/* may violate: CONTIGUOUS, CONTENTS, REPEATABLE */

#include "helper.h"

/* A whole last page was perhaps too much. */
static bool overlay_most(void *at, const struct iovec *entry,
                         const DmabufSource *source, Error **errp)
{
    const size_t page = qemu_real_host_page_size();

    return overlay(at, entry->iov_len, source, entry->iov_base, NULL) ||
           overlay(at, entry->iov_len - (entry->iov_len > page ? page : 0),
                   source, entry->iov_base, errp);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    char *map, *at;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = at = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; at += iov[i++].iov_len) {
        if (!overlay_most(at, &iov[i], &source, errp)) {
            munmap(map, total_size);
            return false;
        }
    }
    *addr = map;
    return true;
}
