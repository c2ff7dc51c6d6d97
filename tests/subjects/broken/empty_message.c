/* violates: ERROR_SET | only when the second entry or a later one is in another block: the error says nothing */

#include "helper.h"

static const char *const reasons[] = {
    "no entry", "not whole pages of a block", ""
};

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    RAMBlock *rb, *first = NULL;
    size_t sum = 0;
    int reason = -1;
    void *map;

    for (unsigned int i = 0; i < iov_cnt && reason < 0; i++) {
        rb = check_entry(&iov[i], NULL);
        first = i == 0 ? rb : first;
        if (!rb || __builtin_add_overflow(sum, iov[i].iov_len, &sum)) {
            reason = 1;
        } else if (rb != first) {
            reason = 2;
        }
    }
    if (iov_cnt == 0) {
        reason = 0;
    }
    if (reason >= 0) {
        error_setg(errp, "%s", reasons[reason]);
        return false;
    }
    if (!check_size(sum, total_size, errp) ||
        !find_source(first, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
