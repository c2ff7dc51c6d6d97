/* conforms | from the last entry to the first, in batches whose offsets are in an array of variable length */

#include "../broken/helper.h"

enum { BATCH = 16 };

static bool overlay_batch(uint8_t *end, const struct iovec *iov, unsigned int n,
                          const DmabufSource *source, Error **errp)
{
    off_t offsets[n];
    unsigned int i;

    for (i = 0; i < n; i++) {
        offsets[i] = source_offset(source, iov[i].iov_base);
    }
    while (i-- > 0) {
        end -= iov[i].iov_len;
        if (mmap(end, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED,
                 source->fd, offsets[i]) == MAP_FAILED) {
            error_setg_errno(errp, errno, "entry %u of a batch", i);
            return false;
        }
    }
    return true;
}

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    unsigned int left = iov_cnt, n;
    DmabufSource source;
    uint8_t *map, *end;
    size_t total;

    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    map = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    for (end = map + total; left > 0; left -= n) {
        n = MIN(left, BATCH);
        if (!overlay_batch(end, iov + left - n, n, &source, errp)) {
            munmap(map, total);
            return NULL;
        }
        for (unsigned int i = left - n; i < left; i++) {
            end -= iov[i].iov_len;
        }
    }
    return map;
}
