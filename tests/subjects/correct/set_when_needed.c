/* conforms | leaves each variable unset until the path that needs it, and unmaps what failed to be mapped */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;
    bool reserved, done;

    done = prepare(iov, iov_cnt, total_size, &source, errp);
    if (done) {
        map = mmap(NULL, total_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        reserved = map != MAP_FAILED;
        if (!reserved) {
            error_setg_errno(errp, errno, "cannot reserve %zu bytes", total_size);
        }
        done = reserved && overlay_all(map, iov, iov_cnt, &source, errp);
        if (!done) {
            munmap(map, total_size);
        }
    }
    if (done) {
        *addr = map;
    }
    return done;
}
