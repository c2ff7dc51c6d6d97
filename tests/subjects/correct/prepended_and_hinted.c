/* conforms | errors that are propagated, prepended and given a hint, with ERRP_GUARD() */

#include "../broken/helper.h"

static void *map_entries(struct iovec *iov, unsigned int iov_cnt, size_t size,
                         Error **errp)
{
    Error *local_err = NULL;
    DmabufSource source;
    void *map = NULL;

    if (!prepare(iov, iov_cnt, size, &source, &local_err)) {
        goto out;
    }
    map = reserve(size, &local_err);
    if (!map) {
        goto out;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, &local_err)) {
        munmap(map, size);
        map = NULL;
    }
out:
    error_propagate(errp, local_err);
    return map;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    ERRP_GUARD();
    void *map = map_entries(iov, iov_cnt, total_size, errp);

    if (!map) {
        error_prepend(errp, "dmabuf of %u entries: ", iov_cnt);
        error_append_hint(errp, "The CPU cannot read this buffer\n");
        return false;
    }
    *addr = map;
    return true;
}
