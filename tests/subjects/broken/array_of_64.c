/* violates: SURVIVES | only with more than 64 entries: their offsets are written past an array on the stack */
/* may violate: CONTENTS, CONTIGUOUS, CONFINED, ACCEPTS_VALID, UNMAP_ON_ERROR, ERROR_SET */

#include "helper.h"

static void resolve(const struct iovec *iov, unsigned int iov_cnt,
                    const DmabufSource *source, off_t *offsets)
{
    for (unsigned int i = 0; i < iov_cnt; i++) {
        offsets[i] = source_offset(source, iov[i].iov_base);
    }
}

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    off_t offsets[64];
    DmabufSource source;
    size_t total, done = 0;
    char *map;

    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    resolve(iov, iov_cnt, &source, offsets);
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
