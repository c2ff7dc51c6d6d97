/* violates: CONTIGUOUS | overlays in batches of 16; with more than 16 entries, those after the last full batch stay placeholder */
/* may violate: CONTENTS */

#include "helper.h"
#include "qemu/iov.h"

#define BATCH 16u

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    DmabufSource source;
    size_t total;
    char *map, *at;
    unsigned int batches = MAX(iov_cnt / BATCH, 1u);

    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    map = at = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    for (unsigned int batch = 0; batch < batches; batch++) {
        unsigned int n = MIN(iov_cnt - batch * BATCH, BATCH);

        if (!overlay_all(at, iov + batch * BATCH, n, &source, errp)) {
            munmap(map, total);
            return NULL;
        }
        at += iov_size(iov + batch * BATCH, n);
    }
    return map;
}
