/* violates: SURVIVES | only with thousands of entries: maps by a recursion of a level for each, with a text in each frame */

#include <limits.h>
#include "helper.h"

static bool overlay_rest(char *at, const struct iovec *iov, unsigned int left,
                         const DmabufSource *source, Error **errp)
{
    char what[PATH_MAX];

    if (left == 0) {
        return true;
    }
    snprintf(what, sizeof(what), "%u entries from %p", left, iov->iov_base);
    if (!overlay_rest(at + iov->iov_len, iov + 1, left - 1, source, errp)) {
        return false;
    }
    if (mmap(at, iov->iov_len, PROT_READ, MAP_SHARED | MAP_FIXED, source->fd,
             source_offset(source, iov->iov_base)) == MAP_FAILED) {
        error_setg_errno(errp, errno, "%s", what);
        return false;
    }
    return true;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    if (!overlay_rest(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
