/* conforms | duplicates the guest's mapping by mremap, which VFIO memory never allows, and maps it by the descriptor then */

#include "../broken/helper.h"

static bool overlay_by_mremap(char *at, size_t len, const DmabufSource *source,
                              void *host, Error **errp)
{
    if (mremap(host, 0, len, MREMAP_MAYMOVE | MREMAP_FIXED, at) == at) {
        return true;
    }
    /* Whatever is at that address now, or nothing: it is still this call's. */
    return overlay(at, len, source, host, errp);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    size_t done = 0;
    char *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; done += iov[i++].iov_len) {
        if (!overlay_by_mremap(map + done, iov[i].iov_len, &source, iov[i].iov_base, errp)) {
            munmap(map, total_size);
            return false;
        }
    }
    *addr = map;
    return true;
}
