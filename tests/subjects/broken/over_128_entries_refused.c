/* violates: ACCEPTS_VALID | refuses lists of more than 128 entries */

#include "helper.h"

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    off_t offsets[128];
    DmabufSource source;
    size_t total, done = 0;
    char *map;

    if (iov_cnt > ARRAY_SIZE(offsets)) {
        error_setg(errp, "more than %zu entries", ARRAY_SIZE(offsets));
        return NULL;
    }
    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
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
