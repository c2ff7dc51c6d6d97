/* violates: NO_LEAK, NO_LEAK | never closes the duplicate of the descriptor; does not free an array where the reservation fails */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    off_t *places;
    void *map;
    bool mapped;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    source.fd = dup(source.fd);
    if (source.fd < 0) {
        error_setg_errno(errp, errno, "no descriptor left");
        return false;
    }
    places = g_new0(off_t, iov_cnt);
    for (unsigned int i = 0; i < iov_cnt; i++) {
        places[i] = source_offset(&source, iov[i].iov_base);
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    mapped = overlay_all(map, iov, iov_cnt, &source, errp);
    g_free(places);
    if (!mapped) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
