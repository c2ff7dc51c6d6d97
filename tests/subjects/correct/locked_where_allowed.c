/* conforms | locks each overlay, and does without where that is refused: to lock is no part of what is asked of it */

#include "../broken/helper.h"

static bool overlay_locked(void *at, size_t len, const DmabufSource *source,
                           const void *host)
{
    const off_t offset = source_offset(source, host);
    const int flags = MAP_SHARED | MAP_FIXED;

    return mmap(at, len, PROT_READ, flags | MAP_LOCKED, source->fd, offset) != MAP_FAILED ||
           (errno == EAGAIN && mmap(at, len, PROT_READ, flags, source->fd, offset) != MAP_FAILED);
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
        if (!overlay_locked(map + done, iov[i].iov_len, &source, iov[i].iov_base)) {
            error_setg_errno(errp, errno, "entry %u", i);
            munmap(map, total_size);
            return false;
        }
    }
    *addr = map;
    return true;
}
