/* violates: SURVIVES | only when the list is refused: leaves before the g_autofree pointer is set, and frees what was on the stack */
/* may violate: NO_LEAK */

#include "helper.h"

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    g_autofree off_t *offsets;
    DmabufSource source;
    size_t total, done = 0;
    char *map;

    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    offsets = g_new(off_t, iov_cnt);
    for (unsigned int i = 0; i < iov_cnt; i++) {
        offsets[i] = source_offset(&source, iov[i].iov_base);
    }
    map = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    for (unsigned int i = 0; i < iov_cnt; done += iov[i++].iov_len) {
        if (mmap(map + done, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED,
                 source.fd, offsets[i]) == MAP_FAILED) {
            error_setg_errno(errp, errno, "entry %u", i);
            munmap(map, total);
            return NULL;
        }
    }
    return map;
}
