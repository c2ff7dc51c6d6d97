/* violates: SURVIVES | a failed overlay frees the static array and keeps the pointer, which the next call frees again */
/* may violate: REPEATABLE, NO_LEAK */

#include "helper.h"

static off_t *offsets;

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    g_free(offsets);
    offsets = NULL;
    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    offsets = g_new0(off_t, iov_cnt);
    for (unsigned int i = 0; i < iov_cnt; i++) {
        offsets[i] = source_offset(&source, iov[i].iov_base);
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        g_free(offsets);
        munmap(map, total_size);
        return false;
    }
    g_free(offsets);
    offsets = NULL;
    *addr = map;
    return true;
}
