/* violates: SURVIVES | collects what is wrong in a static Error, and hands it over at the end: two calls that fail at once set it twice */
/* may violate: REPEATABLE, ERROR_SET */

#include "helper.h"

static Error *problem;

static void *map_entries(const struct iovec *iov, unsigned int iov_cnt)
{
    DmabufSource source;
    size_t total;
    void *map;

    if (!prepare_sum(iov, iov_cnt, &total, &source, &problem)) {
        return NULL;
    }
    map = reserve(total, &problem);
    if (map && !overlay_all(map, iov, iov_cnt, &source, &problem)) {
        munmap(map, total);
        return NULL;
    }
    return map;
}

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    void *map;

    problem = NULL;
    map = map_entries(iov, iov_cnt);
    if (!map) {
        error_propagate(errp, problem);
        problem = NULL;
    }
    return map;
}
